"""The language that the user reads, and the texts in it.

`--lang`, then `WAKESTREAM_LANG`, then the locale; English if none of them says otherwise. JSON output and logs are
English always.
"""

from __future__ import annotations

import functools
import json
import os
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
