"""The flags of set-up become the settings of a role."""

import pytest

from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.setup.options import settings_of
from wakestream.adapters.client.pair import Invited
from wakestream.adapters.config.settings import SettingsError

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
