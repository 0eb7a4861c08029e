"""The answer to "what did it cost": by day, by job, by license, and how much the month will cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final

import orjson

from wakestream.streams.hub import events as f
from wakestream.streams.hub import ledger
from wakestream.streams.hub import local_time as t
from wakestream.streams.hub.state import Connection, HubJob, HubState

DAYS: Final = 31
"""Days of the answer, unless it was asked for an earlier one."""

MOST_DAYS: Final = 366
MOST_JOBS: Final = 50
MOST_LICENSES: Final = 50

LOOKS_BACK: Final = 28
"""Full days whose mean is the forecast for each day left of the month."""

OTHERS: Final = ""
"""Stands for the licenses that are not named."""

SPARE: Final = 500
"""Bytes for names, and for two rows of sums."""

Used = Mapping[str, float]
"""Seconds by GPU."""


def of(state: HubState, peer: Connection, now: float, since: int | None, room: int) -> dict[str, Any]:
    """All of it. A license sees its own jobs, and the others in one sum; an `admin` license sees all.

    Args:
        state: The hub's state.
        peer: Who asks.
        now: UNIX seconds.
        since: The first day, by its midnight in UTC; None: the last `DAYS` days.
        room: Bytes that it may have. What is too much is left out: the oldest days and jobs, the smallest licenses.
    """
    bill = Bill.of(state)
    today = t.day_of(now, state.limits.zone)
    first = today - DAYS + 1 if since is None else max(t.day_of(float(since)), today - MOST_DAYS + 1)
    begins = {"today": today, "month": t.first_of_month(today)}
    costs: dict[str, Any] = {
        "today": t.date_text(today),
        "totals": {name: _total(bill, begin, now) for name, begin in begins.items()},
        "forecast": _forecast(bill, today, now),
    }
    if len(bill.currencies) > 1:
        costs["currencies"] = bill.currencies
    room -= _size(costs) + SPARE
    days = list(_fitting(reversed(_days(bill, first, now)), room))
    room -= _size(days)
    used = _used(bill, peer, now)
    # A row for each license, the most first; those that are too many are added to the others.
    ranked = sorted(((sum(gpus.values()), name) for name, gpus in used.items() if name != OTHERS), reverse=True)
    rows = [
        {"license": name, **_row(bill, used[name])} for seconds, name in islice(ranked, MOST_LICENSES) if seconds > 0
    ]
    shown = list(_fitting(rows, room))
    others = dict(used.get(OTHERS, {}))
    for _, name in ranked[len(shown) :]:
        _add(others, used[name])
    if any(others.values()):
        shown.append({"license": OTHERS, **_row(bill, others)})
    licenses, unused = sorted(shown, key=lambda row: -row["used_s"]), _row(bill, bill.unused(begins["month"], now))
    jobs = _fitting(islice(_jobs(bill, peer, now), MOST_JOBS), room - _size(licenses))
    return {**costs, "days": days[::-1], "jobs": list(jobs), "licenses": licenses, "unused": unused}


def _size(plain: object) -> int:
    return len(orjson.dumps(plain))


def _fitting(rows: Iterable[dict[str, Any]], room: int) -> Iterator[dict[str, Any]]:
    """The first rows that have `room` bytes together."""
    for row in rows:
        room -= _size(row) + 1
        if room < 0:
            return
        yield row


@dataclass(frozen=True, slots=True)
class Bill:
    """What GPUs cost. Amounts of different money are not added up: such a sum has no cost."""

    state: HubState
    currencies: tuple[str, ...]
    prices: dict[str, Decimal | None] = field(default_factory=dict)
    rates: dict[int, Used] = field(default_factory=dict)

    @classmethod
    def of(cls, state: HubState) -> Bill:
        """With the prices of all GPUs."""
        return cls(state, state.currencies)

    def price_of(self, gpu: str) -> Decimal | None:
        """The price of an hour."""
        if gpu not in self.prices:
            self.prices[gpu] = self.state.price_of(gpu)
        return self.prices[gpu]

    def cost(self, used: Iterable[tuple[str, float]]) -> Decimal | None:
        """What seconds of GPUs cost; None if none of them has a price, or if they cost different money."""
        priced = [(gpu, seconds, price) for gpu, seconds in used if (price := self.price_of(gpu)) is not None]
        if not priced or len(self._money_of(gpu for gpu, _, _ in priced)) > 1:
            return None
        return sum((ledger.cost(seconds, price) for _, seconds, price in priced), Decimal())

    def _worked(self, month: int, now: float) -> dict[str, float]:
        """Seconds by GPU that jobs used in a month: those that ended in it and, in the present one, the open ones."""
        seconds_by_gpu = dict(self.state.usage.totals.get(month, {}))
        if month == t.first_of_month(t.day_of(now, self.state.limits.zone)):
            for job in open_jobs(self.state):
                _add(seconds_by_gpu, self.state.used_by(job, now))
        return seconds_by_gpu

    def unused(self, month: int, now: float) -> dict[str, float]:
        """Seconds by GPU that ran in a month without being used by a job: boots and idle time."""
        zone, worked = self.state.limits.zone, self._worked(month, now)
        begin, end = (t.begin_of(day, zone) for day in (month, t.next_month(month)))
        unused = {}
        for gpu in self.state.gpus.values():
            later = gpu.account.ran(end, now, zone) if end <= now else 0.0
            unused[gpu.name] = max(0.0, gpu.account.ran(begin, now, zone) - later - worked.get(gpu.name, 0.0))
        return unused

    def shares(self, used: Used, month: int, now: float) -> Used:
        """The shares of a job in what its GPUs ran unused in its month, in proportion to what it used of them."""
        if month not in self.rates:
            worked = self._worked(month, now)
            unused = self.unused(month, now).items()
            self.rates[month] = {gpu: seconds / worked[gpu] for gpu, seconds in unused if worked.get(gpu, 0.0) > LEAST}
        return {gpu: seconds * self.rates[month].get(gpu, 0.0) for gpu, seconds in used.items()}

    def amount(self, used: Iterable[tuple[str, float]]) -> dict[str, Any]:
        """The fields of the cost: none without a price, and the currency where the answer has no single one."""
        used = list(used)
        cost = self.cost(used)
        if cost is None:
            return {}
        money = self._money_of(gpu for gpu, _ in used if self.price_of(gpu) is not None)
        return {"cost": ledger.plain(cost), **({"currency": min(money)} if money else {})}

    def _money_of(self, gpus: Iterable[str]) -> set[str]:
        return {self.state.currency_of(gpu) for gpu in gpus} if len(self.currencies) > 1 else set()


def _total(bill: Bill, begin: int, now: float) -> dict[str, Any]:
    """What all GPUs together ran and cost since the day `begin`."""
    zone = bill.state.limits.zone
    used = {
        gpu.name: ledger.ran_of(gpu.account, t.begin_of(begin, zone), now, zone)[0] / gpu.account.gpus
        for gpu in bill.state.gpus.values()
    }
    return {"on_s": round(sum(used.values())), **bill.amount(used.items())}


def _days(bill: Bill, first: int, now: float) -> Sequence[dict[str, Any]]:
    used_by_day: dict[int, list[tuple[str, float]]] = {}
    for gpu in bill.state.gpus.values():
        for day, seconds in gpu.account.by_day(first, now, bill.state.limits.zone).items():
            used_by_day.setdefault(day, []).append((gpu.name, seconds))
    return [
        {"day": t.date_text(day), "on_s": round(sum(on for _, on in used)), **bill.amount(used)}
        for day, used in sorted(used_by_day.items())
    ]


def open_jobs(state: HubState) -> Iterator[HubJob]:
    """The jobs that use a GPU, and those that did and wait for another one."""
    ids = chain(*(gpu.leases for gpu in state.gpus.values()), state.queue)
    return (job for id_ in ids if (job := state.jobs[id_]).gpu is not None or job.used)


def _jobs(bill: Bill, peer: Connection, now: float) -> Iterator[dict[str, Any]]:
    """The last jobs that the peer may see, the newest first; those that hold a GPU come before."""
    state, month = bill.state, t.first_of_month(t.day_of(now, bill.state.limits.zone))
    open_ = (
        f.JobUsed(job.id, job.owner, job.kind, (*state.used_by(job, now).items(),), month, -1)
        for job in open_jobs(state)
    )
    for job in chain(open_, reversed(state.usage.jobs)):
        if peer.admin or job.owner == peer.owner:
            used = dict(job.gpus)
            shares = bill.shares(used, job.month, now)
            yield {
                "id": job.id,
                "kind": job.kind,
                **({"license": job.owner} if peer.admin else {}),
                "gpu": ", ".join(used),
                "used_s": round(sum(used.values()), 1),
                **bill.amount(used.items()),
                "share_s": round(sum(shares.values()), 1),
                **({"share": ledger.plain(share)} if (share := bill.cost(shares.items())) is not None else {}),
                **({"ended": int(job.at)} if job.at >= 0 else {}),
                **({"unsaid": True} if job.unsaid else {}),
            }


def _used(bill: Bill, peer: Connection, now: float) -> dict[str, dict[str, float]]:
    """This month by license and GPU: each license that the peer may see, and the others together."""
    state = bill.state
    month = t.first_of_month(t.day_of(now, state.limits.zone))
    if peer.admin:
        used_by_owner = {owner: dict(months.get(month, {})) for owner, months in state.usage.months.items()}
    else:
        own = dict(state.usage.months.get(peer.owner or OTHERS, {}).get(month, {}))
        rest = {gpu: all_ - own.get(gpu, 0.0) for gpu, all_ in state.usage.totals.get(month, {}).items()}
        others = {gpu: seconds for gpu, seconds in rest.items() if seconds > LEAST}
        used_by_owner = {peer.owner or OTHERS: own, OTHERS: others}
    for job in open_jobs(state):
        name = job.owner if peer.admin or job.owner == peer.owner else OTHERS
        _add(used_by_owner.setdefault(name, {}), state.used_by(job, now))
    return used_by_owner


LEAST: Final = 0.001
"""Seconds; less is an error of the arithmetic."""


def _add(sums: dict[str, float], used: Used) -> None:
    for name, seconds in used.items():
        sums[name] = sums.get(name, 0.0) + seconds


def _row(bill: Bill, gpus: Used) -> dict[str, Any]:
    return {"used_s": round(sum(gpus.values())), **bill.amount(gpus.items())}


def _forecast(bill: Bill, today: int, now: float) -> dict[str, Any] | None:
    """This month's cost so far, and for what is left of it the mean of the last full days that are known."""
    gpus, zone = bill.state.gpus.values(), bill.state.limits.zone
    known = [gpu.account.since for gpu in gpus if gpu.account.since is not None]
    first = max(today - LOOKS_BACK, t.day_of(min(known), zone) + 1) if known else today
    if first >= today or len(bill.currencies) > 1 or not any(bill.price_of(gpu.name) for gpu in gpus):
        return None

    def between(begin: int, end: float) -> Decimal:
        return bill.cost((gpu.name, gpu.account.ran(t.begin_of(begin, zone), end, zone)) for gpu in gpus) or Decimal()

    so_far, of_today = between(t.first_of_month(today), now), between(today, now)
    mean = (between(first, now) - of_today) / (today - first)
    rest = max(Decimal(), mean - of_today) + mean * (t.next_month(today) - today - 1)
    return {"month": ledger.plain(so_far + rest), "mean": ledger.plain(mean), "days": today - first}
