"""`--log-file`: a log file of bounded size, with rotation."""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.atomic import private
from wakestream.adapters.runtime.printing import say

PIECE = 10_000_000
"""Bytes after which a new file is begun."""

PIECES = 5
"""Files that are kept: FILE, FILE.1 to FILE.4; the last is the oldest."""


class LogFile(RotatingFileHandler):
    """Writes lines with `write`. A full disk does not end the program; it is reported once, on stderr."""

    def __init__(self, path: Path) -> None:
        self._complained = False
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)  # one level only, in case of a typing error
            super().__init__(path, maxBytes=PIECE, backupCount=PIECES - 1, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise SettingsError(f"--log-file {path}: cannot be written ({error.strerror or error})") from None

    def write(self, text: str) -> None:
        """Add complete lines without secrets."""
        self.handle(logging.makeLogRecord({"msg": text.rstrip("\n")}))

    def doRollover(self) -> None:  # noqa: N802 - the base class's word
        """Begin a new file. When that fails (on Windows, while another program reads it), continue with the old one."""
        path = Path(self.baseFilename)
        aside = path.with_name(f"{path.name}.next")
        try:
            self.close()
            path.replace(aside)  # first, since each failure after this step would lose the oldest file
            super().doRollover()
            aside.replace(path.with_name(f"{path.name}.1"))
        except OSError:
            if aside.exists() and not path.exists():
                aside.replace(path)
        if self.stream is None:
            self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's word
        """Report the first error, instead of a traceback for each line."""
        if not self._complained and sys.stderr is not None:
            self._complained = True
            say(f"wakestream: cannot write log lines to {self.baseFilename}: {sys.exc_info()[1]}", error=True)

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "ab", opener=private)  # noqa: SIM115 - the base class closes it
        return TextIOWrapper(file, encoding=self.encoding, errors=self.errors)


def pieces(path: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    older = [path.with_name(f"{path.name}.{number}") for number in range(PIECES - 1, 0, -1)]
    return [each for each in (*older, path) if each.is_file()]
