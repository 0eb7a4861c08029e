"""`--log-file`: log lines kept in a file that never grows beyond its share of the disk."""

from __future__ import annotations

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.runtime.printing import say

PIECE = 10_000_000
"""Bytes after which a new piece is begun."""

PIECES = 5
"""Pieces that are kept: FILE, FILE.1 to FILE.4, the last being the oldest."""


class LogFile(RotatingFileHandler):
    """Used for its `write` alone. A disk that is full is no reason to end the program: that is said once, on stderr."""

    def __init__(self, path: Path) -> None:
        self._complained = False
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)  # one level, not whatever a slip of the pen names
            super().__init__(path, maxBytes=PIECE, backupCount=PIECES - 1, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise SettingsError(f"--log-file {path}: cannot be written ({error.strerror or error})") from None

    def write(self, text: str) -> None:
        """Add lines that are whole, and clean of secrets."""
        self.handle(logging.makeLogRecord({"msg": text.rstrip("\n")}))

    def doRollover(self) -> None:  # noqa: N802 - the base class's word
        """Begin a new piece; where that fails (on Windows, while somebody reads it), the old one goes on."""
        path = Path(self.baseFilename)
        aside = path.with_name(f"{path.name}.next")
        try:
            self.close()
            path.replace(aside)  # first: each try that fails after that has moved the older pieces on, and one out
            super().doRollover()
            aside.replace(path.with_name(f"{path.name}.1"))
        except OSError:
            if aside.exists() and not path.exists():
                aside.replace(path)
        if self.stream is None:
            self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's word
        """Instead of a traceback for each line."""
        if not self._complained and sys.stderr is not None:
            self._complained = True
            say(f"wakestream: lines of {self.baseFilename} are lost: {sys.exc_info()[1]}", error=True)

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "ab", opener=_private)  # noqa: SIM115 - the base class closes it
        return TextIOWrapper(file, encoding=self.encoding, errors=self.errors)


def pieces(path: Path) -> list[Path]:
    """What there is of a log file, the oldest first."""
    older = [path.with_name(f"{path.name}.{number}") for number in range(PIECES - 1, 0, -1)]
    return [each for each in (*older, path) if each.is_file()]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
