"""Which language people are spoken to in, and one sentence of it.

`--lang`, then `WAKESTREAM_LANG`, then the locale; English where none says otherwise. What programs read (`--json`) and
what is logged is English always.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

from wakestream.streams.protocol.printable import printable

LANGUAGES = ("en", "zh")

_FIRST_GIVEN = ("LC_ALL", "LC_MESSAGES", "LANG")

_catalogue: Mapping[str, str] | None = None
_language = ""


def choose(language: str | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Speak `language` from now on, or the one that the environment asks for; English where no other can be shown."""
    global _catalogue, _language
    wanted = language or asked_for(os.environ if environment is None else environment)
    _language = wanted if wanted == "en" or _can_be_shown() else "en"
    _catalogue = importlib.import_module(f"wakestream.adapters.cli.i18n.{_language}").SENTENCES


def _can_be_shown() -> bool:
    """Whether Chinese would be more than question marks on standard output."""
    try:
        "\u4e2d".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def chosen() -> str:
    """The language that is spoken: `en` or `zh`."""
    if _catalogue is None:
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
    """The sentence of that name. `KeyError` for one that no catalogue has."""
    if _catalogue is None:
        choose()
    assert _catalogue is not None  # noqa: S101 - it was chosen
    return _catalogue[name].format_map({blank: _clean(value) for blank, value in values.items()})


def _clean(value: object) -> object:
    """What fills a blank may come from anywhere: it steers no terminal, and ends no line."""
    return value if isinstance(value, int | float) else printable(str(value))


def known(name: str) -> bool:
    """Whether there is a sentence of that name: words that come from other programs may be of a later version."""
    if _catalogue is None:
        choose()
    assert _catalogue is not None  # noqa: S101 - it was chosen
    return name in _catalogue
