"""Places on a disk, whatever they are called."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

_ONE_CASE = ("win32", "darwin")


def data_folder(program: str) -> Path:
    """Where a program of ours keeps what it knows, unless it is told another folder."""
    from platformdirs import user_data_path

    return user_data_path("wakestream", appauthor=False) / program


def path_key(path: str) -> str:
    """One word for one file: Windows and macOS take no notice of case, and macOS none of how an accent is written."""
    return unicodedata.normalize("NFC", path).casefold() if sys.platform in _ONE_CASE else path
