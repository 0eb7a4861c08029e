"""What jobs and licenses used of the machines' time. Pure.

Each second that a machine runs is shared equally by the jobs that hold it. So what jobs used, and what ran without any
(boots, idle time), add up to the whole. It is booked when a job leaves its GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wakestream.streams.hub import events as f

KEPT_JOBS: Final = 500
"""Ended jobs that are remembered, of all licenses."""

KEPT_MONTHS: Final = 13
"""Months that are kept for each license."""


@dataclass(slots=True)
class Meter:
    """Of one GPU: how many seconds each of its holders has got, counted from any begin, as of `at`."""

    at: float = 0.0
    share: float = 0.0

    def advance(self, at: float, holders: int, *, running: bool) -> float:
        """Count until `at`; returns the share."""
        if at > self.at:
            if running and holders:
                self.share += (at - self.at) / holders
            self.at = at
        return self.share


@dataclass(slots=True)
class Usage:
    """What is booked. `months` has seconds by license, GPU and first day of the month; `jobs` the last ended jobs.

    `totals` are the `months` of all licenses together: there may be many.
    """

    jobs: deque[f.JobUsed] = field(default_factory=lambda: deque(maxlen=KEPT_JOBS))
    months: dict[str, dict[tuple[str, int], float]] = field(default_factory=dict)
    totals: dict[tuple[str, int], float] = field(default_factory=dict, compare=False)

    def book(self, used: f.JobUsed) -> None:
        """Book a job that has ended."""
        self.jobs.append(used)
        mine = self.months.setdefault(used.owner, {})
        for gpu, seconds in used.gpus:
            mine[gpu, used.month] = mine.get((gpu, used.month), 0.0) + seconds
            self._total((gpu, used.month), seconds)
        kept = sorted({month for _, month in mine})[-KEPT_MONTHS:]
        for key in [key for key in mine if key[1] < kept[0]]:
            self._total(key, -mine.pop(key))

    def keep(self, owner: str, months: Mapping[tuple[str, int], float]) -> None:
        """Set what a license used in all months."""
        for key, seconds in self.months.get(owner, {}).items():
            self._total(key, -seconds)
        self.months[owner] = dict(months)
        for key, seconds in months.items():
            self._total(key, seconds)

    def _total(self, key: tuple[str, int], seconds: float) -> None:
        self.totals[key] = max(0.0, self.totals.get(key, 0.0) + seconds)

    def snapshot(self) -> Iterator[f.Fact]:
        """The facts that lead to it."""
        for owner, months in self.months.items():
            yield f.UsageKept(owner, tuple((gpu, month, seconds) for (gpu, month), seconds in months.items()))
        yield from (f.JobUsedKept(used) for used in self.jobs)
