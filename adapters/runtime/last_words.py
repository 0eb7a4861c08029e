"""What a failure quotes of a program's output: its last lines, without those that only tell how far it was."""

from __future__ import annotations

import re
from collections import deque

from wakestream.streams.protocol.printable import printable

_PERCENT = re.compile(r"\d\s*%")
_COUNTS = re.compile(r"[^a-zA-Z\u0080-\uffff]+")
SHAPES = 100
"""Shapes of progress lines that are remembered."""


class LastWords:
    """The last `most` lines that were added. Of lines that differ in their numbers alone, one after the other, only the
    last is kept; of those with a percentage none is."""

    def __init__(self, most: int) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=most)
        self._progress: dict[str, None] = {}

    def add(self, line: str) -> None:
        """One more line; an empty one changes nothing. It is quoted in people's terminals, and on pages."""
        line = printable(line.replace("\t", " ")).strip()
        if not line:
            return
        shape = _COUNTS.sub(" ", line).strip()
        if _PERCENT.search(line) and self._is_progress(shape):
            return
        if self._lines and shape and self._lines[-1][0] == shape:
            self._lines.pop()
        self._lines.append((shape, line))

    def _is_progress(self, shape: str) -> bool:
        """Whether a percentage stands alone there, or lines of that shape came before: then those go as well."""
        if not shape or shape in self._progress:
            return True
        if any(one == shape for one, line in self._lines if _PERCENT.search(line)):
            self._lines = deque((one for one in self._lines if one[0] != shape), self._lines.maxlen)
            self._progress[shape] = None
            if len(self._progress) > SHAPES:
                del self._progress[next(iter(self._progress))]
            return True
        return False

    def lines(self) -> list[str]:
        """What is left, the oldest first."""
        return [line for _, line in self._lines]
