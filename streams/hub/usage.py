"""What jobs and licenses used of the machines' time. Pure.

Each second that a machine runs is shared equally by the jobs that hold it. So what jobs used, and what ran without any
(boots, idle time), add up to the whole. It is booked when a job leaves its GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wakestream.streams.hub import events as f
from wakestream.streams.moments import Moment

KEPT_JOBS: Final = 500
"""Ended jobs that are remembered, of all licenses."""

KEPT_MONTHS: Final = 13
"""Months that are kept for each license."""


@dataclass(slots=True)
class Meter:
    """Of one GPU: how many seconds each of its holders has got, counted from any begin, as of `at`."""

    at: Moment = 0.0
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
    """What is booked. `months` has seconds by license, first day of the month and GPU; `jobs` the last ended jobs.

    `totals` are the `months` of all licenses together: there may be many. `days` has the last day of each license, and
    seconds by GPU of the jobs that ended on it.
    """

    jobs: list[f.JobUsed] = field(default_factory=list)
    months: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    totals: dict[int, dict[str, float]] = field(default_factory=dict, compare=False)
    days: dict[str, tuple[int, dict[str, float]]] = field(default_factory=dict)

    def on_day(self, owner: str, day: int) -> dict[str, float]:
        """Seconds by GPU of a license's jobs that ended on this day; nothing is known of a day before its last one."""
        at, used = self.days.get(owner, (day, {}))
        return dict(used) if at == day else {}

    def book(self, used: f.JobUsed, day: int) -> None:
        """Book a job that has ended on this day."""
        of_day = self.on_day(used.owner, day)
        for gpu, seconds in used.gpus:
            of_day[gpu] = of_day.get(gpu, 0.0) + seconds
        self.days[used.owner] = day, of_day
        self.jobs.append(used)
        del self.jobs[:-KEPT_JOBS]
        mine = self.months.setdefault(used.owner, {})
        month = mine.setdefault(used.month, {})
        for gpu, seconds in used.gpus:
            month[gpu] = month.get(gpu, 0.0) + seconds
            self._total(gpu, used.month, seconds)
        for old in sorted(mine)[:-KEPT_MONTHS]:
            for gpu, seconds in mine.pop(old).items():
                self._total(gpu, old, -seconds)

    def keep(self, owner: str, months: Mapping[tuple[str, int], float]) -> None:
        """Set what a license used in all months."""
        mine = self.months.setdefault(owner, {})
        for (gpu, month), seconds in months.items():
            before, mine.setdefault(month, {})[gpu] = mine.get(month, {}).get(gpu, 0.0), seconds
            self._total(gpu, month, seconds - before)

    def add_up(self) -> None:
        """Make the totals."""
        self.totals.clear()
        for months in self.months.values():
            for month, used in months.items():
                for gpu, seconds in used.items():
                    self._total(gpu, month, seconds)

    def _total(self, gpu: str, month: int, seconds: float) -> None:
        of_month = self.totals.setdefault(month, {})
        of_month[gpu] = max(0.0, of_month.get(gpu, 0.0) + seconds)
