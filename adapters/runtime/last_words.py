"""The last lines of a program's output, without progress lines: what an error shows."""

from __future__ import annotations

import re
from collections import deque

from wakestream.streams.protocol.printable import printable

_PERCENT = re.compile(r"\d\s*%")
_COUNTS = re.compile(r"[^a-zA-Z\u0080-\uffff]+")
LAST_LINES = 8
"""Lines of output that an error quotes."""

SHAPES = 100
"""Forms of progress lines that are remembered."""


class LastWords:
    """Keeps the last `LAST_LINES` lines.

    Of consecutive lines that differ in their numbers only, it keeps the last one; lines with a percentage are not kept.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=LAST_LINES)
        self._progress: dict[str, None] = {}

    def add(self, line: str) -> None:
        """Add a line, cleaned for terminals and web pages; an empty one is ignored."""
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
        """Whether a line with a percentage is a progress line; earlier lines of this form are then removed too."""
        if not shape or shape in self._progress:
            return True
        if any(one == shape for one, line in self._lines if _PERCENT.search(line)):
            self._lines = deque((one for one in self._lines if one[0] != shape), self._lines.maxlen)
            self._progress[shape] = None
            if len(self._progress) > SHAPES:
                del self._progress[next(iter(self._progress))]
            return True
        return False

    def text(self) -> str:
        """The kept lines as one, the oldest first."""
        return " | ".join(line for _, line in self._lines)
