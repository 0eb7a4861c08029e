"""The power ledger: how long each GPU ran, what that cost, what it saved, and how long its boots took. Pure.

Times are UNIX seconds, days are days of UTC. A GPU whose state is unknown counts as running if it ran before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DAY = 86_400.0
"""Seconds of a day."""

KEPT_DAYS = 400
"""Days that an account keeps apart; what ran before them is one sum."""

RUNNING = frozenset({"starting", "booted", "online", "lost", "draining", "stopping"})
"""Phases in which the machine runs, as far as one can know, and is paid for."""


@dataclass(slots=True)
class Account:
    """The account of one GPU. `since` is its first entry, `at` the last one, `days` the seconds that it ran, by day.

    `running_since` has no value while the GPU is off. `days` does not have the time from `at` on yet.
    """

    since: float | None = None
    at: float = 0.0
    running_since: float | None = None
    days: dict[int, float] = field(default_factory=dict)
    before: float = 0.0

    @property
    def has_run(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.days or self.before) or self.running_since is not None

    def enter(self, phase: str, at: float) -> None:
        """The GPU is in another phase. The same entry again, or one of a clock set back, changes nothing before."""
        if self.since is None:
            self.since = self.at = at
        at = max(at, self.at)
        if self.running_since is not None:
            self._add(self.at, at)
        self.at = at
        if phase in RUNNING:
            self.running_since = at if self.running_since is None else self.running_since
        elif phase != "unknown":
            self.running_since = None

    def moved(self, at: float, by: float) -> None:
        """The clock was set by `by` seconds and says `at` now: what ran until then is closed."""
        if self.since is None:
            return
        if self.running_since is not None:
            self._add(self.at, max(self.at, at - by))
            self.running_since += by
        self.at = at

    def ran(self, begin: float, end: float) -> float:
        """Seconds that it ran from `begin`, which counts from the start of its day, until `end`, which is now."""
        first = math.floor(begin / DAY)
        closed = sum(seconds for day, seconds in self.days.items() if day >= first)
        older = self.before if self.since is not None and begin <= self.since else 0.0
        going = max(0.0, end - max(self.at, first * DAY)) if self.running_since is not None else 0.0
        return closed + older + going

    def _add(self, begin: float, end: float) -> None:
        for day, seconds in _split(begin, end):
            self.days[day] = self.days.get(day, 0.0) + seconds
        for day in sorted(self.days)[:-KEPT_DAYS]:
            self.before += self.days.pop(day)


def _split(begin: float, end: float) -> Iterable[tuple[int, float]]:
    day = math.floor(begin / DAY)
    if end - begin > KEPT_DAYS * DAY:  # a clock that jumped; the days are not worth their names
        day = math.floor(end / DAY)
        yield day, end - begin
        return
    while begin < end:
        until = min(end, (day + 1) * DAY)
        yield day, until - begin
        begin, day = until, day + 1


def windows(now: float, since: float | None = None) -> Mapping[str, float]:
    """Where the spans begin that people ask for: today, this month, all of it, and from the day of `since` on."""
    today = math.floor(now / DAY)
    begins = {"today": today * DAY, "month": (today - day_of_month(today) + 1) * DAY, "all": 0.0}
    return begins if since is None else {**begins, "asked": since // DAY * DAY}


def day_of_month(day: int) -> int:
    """The calendar's day, 1 to 31, of the `day`th day since 1970-01-01.

    As in Howard Hinnant's `civil_from_days`: years begin in March, so that a leap day comes last, and months follow a
    straight line.
    """
    of_era = (day + 719_468) % 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return of_year - (153 * month + 2) // 5 + 1


def summary(account: Account, begin: float, now: float, price: float | None) -> dict[str, Any]:
    """What one span came to: seconds on, seconds that are known, and with a `price` per hour what it cost and saved.

    Saved is what a machine that is always on would have cost more in the time since its first entry.
    """
    known = max(0.0, now - max(begin, account.since if account.since is not None else now))
    on = min(known, account.ran(begin, now))
    said: dict[str, Any] = {"on_s": round(on), "of_s": round(known)}
    if price is not None:
        said |= {"cost": cost(on, price), "saved": cost(known - on, price)}
    return said


def cost(seconds: float, price: float) -> float:
    """What `seconds` cost at `price` per hour, to a hundredth."""
    return round(seconds / 3600.0 * price, 2)


def nearest_rank(sizes: Sequence[float], share: float) -> float:
    """The smallest of the sorted `sizes` that a `share` of them does not exceed."""
    return sizes[max(0, math.ceil(share * len(sizes)) - 1)]


def boot_times(seconds: Iterable[float]) -> dict[str, float] | None:
    """The median and the ninetieth percentile of earlier boots; None when there was none."""
    sizes = sorted(seconds)
    if not sizes:
        return None
    return {"p50": nearest_rank(sizes, 0.5), "p90": nearest_rank(sizes, 0.9)}
