"""The pages of docs/power agree with the providers, and their commands are taken."""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.power.config import PowerConfig, installed, make_power

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "power"
PROVIDERS = ("compshare", "runpod", "vast", "autodl")


def read(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    whole = read(page).replace("\\\n", " ")  # a command may have several lines
    return [shlex.split(line) for line in re.findall(r"^ +wakestream (.*?) ?&?$", whole, re.MULTILINE)]


@pytest.mark.parametrize("page", sorted(path.stem for path in FOLDER.glob("*.md")))
def test_each_command_of_a_page_is_taken(page: str) -> None:
    for words in commands(page):
        parser_of((words[0],)).parse_args(words)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_page_names_all_credentials_and_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page, asked, options = read(name), set[str](), set[str]()

    def known(config: PowerConfig, _: str, names: Collection[str] = ()) -> Mapping[str, str]:
        options.update(names)
        return config.options

    monkeypatch.setattr(PowerConfig, "known", known)

    def secret(variable: str) -> str:
        asked.add(variable)
        return "0123456789abcdef"

    make_power(name, PowerConfig("1", secret=secret))
    assert [variable for variable in asked if f"{variable}=..." not in page] == []
    table = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert table == options


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_page_says_what_it_was_verified_against_and_what_is_billed(name: str) -> None:
    page = read(name)
    assert re.search(r"verified against a\s+stand-in", page)
    assert "## What is billed when it is off" in page
    assert f"wakestream machines --power {name}" in page
    assert f"[`{name}`]({name}.md)" in read("README")


def test_the_table_has_every_provider() -> None:
    assert [name for name in installed() if f"`{name}`" not in read("README")] == []
