"""How far a job is and how long its present step still takes, between its events, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from wakestream.adapters.cli.render import job_text as words
from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import event_from

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


Amount = tuple[float, float]
"""What is done, of how much."""


def amount(event: e.JobEvent | None) -> Amount | None:
    """How much of a transfer or of the rendering is done; None for any other event, and where it is not known."""
    match event:
        case e.Uploading(bytes=done, of=total) | e.Downloading(bytes=done, of=total) if total:
            return float(done), float(total)
        case e.Running(percent=percent, status=status) if status != "queued":
            return percent, 100.0
    return None


class JobProgress:
    """Reads a job's events, of which only the last ones may be known. Times are in seconds on one clock."""

    def __init__(self) -> None:
        self._last: e.JobEvent | None = None
        self._at = 0.0
        self._smooth: Smooth | None = None

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobProgress:
        """That of a job as the daemon lists it."""
        progress = cls()
        progress.read(job)
        return progress

    @property
    def rate(self) -> float | None:
        """What is done in a second, in bytes or percent; None if it is not known."""
        return self._smooth.rate if self._smooth is not None else None

    @property
    def counts_bytes(self) -> bool:
        """Whether a transfer runs."""
        return isinstance(self._last, e.Uploading | e.Downloading)

    @property
    def waits(self) -> bool:
        """Whether the job waits for its turn."""
        return words.waits_for_turn(self._last)

    @property
    def place(self) -> int | None:
        """The place in the worker's queue; None if the job is not in it, or the place is not known."""
        event = self._last
        return event.position if isinstance(event, e.Running) and event.status == "queued" else None

    def show(self, event: e.JobEvent, at: float) -> None:
        """Read an event that happened at this time."""
        found, before = amount(event), self._last
        if found is None:
            self._smooth = None
        else:
            done, total = found
            if self._smooth is None or type(before) is not type(event) or self._smooth.total != total:
                self._smooth = Smooth(total)
            self._smooth.report(done, at)
        self._last, self._at = event, at

    def read(self, job: Mapping[str, Any]) -> None:
        """Read a job as the daemon lists it: its last event, and the first one of the same row."""
        last = job.get("last")
        if last is None or (self._last is not None and last.get("at", 0.0) <= self._at):
            return
        before = job.get("first") if self._smooth is None else None
        for plain in ([before] if before else []) + [last]:
            event = event_from(plain)
            if event is not None:
                self.show(event, float(plain.get("at", 0.0)))

    def done(self, now: float) -> float | None:
        """What is done, in bytes or percent; None where that is not known."""
        return None if self._smooth is None else self._smooth.at(now)

    def percent(self, now: float) -> float | None:
        """Percent of the present step; None where that is not known."""
        return None if self._smooth is None else 100.0 * self._smooth.at(now) / self._smooth.total

    def left(self, now: float) -> float | None:
        """Seconds until the step ends, the GPU is expected, or a pause ends; None where that is not known."""
        if self._smooth is not None:
            return self._smooth.left(now)
        if isinstance(self._last, e.Queued | e.Waking):
            return words.hoped_for(self._last, now - self._at)
        return self.pause(now)

    def pause(self, now: float) -> float | None:
        """Seconds until the next try of a job that pauses; None for any other."""
        return words.pause_left(self._last, now - self._at)
