"""A value that is reported now and then, as it is between two reports."""

from __future__ import annotations

from collections import deque

REPORTS = 6
"""The last reports, from which the rate is known."""

LONGEST_STEP = 5.0
"""The most seconds for which the value grows after a report, if reports come rarely."""


class Smooth:
    """A value that grows to `total`. Between two reports it grows at the rate of the last ones.

    It never goes beyond what the next report is expected to say, and never back: where it went on too far, it waits.
    A report below the last one is a new beginning.

    Args:
        total: The value at the end.

    Example:
        >>> render = Smooth(100.0)
        >>> render.report(10.0, at=0.0)
        >>> render.report(20.0, at=2.0)
        >>> render.at(3.0), render.at(60.0), render.left(3.0)
        (25.0, 30.0, 15.0)
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self._reports: deque[tuple[float, float]] = deque(maxlen=REPORTS)
        self._shown = 0.0

    def report(self, value: float, at: float) -> None:
        """Note the value at a time, in seconds on any clock."""
        if self._reports and value < self._reports[-1][1]:
            self._reports.clear()
            self._shown = 0.0
        self._reports.append((at, value))

    @property
    def rate(self) -> float | None:
        """The growth in a second; None if it is not known, or if there is none."""
        if len(self._reports) < 2:
            return None
        (first_at, first), *_, (last_at, last) = self._reports
        return (last - first) / (last_at - first_at) if last_at > first_at and last > first else None

    def at(self, now: float) -> float:
        """The value now; 0 before the first report."""
        if not self._reports:
            return 0.0
        at, value = self._reports[-1]
        value += (self.rate or 0.0) * min(max(0.0, now - at), self._step())
        self._shown = max(self._shown, min(value, self.total))
        return self._shown

    def _step(self) -> float:
        """Seconds until the next report is expected."""
        if len(self._reports) < 2:
            return 0.0
        return min(self._reports[-1][0] - self._reports[-2][0], LONGEST_STEP)

    def left(self, now: float) -> float | None:
        """Seconds until the end at this rate; None if the rate is not known."""
        if (rate := self.rate) is None:
            return None
        at, value = self._reports[-1]
        return max(0.0, (self.total - value) / rate - (now - at))
