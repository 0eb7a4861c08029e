"""The language that the user reads, and the texts in it.

`--lang`, then `WAKESTREAM_LANG`, then the locale; English if none of them says otherwise. JSON output and logs are
English always.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from wakestream.streams.protocol.printable import printable

LANGUAGES = ("en", "zh")

_FIRST_GIVEN = ("LC_ALL", "LC_MESSAGES", "LANG")

_language = ""


@functools.cache
def catalog(name: str) -> Mapping[str, str]:
    """The texts of `NAME.json`, without its sections: these are there for translators."""
    sections = json.loads(Path(__file__).with_name(f"{name}.json").read_text("utf-8"))
    return {key: text for section in sections.values() for key, text in section.items()}


@functools.cache
def _of_kinds() -> Mapping[str, str]:
    path = files("wakestream.adapters.net") / "page" / "kinds-zh.json"
    texts: Mapping[str, str] = json.loads(path.read_text("utf-8"))
    return texts


def given(text: str) -> str:
    """A text of a kind of jobs in the user's language, where it is one of the engine that comes with the worker."""
    return _of_kinds().get(text, text) if chosen() == "zh" else text


def choose(language: str | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Use `language` from now on, or the one that the environment asks for; English if it cannot be shown."""
    global _language
    wanted = language or asked_for(os.environ if environment is None else environment)
    _language = wanted if wanted == "en" or _can_be_shown() else "en"


def _can_be_shown() -> bool:
    """Whether Chinese would be more than question marks on standard output."""
    try:
        "\u4e2d".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def chosen() -> str:
    """The language in use: `en` or `zh`."""
    if not _language:
        choose()
    return _language


def asked_for(environment: Mapping[str, str]) -> str:
    """The language that these variables ask for, or else the system's own settings (Windows, macOS)."""
    names = ("WAKESTREAM_LANG", *_FIRST_GIVEN)
    named = next((environment[name] for name in names if environment.get(name)), None)
    return "zh" if _is_chinese(named if named is not None else _of_the_system()) else "en"


def _of_the_system() -> str:
    import locale

    try:
        return locale.getlocale()[0] or ""
    except ValueError:  # a locale of a form that Python does not know
        return ""


def _is_chinese(name: str) -> bool:
    # Windows calls it "Chinese (Simplified)_China" or "Chinese_China".
    return name.lower().startswith(("zh", "chinese"))


def t(name: str, /, **values: object) -> str:
    """The text of that name, with its placeholders filled. `KeyError` for a name that is not in the catalog."""
    return catalog(chosen())[name].format_map({blank: _clean(value) for blank, value in values.items()})


def _clean(value: object) -> object:
    """A value may come from anywhere: it must not control the terminal or break the line."""
    return value if isinstance(value, int | float) else printable(str(value))


def known(name: str) -> bool:
    """Whether there is a text of that name: codes from other programs may be of a later version."""
    return name in catalog(chosen())


def translated(reason: str) -> str | None:
    """The reason in Chinese; None if the language is another, or the catalog does not have it."""
    return in_chinese(reason) if chosen() == "zh" else None


_DEEPEST = 4
"""Reasons within reasons that are translated: more are not of our programs."""


@functools.cache
def _reasons() -> list[tuple[re.Pattern[str], str]]:
    """The patterns of reasons. Only the last part of one has any length, so that long texts of others cost little."""
    texts = catalog("reasons_zh").items()
    return [(re.compile(_WITHIN.sub(_bounded, english), re.DOTALL), chinese) for english, chinese in texts]


_WITHIN = re.compile(r"(?<!\\)\.([+*])(?!\)?$)")


def _bounded(match: re.Match[str]) -> str:
    return f".{{{int(match[1] == '+')},1000}}"


def in_chinese(reason: str, deepest: int = _DEEPEST) -> str | None:
    """The reason in Chinese, whatever the language is; None if the catalog does not have it.

    Its groups with a name are reasons of our programs, which are translated too. The others are texts of others.
    """
    for english, chinese in _reasons() if deepest else ():
        if match := english.fullmatch(reason):
            ours = set(english.groupindex.values())
            groups = enumerate(match.groups(), 1)
            return chinese.format(
                *((group and n in ours and in_chinese(group, deepest - 1)) or group for n, group in groups)
            )
    return None


_OPTIONS = ("[options]", "[选项]")


def translate(parser: argparse.ArgumentParser) -> None:
    """Replace all texts of the parser's help with Chinese ones."""
    if parser.usage:
        parser.usage = parser.usage.replace(*_OPTIONS)
    parser.description = _chinese(parser.description)
    parser.epilog = "\n".join(map(_line, (parser.epilog or "").split("\n")))
    for group in parser._action_groups:  # argparse has no other way to look at a parser
        group.title, group.description = _chinese(group.title), _chinese(group.description)
    for action in parser._actions:
        action.help = _chinese(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                choice.help = _chinese(choice.help)


def _chinese(text: str | None) -> str | None:
    return None if text is None else catalog("help_zh").get(text, text)


def _line(text: str) -> str:
    """A line below the arguments; in tables the second column is a sentence."""
    match = re.fullmatch(r"(\s*(?:\S+\s{2,})?)(.*)", text)
    assert match is not None  # noqa: S101 - it matches any line
    return match[1] + catalog("help_zh").get(match[2], match[2])
