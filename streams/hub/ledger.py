"""The power ledger: how long each GPU ran, what that cost, what it saved, and how long its boots took. Pure.

Times are UNIX seconds, days are those of the hub's time zone, money is decimal. A GPU whose state is unknown counts as
running if it ran before.

Each second that a machine runs is shared equally by the jobs that hold it. So what jobs used, and what ran without any
(boots, idle time), add up to the whole. It is booked when a job leaves its GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from wakestream.streams.hub import events as f
from wakestream.streams.hub.local_time import DAY, UTC, begin_of, day_of, first_of_month
from wakestream.streams.hub.needs import Need
from wakestream.streams.moments import Moment

LEAST = 1e-6
"""Seconds; less is an error of the arithmetic."""

KEPT_DAYS = 400
"""Days that an account keeps apart; what ran before them is one sum."""

RUNNING = frozenset({"starting", "booted", "online", "lost", "draining", "stopping"})
"""Phases in which the machine runs, as far as one can know, and is paid for."""


@dataclass(slots=True)
class Account:
    """The account of one GPU. `since` is its first entry, `at` the last one, `days` the seconds that it ran, by day.

    `running_since` has no value while the GPU is off, `off_since` is when it went off last. `days` does not have the
    time from `at` on yet. GPUs in one machine have one account, which is the machine's: `gpus` is how many they are.
    """

    since: float | None = None
    at: float = 0.0
    running_since: float | None = None
    days: dict[int, float] = field(default_factory=dict)
    before: float = 0.0
    off_since: float | None = None
    gpus: int = 1

    def absorb(self, other: Account) -> None:
        """Take over the account of a GPU that is in the same machine, as it turns out."""
        self.gpus += other.gpus
        self.before += other.before
        for day, seconds in other.days.items():
            self.days[day] = self.days.get(day, 0.0) + seconds
        known = [since for since in (self.since, other.since) if since is not None]
        self.since = min(known, default=None)

    @property
    def has_run(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.days or self.before) or self.running_since is not None

    def enter(self, phase: str, at: float, zone: str = UTC, since: float | None = None) -> float:
        """The GPU is in another phase. The same entry again, or one of a clock set back, changes nothing before.

        Args:
            phase: The phase.
            at: When it was reported.
            zone: The time zone of the days.
            since: When the machine was switched on or off. What was booked from then on is corrected, but nothing
                before the switch that is known before, or before the first entry.

        Returns:
            When the machine was switched off; `at` if it was not.
        """
        if self.since is None:
            self.since = self.off_since = self.at = at
        at, began, end = max(at, self.at), self.running_since, None
        since = at if since is None else min(since, at)
        if phase in RUNNING:
            known = at if began is None else began
            self.running_since = min(known, max(since, self.at if self.off_since is None else self.off_since))
            self._add(self.running_since, known, zone)
        elif phase != "unknown" and began is not None:
            end = self.off_since = max(since, began)
            self.running_since = None
        if began is not None:
            self._add(self.at, at if end is None else end, zone)
        self.at = at
        return at if end is None else end

    def moved(self, at: float, by: float, zone: str = UTC) -> None:
        """The clock was set by `by` seconds and says `at` now: what ran until then is closed."""
        if self.since is None:
            return
        if self.running_since is not None:
            self._add(self.at, max(self.at, at - by), zone)
            self.running_since += by
        if self.off_since is not None:
            self.off_since += by
        self.at = at

    def ran(self, begin: float, end: float, zone: str = UTC) -> float:
        """Seconds that it ran from `begin`, which counts from the start of its day, until `end`, which is now.

        This is the part of one GPU: those in one machine cost it once.
        """
        first, last = day_of(begin, zone), day_of(max(end, self.at), zone)
        if last - first < len(self.days):
            closed = sum(self.days.get(day, 0.0) for day in range(first, last + 1))
        else:
            closed = sum(seconds for day, seconds in self.days.items() if day >= first)
        older = self.before if self.since is not None and begin <= self.since else 0.0
        return (closed + older + self._going(begin_of(first, zone), end)) / self.gpus

    def by_day(self, first: int, now: float, zone: str = UTC) -> dict[int, float]:
        """Seconds that it ran on each day from `first` on, the part of one GPU; only days on which it ran."""
        seconds_by_day = {day: seconds for day, seconds in self.days.items() if day >= first}
        if self.running_since is not None:
            for day, seconds in _split(max(self.at, begin_of(first, zone)), now, zone):
                seconds_by_day[day] = seconds_by_day.get(day, 0.0) + seconds
        return {day: seconds / self.gpus for day, seconds in seconds_by_day.items()}

    def _going(self, begin: float, end: float) -> float:
        return max(0.0, end - max(self.at, begin)) if self.running_since is not None else 0.0

    def _add(self, begin: float, end: float, zone: str) -> None:
        """Book what ran; with an `end` before `begin`, it did not run.

        The clock may have been set since that was booked: then it is on another day, one of the last.
        """
        sign = 1 if begin <= end else -1
        parts = [*_split(min(begin, end), max(begin, end), zone)]
        for day, seconds in parts:
            left = self.days.pop(day, 0.0) + sign * seconds
            if left > LEAST:
                self.days[day] = left
            elif left < -LEAST and self.days:
                parts.append((max(self.days), -left))
        for day in sorted(self.days)[:-KEPT_DAYS]:
            self.before += self.days.pop(day)


def _split(begin: float, end: float, zone: str) -> Iterable[tuple[int, float]]:
    if end - begin > KEPT_DAYS * DAY:  # a clock that jumped; the days are not worth their names
        yield day_of(end, zone), end - begin
        return
    day = day_of(begin, zone)
    while begin < end:
        until = min(end, begin_of(day + 1, zone))
        if until > begin:
            yield day, until - begin
        begin, day = until, day + 1


def windows(now: float, since: float | None = None, zone: str = UTC) -> Mapping[str, float]:
    """Where the spans begin that people ask for: today, this month, all of it, and from the day of `since` on.

    `since` names a day by its midnight in UTC, since who asks does not know the hub's zone.
    """
    today = day_of(now, zone)
    begins = {"today": begin_of(today, zone), "month": begin_of(first_of_month(today), zone), "all": 0.0}
    return begins if since is None else {**begins, "asked": begin_of(day_of(since), zone)}


def summary(account: Account, begin: float, now: float, price: Decimal | None, zone: str = UTC) -> dict[str, Any]:
    """What one span came to: seconds on, seconds that are known, and with a `price` per hour what it cost and saved.

    Saved is what a machine that is always on would have cost more in the time since its first entry.
    """
    on, known = ran_of(account, begin, now, zone)
    said: dict[str, Any] = {"on_s": round(on), "of_s": round(known)}
    if price is not None:
        costs, saves = (cost(seconds / account.gpus, price) for seconds in (on, known - on))
        said |= {"cost": plain(costs), "saved": plain(saves)}
    return said


def ran_of(account: Account, begin: float, now: float, zone: str = UTC) -> tuple[float, float]:
    """Seconds that it ran since `begin`, with all of its machine, and seconds that are known of that time."""
    known = max(0.0, now - max(begin, account.since if account.since is not None else now))
    return min(known, account.gpus * account.ran(begin, now, zone)), known


def cost(seconds: float, price: Decimal) -> Decimal:
    """What `seconds` cost at `price` per hour."""
    return Decimal(str(seconds)) * price / 3600


def money(number: float) -> Decimal:
    """The amount that a number in the settings means.

    Example:
        >>> money(0.1) * 3
        Decimal('0.3')
    """
    return Decimal(str(number))


def plain(amount: Decimal) -> float:
    """An amount as a number for JSON, to a hundredth."""
    return float(round(amount, 2))


def nearest_rank(sizes: Sequence[float], share: float) -> float:
    """The smallest of the sorted `sizes` that a `share` of them does not exceed."""
    return sizes[max(0, math.ceil(share * len(sizes)) - 1)]


def boot_times(seconds: Iterable[float]) -> dict[str, float] | None:
    """The median and the ninetieth percentile of earlier boots; None when there was none."""
    sizes = sorted(seconds)
    if not sizes:
        return None
    return {"p50": nearest_rank(sizes, 0.5), "p90": nearest_rank(sizes, 0.9)}


KEPT_JOBS: Final = 500
"""Ended jobs that are remembered, of all licenses."""

KEPT_KINDS: Final = 500
"""Kinds of which is known how long a job takes."""

NEWEST: Final = 0.2
"""The share of the newest job in that."""

KEPT_ARRIVALS: Final = 100_000
"""Arrivals of jobs that are remembered: the days with the newest ones."""

KEPT_NEEDS: Final = 500
"""Different needs of these jobs that are remembered."""

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
    seconds by GPU of the jobs that ended on it. `work` are the seconds that a job of each kind takes.

    `history` has three numbers for each job that has ended, by the day of its arrival: the second of that day, the
    seconds that it took, and the place of what it needs in `needs` (-1: not kept).
    """

    jobs: list[f.JobUsed] = field(default_factory=list)
    months: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    totals: dict[int, dict[str, float]] = field(default_factory=dict, compare=False)
    days: dict[str, tuple[int, dict[str, float]]] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    needs: list[Need] = field(default_factory=list)
    history: dict[int, list[int]] = field(default_factory=dict)

    def arrived(self, need: Need, day: int, second: float, took: float) -> None:
        """Remember when a job arrived, and how long it took, for `wakestream plan`."""
        of_day = self.history.setdefault(day, [])
        if need not in self.needs and len(self.needs) < KEPT_NEEDS:
            self.needs.append(need)
        if len(of_day) < 3 * KEPT_ARRIVALS:
            of_day += round(second), round(took), self.needs.index(need) if need in self.needs else -1
        while len(self.history) > KEPT_DAYS or sum(map(len, self.history.values())) > 3 * KEPT_ARRIVALS:
            del self.history[min(self.history)]

    def on_day(self, owner: str, day: int) -> dict[str, float]:
        """Seconds by GPU of a license's jobs that ended on this day; nothing is known of a day before its last one."""
        at, used = self.days.get(owner, (day, {}))
        return dict(used) if at == day else {}

    def book(self, used: f.JobUsed, day: int, took: float) -> None:
        """Book a job that has ended on this day, and that took so many seconds of work."""
        of_day = self.on_day(used.owner, day)
        for gpu, seconds in used.gpus:
            of_day[gpu] = of_day.get(gpu, 0.0) + seconds
        self.days[used.owner] = day, of_day
        self.work[used.kind] = self.work.get(used.kind, took) * (1 - NEWEST) + took * NEWEST
        while len(self.work) > KEPT_KINDS:
            del self.work[next(iter(self.work))]
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
