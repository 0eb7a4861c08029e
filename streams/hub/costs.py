"""The answer to "what did it cost": by day, by job, by license, and how much the month will cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from wakestream.streams.hub import ledger
from wakestream.streams.hub import local_time as t
from wakestream.streams.hub.state import Connection, Gpu, HubJob, HubState

DAYS: Final = 31
"""Days of the answer, unless it was asked for an earlier one."""

MOST_DAYS: Final = 366
MOST_JOBS: Final = 50
MOST_LICENSES: Final = 50

LOOKS_BACK: Final = 28
"""Full days whose mean is the forecast for each day left of the month."""


def of(state: HubState, peer: Connection, now: float, since: int | None) -> dict[str, Any]:
    """All of it. A license sees its own jobs, and the others in one sum; an `admin` license sees all."""
    today = t.day_of(now, state.limits.zone)
    first = today - DAYS + 1 if since is None else max(t.day_of(float(since)), today - MOST_DAYS + 1)
    return {
        "days": _days(state, first, now),
        "jobs": _jobs(state, peer, now),
        **_licenses(state, peer, now),
        "forecast": _forecast(state, today, now),
    }


def _days(state: HubState, first: int, now: float) -> list[dict[str, Any]]:
    on: dict[int, float] = {}
    cost: dict[int, Decimal] = {}
    for gpu in state.gpus.values():
        price = state.price_of(gpu.name)
        for day, seconds in gpu.account.by_day(first, now, state.limits.zone).items():
            on[day] = on.get(day, 0.0) + seconds
            if price is not None:
                cost[day] = cost.get(day, Decimal()) + ledger.cost(seconds, price)
    return [{"day": t.date_text(day), "on_s": round(on[day]), **_amount(cost.get(day))} for day in sorted(on)]


def _amount(amount: Decimal | None) -> dict[str, Any]:
    return {} if amount is None else {"cost": ledger.plain(amount)}


def _cost(state: HubState, used: Iterable[tuple[str, float]]) -> Decimal | None:
    """What seconds of GPUs cost; None if none of them has a price."""
    prices = [(seconds, price) for gpu, seconds in used if (price := state.price_of(gpu)) is not None]
    return sum((ledger.cost(seconds, price) for seconds, price in prices), Decimal()) if prices else None


def _going(state: HubState, job: HubJob, now: float) -> dict[str, float]:
    """What an open job has used of each GPU so far."""
    if job.gpu is None:
        return job.used
    gpu = state.gpus[job.gpu]
    running = gpu.account.running_since is not None
    more = max(0.0, now - gpu.meter.at) / len(gpu.leases) if running else 0.0
    return {**job.used, job.gpu: job.used.get(job.gpu, 0.0) + gpu.meter.share + more - job.began}


def _jobs(state: HubState, peer: Connection, now: float) -> list[dict[str, Any]]:
    """The last jobs that the peer may see, the newest first; those that hold a GPU come before."""
    open_ = (state.jobs[id_] for gpu in state.gpus.values() for id_ in gpu.leases)
    rows = [
        _job(state, job.id, job.kind, job.owner, _going(state, job, now), peer)
        for job in open_
        if peer.admin or job.owner == peer.owner
    ]
    rows += [
        {**_job(state, used.id, used.kind, used.owner, dict(used.gpus), peer), "ended": int(used.at)}
        for used in reversed(state.usage.jobs)
        if peer.admin or used.owner == peer.owner
    ]
    return rows[:MOST_JOBS]


def _job(
    state: HubState, id_: str, kind: str, owner: str, used: Mapping[str, float], peer: Connection
) -> dict[str, Any]:
    of_license = {"license": owner} if peer.admin else {}
    spent = {"used_s": round(sum(used.values()), 1), **_amount(_cost(state, used.items()))}
    return {"id": id_, "kind": kind, **of_license, "gpu": ", ".join(used), **spent}


def _licenses(state: HubState, peer: Connection, now: float) -> dict[str, Any]:
    """This month by license, the most first, and what no job used."""
    month = t.first_of_month(t.day_of(now, state.limits.zone))
    used = {owner: _of_month(months, month) for owner, months in state.usage.months.items()}
    for gpu in state.gpus.values():
        for id_ in gpu.leases:
            job = state.jobs[id_]
            mine = used.setdefault(job.owner, {})
            for name, seconds in _going(state, job, now).items():
                mine[name] = mine.get(name, 0.0) + seconds
    idle = {gpu.name: _idle(state, gpu, used.values(), month, now) for gpu in state.gpus.values()}
    shown: dict[str, dict[str, float]] = {}
    for owner, gpus in used.items():
        name = owner if peer.admin or owner == peer.owner else ""
        mine = shown.setdefault(name, {})
        for gpu_name, seconds in gpus.items():
            mine[gpu_name] = mine.get(gpu_name, 0.0) + seconds
    rows = [{"license": name, **_row(state, gpus)} for name, gpus in shown.items() if any(gpus.values())]
    rows.sort(key=lambda row: -row["used_s"])
    return {"licenses": rows[:MOST_LICENSES], "unused": _row(state, idle)}


def _of_month(months: Mapping[tuple[str, int], float], month: int) -> dict[str, float]:
    return {gpu: seconds for (gpu, at), seconds in months.items() if at == month}


def _idle(state: HubState, gpu: Gpu, used: Iterable[Mapping[str, float]], month: int, now: float) -> float:
    zone = state.limits.zone
    on = gpu.account.ran(t.begin_of(month, zone), now, zone)
    return max(0.0, on - sum(gpus.get(gpu.name, 0.0) for gpus in used))


def _row(state: HubState, gpus: Mapping[str, float]) -> dict[str, Any]:
    return {"used_s": round(sum(gpus.values())), **_amount(_cost(state, gpus.items()))}


def _forecast(state: HubState, today: int, now: float) -> dict[str, Any] | None:
    """This month's cost so far, and for what is left of it the mean of the last full days that are known."""
    zone = state.limits.zone
    known = [gpu.account.since for gpu in state.gpus.values() if gpu.account.since is not None]
    first = max(today - LOOKS_BACK, t.day_of(min(known), zone) + 1) if known else today
    if first >= today or not any(state.price_of(name) for name in state.gpus):
        return None

    def between(begin: int, end: float) -> Decimal:
        used = ((gpu.name, gpu.account.ran(t.begin_of(begin, zone), end, zone)) for gpu in state.gpus.values())
        return _cost(state, used) or Decimal()

    so_far, of_today = between(t.first_of_month(today), now), between(today, now)
    mean = (between(first, now) - of_today) / (today - first)
    rest = max(Decimal(), mean - of_today) + mean * (t.next_month(today) - today - 1)
    return {"month": ledger.plain(so_far + rest), "mean": ledger.plain(mean), "days": today - first}
