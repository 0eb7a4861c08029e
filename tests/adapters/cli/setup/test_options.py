"""The flags of set-up become the settings of a role."""

import io
import sys
from collections.abc import Iterator

import pytest

from wakestream.adapters.cli.i18n.catalog import choose, t
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.setup import options
from wakestream.adapters.cli.setup.options import settings_of
from wakestream.adapters.client.pair import Invited
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.power.config import installed, power_config
from wakestream.operators.model.ports import Reading

JOIN = ("join", "hub.example", "7F3K-92QD", "--gpu", "studio", "--listen", "127.0.0.1:8383")


def test_a_worker_keeps_its_labels_and_slots() -> None:
    args = parser_of(("join",)).parse_args([*JOIN, "--label", "memory=24GB", "--label", "cuda", "--slots", "2"])
    settings = settings_of(Invited("worker"), args)
    assert (settings["label"], settings["slots"]) == (["memory=24GB", "cuda"], 2)
    assert settings_of(Invited("worker"), parser_of(("join",)).parse_args(JOIN))["slots"] is None


@pytest.mark.parametrize(
    ("role", "flags", "said"),
    [
        ("worker", ("--slots", "1000"), "--slots is '1000'; write a whole number from 1 to 64"),
        ("worker", ("--label", "kind:x=1"), "--label cannot be used: the label 'kind:x' is given by the hub"),
        ("monitor", ("--slots", "2"), "a monitor has no --slots; leave it out"),
        ("client", ("--label", "zone=eu"), "a client has no --label; leave it out"),
    ],
)
def test_what_cannot_be_is_refused(role: str, flags: tuple[str, ...], said: str) -> None:
    given = JOIN if role == "worker" else JOIN[:3]
    with pytest.raises(SettingsError, match=said):
        settings_of(Invited(role), parser_of(("join",)).parse_args([*given, *flags]))


class Terminal(io.StringIO):
    """A person who answers each question."""

    def isatty(self) -> bool:
        return True


ANSWERS = {
    "ec2": ("eu-central-1",),
    "libcloud": ("openstack",),
    "redfish": ("https://10.0.9.3", ""),
    "docker": ("",),
    "wol": ("http://10.0.0.7:8383", "wake@10.0.0.7", "wake.key", ""),
    "command": ("true", "true", "true"),
    "process": ("true",),
}
"""What a person types, by provider, before the credentials."""

MACHINES = {"wol": "00:11:22:aa:bb:cc", "command": None, "process": None}


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The credentials that were asked for; the provider is made, and reports the machine as stopped."""
    named: list[str] = []
    monkeypatch.setattr(options.getpass, "getpass", lambda prompt: named.append(prompt.rstrip(": ")) or "a" * 20)
    monkeypatch.setattr(options, "hide", lambda _: None)
    monkeypatch.setattr(options, "_of", lambda power, call: Reading("stopped"))
    return named


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    choose("en")
    yield
    choose(None)


@pytest.mark.parametrize("name", installed())
def test_the_guided_set_up_of_each_provider_says_where_to_find_what_it_asks_for_and_what_was_tested(
    name: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{answer}\n" for answer in ANSWERS.get(name, ()))))
    args = parser_of(("init",)).parse_args(["init", "monitor", "--gpu", "studio", "--power", name])
    args.power_machine = MACHINES.get(name, "m-1")
    settings, typed = options.machine_settings(args)
    said = capsys.readouterr().out
    guide = t(f"power.guide.{name}")
    assert guide in said
    assert said.index(guide) == 0, "before the first question"
    assert [credential for credential in wanted if credential not in guide] == []
    assert [*typed] == wanted
    assert (settings["power"], sys.stdin.read()) == (name, ""), "each answer was asked for"
    assert ("stopped" in said.splitlines()[-2]) == (name != "process")
    assert "not tested: " in said.splitlines()[-1]
    given = power_config(options.load(vars(args)))
    assert {"redfish": given.base_url, "ec2": given.options.get("region")}.get(name) == {
        "redfish": "https://10.0.9.3", "ec2": "eu-central-1",
    }.get(name)  # fmt: skip


def test_a_needed_option_that_is_left_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    args = parser_of(("init",)).parse_args(["init", "monitor", "--power", "redfish"])
    with pytest.raises(SettingsError, match="--power-option base_url is missing"):
        options.machine_settings(args)
