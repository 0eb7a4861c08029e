"""What a program prints: its progress by a regular expression or as JSON lines, and lines for the worker's log."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from wakestream.operators.model.engine import Frame, Line
from wakestream.operators.model.errors import TaskFailed, WakestreamError, WrongInput
from wakestream.streams.protocol.printable import printable

LINES_A_SECOND: Final = 20
"""The most lines of a program that the log gets in a second; the others are counted."""

MAX_ERROR: Final = 1000
"""The most characters of an error that a program reports."""

_PERCENT: Final = re.compile(r"(?P<percent>\d{1,3}(?:\.\d+)?)\s*%")
_GROUPS: Final = ("percent", "frame", "frames")


@dataclass(frozen=True, slots=True)
class Report:
    """What one line says: numbers by name (`percent`, `frame`, `frames`), or a text for the log."""

    numbers: dict[str, float] = field(default_factory=dict)
    text: str = ""


Reader = Callable[[str], Report]
"""Reads one line of a program. Raises the error that the line reports."""


def reader_of(progress: object) -> Reader:
    """Return the reader for the key `progress` of a kind.

    Args:
        progress: `"json"`, a regular expression with named groups `percent`, `frame` or `frames`, or None for a
            percentage such as `37%`.

    Raises:
        ValueError: It is something else; `str()` says what is wrong.

    Example:
        >>> reader_of(r"step (?P<frame>\\d+)/(?P<frames>\\d+)")("step 3/12").numbers
        {'frame': 3.0, 'frames': 12.0}
    """
    if progress is None:
        return _by_pattern(_PERCENT)
    if progress == "json":
        return _by_json
    try:
        pattern = re.compile(str(progress))
    except re.error as error:
        raise ValueError(f'{progress!r} is neither "json" nor a regular expression: {error}') from None
    names = pattern.groupindex.keys()
    if not names & {"percent", "frame"} or names - set(_GROUPS):
        raise ValueError(f"{progress!r} needs a group (?P<percent>...) or (?P<frame>...), and may have (?P<frames>...)")
    return _by_pattern(pattern)


def percent_in(line: str) -> float | None:
    """The last percentage in a line, such as `37%` or `frame 3 (12.5 %)`; None without one from 0 to 100."""
    return _by_pattern(_PERCENT)(line).numbers.get("percent")


class ProgramOutput:
    """The lines of one run.

    Args:
        read: Reads a line.
        clock: Seconds, for the limit of log lines.
    """

    def __init__(self, read: Reader, clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._numbers: dict[str, float] = {}
        self._last: Frame | None = None
        self._second, self._lines = clock(), 0

    def take(self, line: str) -> list[Frame | Line]:
        """Return what a line says that is new: progress, or lines for the log.

        Raises:
            WrongInput: The program says that a field of the job is to blame.
            TaskFailed: The program says that it failed.
        """
        report = self._read(line)
        news: list[Frame | Line] = []
        if report.numbers:
            frame = self._frame(report.numbers)
            if frame != self._last:
                self._last = frame
                news.append(frame)
        text = printable(report.text).strip()
        return news + (self._logged(text) if text else [])

    def _frame(self, numbers: dict[str, float]) -> Frame:
        self._numbers |= numbers
        frame, frames = self._numbers.get("frame", 0.0), self._numbers.get("frames", 0.0)
        percent = self._numbers.get("percent", 0.0)
        if "percent" not in numbers and frames:
            percent = min(100.0, 100 * frame / frames)
        return Frame(int(frame), int(frames), percent)

    def _logged(self, text: str) -> list[Frame | Line]:
        dropped = 0
        if (now := self._clock()) - self._second >= 1:
            self._second, self._lines, dropped = now, 0, max(0, self._lines - LINES_A_SECOND)
        self._lines += 1
        missing: list[Frame | Line] = [Line(f"({dropped} more lines)")] if dropped else []
        return [*missing, Line(text)] if self._lines <= LINES_A_SECOND else []


def _by_pattern(pattern: re.Pattern[str]) -> Reader:
    def read(line: str) -> Report:
        last = deque(pattern.finditer(line), maxlen=1)
        numbers = _numbers(last[0].groupdict()) if last else {}
        return Report(numbers) if numbers else Report(text=line)

    return read


def _by_json(line: str) -> Report:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Report(text=line)
    if not isinstance(said, dict):
        return Report(text=line)
    if isinstance(error := said.get("error"), str) and error:
        raise _error(printable(error)[:MAX_ERROR], said.get("field"))
    numbers = _numbers({name: said.get(name) for name in _GROUPS})
    log = said.get("log")
    return Report(numbers, log if isinstance(log, str) else "" if numbers else line)


def _error(why: str, field: object) -> WakestreamError:
    """What a program says that went wrong; with a field such as `inputs.image`, the job is to blame."""
    match = re.fullmatch(r"(input|param)s\.(\w{1,32})", field) if isinstance(field, str) else None
    if match is None:
        return TaskFailed(why)
    return WrongInput(match[0], f"{'parameter' if match[1] == 'param' else 'input'} {match[2]}: {why}")


def _numbers(said: dict[str, Any]) -> dict[str, float]:
    """The numbers that progress can have."""
    numbers = {}
    for name, value in said.items():
        if isinstance(value, bool) or value is None:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number) and 0 <= number <= (100 if name == "percent" else 1e9):
            numbers[name] = number
    return numbers
