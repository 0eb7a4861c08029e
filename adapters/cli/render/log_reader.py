"""Log lines as the programs write them, read back: plain or JSON, from a file that grows and is rotated."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wakestream.adapters.config.setting_values import LEVELS

_PLAIN = re.compile(
    r"(?P<time>(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{3}) (?P<level>[A-Z]+) +"
    r"(?P<job>\S+) (?P<stage>\S+)  (?P<message>.*)"
)
_ORDER = (*LEVELS, "CRITICAL")
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `level` is empty for continuation lines (a traceback) and lines of other programs."""

    text: str
    level: str = ""
    time: str = ""
    job: str = "-"
    stage: str = "-"
    message: str = ""
    trace: str = ""

    def plain(self) -> dict[str, Any]:
        """As the programs' JSON has it."""
        parts = {"time": self.time, "level": self.level, "job": self.job, "stage": self.stage}
        plain = {name: None if part in ("", "-") else part for name, part in parts.items()}
        return plain | {"message": self.message or self.text} | ({"traceback": self.trace} if self.trace else {})


def line(text: str) -> Line:
    """A line of a log, without its end."""
    match = _PLAIN.fullmatch(text)
    if match is not None:
        return Line(text, **match.groupdict())
    try:
        plain = json.loads(text) if text.startswith("{") else None
        return Line(text) if plain is None else _from_json(text, plain)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Line(text)


def _from_json(text: str, plain: dict[str, Any]) -> Line:
    time = datetime.fromisoformat(plain["time"]).astimezone()
    job, stage = (str(plain.get(name) or "-") for name in ("job", "stage"))
    shown = time.isoformat(" ", "milliseconds")[:23]
    trace = str(plain.get("traceback") or "").rstrip()
    return Line(text, str(plain["level"]), shown, job, stage, str(plain["message"]), trace)


def wanted(lines: Iterable[Line], *, job: str | None = None, level: str = "DEBUG") -> Iterator[Line]:
    """Those of that job, or that name it, and of that level or above; what goes on with one goes with it."""
    least, shows = _ORDER.index(level), job is None and level == "DEBUG"
    for entry in lines:
        if entry.level:
            weight = _ORDER.index(entry.level) if entry.level in _ORDER else len(_ORDER)
            shows = weight >= least and (job is None or entry.job.startswith(job) or job in entry.message)
        if shows:
            yield entry


class Tail:
    """What is new in a file since the last look. Opened for each look: on Windows an open file cannot be rotated."""

    def __init__(self, path: Path) -> None:
        self._path, self._inode, self._offset = path, 0, 0
        self.rest = b""
        """The beginning of a line whose end has not come yet."""

    def lines(self) -> Iterator[str]:
        """The whole lines that came, of the piece before as well if the file was rotated meanwhile."""
        try:
            status = self._path.stat()
        except OSError:
            return  # between two pieces
        if self._inode and (status.st_ino != self._inode or status.st_size < self._offset):
            former = self._path.with_name(f"{self._path.name}.1")
            if former.is_file() and former.stat().st_ino == self._inode:
                yield from self._more(former)
            self._offset = 0
        yield from self._more(self._path)

    def _more(self, path: Path) -> Iterator[str]:
        with path.open("rb") as file:
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self._offset)
            while data := file.read(_AT_ONCE):
                self._offset += len(data)
                *whole, self.rest = (self.rest + data).split(b"\n")
                yield from (text(each) for each in whole)


def text(raw: bytes) -> str:
    """A line as text, whatever is in it."""
    return raw.decode(errors="replace").rstrip("\r\n")


def followed(tail: Tail, wait: Callable[[], None]) -> Iterator[str]:
    """New lines without end; `wait` is called between two reads."""
    while True:
        yield from tail.lines()
        wait()
