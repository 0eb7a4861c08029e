"""Standard folders, and paths as keys."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

_ONE_CASE = ("win32", "darwin")


def data_folder(program: str) -> Path:
    """The default state folder of a wakestream program."""
    from platformdirs import user_data_path

    return user_data_path("wakestream", appauthor=False) / program


def path_key(path: str) -> str:
    """The same key for all spellings of one file: Windows and macOS ignore case, and macOS the form of accents."""
    return unicodedata.normalize("NFC", path).casefold() if sys.platform in _ONE_CASE else path
