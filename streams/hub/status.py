"""What the hub answers to `hub.status.query`: its GPUs, who holds them, what they cost, how long a boot takes. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson
from msgspec.structs import replace

from wakestream.streams.hub import budget, costs, holders, keep_warm, ledger, placement, power
from wakestream.streams.hub import events as f
from wakestream.streams.hub.answers import eta
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.local_time import UTC, day_of, first_of_month
from wakestream.streams.hub.needs import ANY_GPU, STORING
from wakestream.streams.hub.state import ALL, LONGEST_KIND, Connection, Gpu, HubState
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.features import GPU_URL

A_SECOND = 20
"""Answers to one connection in a second; an answer is expensive, since it sums up days of many GPUs."""

SHARE = 2 / 3
"""The part of a frame's room that costs may have; the rest is for the GPUs."""

MOST_BUDGETS = 50

OWN_NAMED = 10
"""Jobs of the asking license that are named for each GPU; further ones are only counted."""


LICENSES_NAMED = 20
"""Licenses whose waiting jobs are counted for an admin."""


def query(state: HubState, peer: Connection, message: m.HubStatusQuery, now: float, decision: HubDecision) -> None:
    """Answer from the hub's state. Jobs of other licenses are counted, not named."""
    if peer.told_in(now) >= A_SECOND:
        decision.refuse(peer.fd, "too_fast", "this connection asks too often; try again in 1 s", message.request_id)
        return
    decision.fact(f.MonitorsTold(peer.fd, now))
    decision.send(peer.fd, answer(state, peer, message, now))


def answer(state: HubState, peer: Connection, message: m.HubStatusQuery, now: float) -> m.HubStatus:
    """What `peer` may know of the hub's state."""
    watched, twins = holders.watched(state), power.twins(state)
    entries = (
        _gpu(state, gpu, peer, now, message.since, watched, power.alone(state, gpu, now) or twins.get(gpu.name))
        for gpu in state.gpus.values()
    )
    # The budgets; if there are many, those of which the least is left. That of all GPUs together comes first.
    order = sorted(budget.purses(state, now), key=lambda purse: (purse.gpu != ALL, -purse.spent / purse.limit))
    counts = Counter(state.jobs[id_].owner for id_ in state.queue).most_common(LICENSES_NAMED) if peer.admin else ()
    status = m.HubStatus(
        request_id=message.request_id,
        ts=int(now),
        queue=len(state.queue),
        own_queued=sum(state.jobs[id_].gpu is None for id_ in state.jobs_of.get(peer.owner or "", ())),
        monitors=len(state.monitors),
        boots=len(state.boots),
        boot_s=ledger.boot_times(seconds for _, seconds in state.boots),
        eta_s=eta(state, now) if state.queue and placement.free_at(state, ANY_GPU) is None else None,
        currency=state.currency or None,
        zone=None if state.limits.zone == UTC else state.limits.zone,
        budgets=tuple(map(_budget, order[:MOST_BUDGETS])) or None,
        license_budget=next((_budget(purse) for _, purse in budget.of_licenses(state, now, peer.owner or "")), None),
        connections=_connections(state) if peer.admin else None,
        expected=tuple(islice(_expected(state, peer, now), LICENSES_NAMED)) or None,
        waiting=tuple({"license": owner, "jobs": count} for owner, count in counts) if peer.admin else None,
        depot=_depot(state, peer, now) if state.has_depot else None,
    )
    if message.costs:
        room = int(SHARE * (state.limits.batch - len(wire.octets(status))))
        status = replace(status, costs=costs.of(state, peer, now, message.since, room))
    if message.history is not None and peer.admin:
        room = int(SHARE * (state.limits.batch - len(wire.octets(status))))
        status = replace(status, history=history(state, *message.history, room))
    return _fitting(state, status, entries)


def history(state: HubState, day: int, skip: int, room: int) -> dict[str, Any]:
    """When jobs arrived and how long they took, from a job of a day on, and the settings that placed them."""
    usage, limits = state.usage, state.limits
    reply: dict[str, Any] = {
        "place": asdict(limits.place),
        "fits": [[gpu.name for gpu in state.gpus.values() if placement.can(state, gpu, need)] for need in usage.needs],
        "gpus": {
            gpu.name: {
                "slots": gpu.slots,
                "boots": [*map(round, gpu.boots)],
                "failed": round(gpu.failed_boots / max(1.0, gpu.failed_boots + len(gpu.boots)), 3),
            }
            for gpu in state.gpus.values()
        },
        "keep_warm": limits.keep_warm,
        "budgets": limits.budgets,
        "zone": limits.zone,
        "days": [],
    }
    room = (room - len(orjson.dumps(reply))) // len("86399,99999,499,")
    for recorded_day in sorted(stored for stored in usage.history if stored >= day):
        jobs = usage.history[recorded_day][3 * skip :] if recorded_day == day else usage.history[recorded_day]
        if len(jobs) > 3 * max(1, room):
            reply["days"].append([recorded_day, jobs[: 3 * max(1, room)]])
            return reply | {"next": [recorded_day, max(1, room) + (skip if recorded_day == day else 0)]}
        reply["days"].append([recorded_day, jobs])
        room -= len(jobs) // 3 + 2
    return reply


def _depot(state: HubState, peer: Connection, now: float) -> dict[str, Any]:
    uses = depot_use(state, state.in_depot if peer.admin else (peer.owner or "",))
    return {
        "up": state.depot_up,
        **depot_jobs(state),
        **{name: sum(use[name] for use in uses) for name in ("files", "size")},
        **({"quota": state.limits.depot_quota} if state.limits.depot_quota is not None else {}),
        "saved_s": round(state.depot_saved.get(first_of_month(day_of(now, state.limits.zone)), 0.0)),
        **({"licenses": uses[:LICENSES_NAMED]} if peer.admin else {}),
    }


def depot_jobs(state: HubState) -> dict[str, int]:
    """How many jobs go through the depot, by where they are."""
    at_work = sum(state.jobs[id_].gpu is not None for id_ in state.stored)
    away = sum(state.jobs[id_].depot is not None for id_ in state.absent)
    return {
        "storing": sum(count for need, count in state.wanted.items() if need.depot == STORING) - away,
        "away": away,
        "stored": len(state.stored) - at_work,
        "at_work": at_work,
        "delivered": len(state.delivered),
    }


def depot_use(state: HubState, owners: Iterable[str]) -> list[dict[str, Any]]:
    """What these licenses have in the depot; those that use most come first."""
    sizes = {owner: [size for size, _, _ in state.in_depot.get(owner, {}).values()] for owner in owners}
    uses = [{"license": owner, "files": len(owned), "size": sum(owned)} for owner, owned in sizes.items()]
    return sorted(uses, key=lambda use: (-use["size"], use["license"]))


def _connections(state: HubState) -> dict[str, int]:
    workers = {gpu.worker for gpu in state.gpus.values()} - {None}
    return {"clients": len(state.clients), "workers": len(workers), "monitors": len(state.monitors)}


def _fitting(state: HubState, status: m.HubStatus, entries: Iterator[dict[str, Any]]) -> m.HubStatus:
    """As many GPUs as one frame can hold; `more` counts the others."""
    room = state.limits.batch - len(wire.encode(status).encode())
    taken: list[dict[str, Any]] = []
    for entry in entries:
        room -= len(wire.encode(m.HubStatus(request_id="-", gpus=(entry,))).encode())
        if room < 0:
            break
        taken.append(entry)
    return replace(status, gpus=tuple(taken), more=len(state.gpus) - len(taken) or None)


def _gpu(
    state: HubState,
    gpu: Gpu,
    peer: Connection,
    now: float,
    since: int | None,
    watched: Collection[str],
    amiss: str | None,
) -> dict[str, Any]:
    own = [id_ for id_ in gpu.leases if state.jobs[id_].owner == peer.owner]
    waiting = placement.wanting(state, gpu)
    price, book = state.price_of(gpu.name), gpu.account
    money = state.currency_of(gpu.name) if price is not None and not state.currency else ""
    entry: dict[str, Any] = {
        "gpu": gpu.name,
        "phase": (gpu.worker is not None and gpu.closed) or gpu.phase,
        "since": int(gpu.since),
        "uptime_s": round(now - book.running_since) if book.running_since is not None else 0,
        "own_jobs": own[:OWN_NAMED],
        "own": len(own),
        "jobs": [*gpu.leases][:OWN_NAMED] if peer.admin and gpu.leases else None,
        "others": len(gpu.leases) - len(own),
        "waiting": waiting if waiting < len(state.queue) else None,
        "url": state.url_of(gpu) if gpu.online and GPU_URL in peer.features else None,
        "watched": None if gpu.name in watched else False,
        "orphan": gpu.orphan or None,
        "amiss": amiss,
        "why": gpu.closed_cause or amiss or gpu.orphan or gpu.cause or None,
        "plan": _plan(state, gpu, now),
        "slots": gpu.slots if gpu.slots > 1 else None,
        "labels": {**gpu.told.get("monitor", {}), **gpu.told.get("worker", {})} or None,
        "retry_at": _whole(gpu.retry_at) if gpu.phase == "no_capacity" else None,
        "warm_until": _whole(keep_warm.warm_until(state, gpu, now)),
        "machine": gpu.machine or None if peer.admin else None,
        "price_per_hour": None if price is None else float(price),
        "currency": money or None,
        "idle_after_s": gpu.idle_after,
        "known_since": None if book.since is None else int(book.since),
        "boots": len(gpu.boots) or None,
        "boot_s": ledger.boot_times(gpu.boots),
    }
    entry = {name: value for name, value in entry.items() if value is not None}
    zone = state.limits.zone
    spans = ledger.windows(now, since, zone)
    return entry | {name: ledger.summary(book, begin, now, price, zone) for name, begin in spans.items()}


def _plan(state: HubState, gpu: Gpu, now: float) -> dict[str, Any] | None:
    planned = state.planned
    if planned is None or gpu.name not in planned.machines:
        return None
    do, after, why = planned.machines[gpu.name]
    return {"do": do, "in_s": _left(after, now - planned.at), "why": why}


def _left(after: float | None, passed: float) -> float | None:
    return None if after is None else round(max(0.0, after - passed), 1)


def _expected(state: HubState, peer: Connection, now: float) -> Iterator[dict[str, Any]]:
    """When the waiting jobs start that the peer may see, by kind and priority: the first and the last of them."""
    planned = state.planned
    for (need, owner, priority), (first, last) in planned.starts.items() if planned is not None else ():
        line = state.lines.get((need, owner, priority))
        if line is not None and (peer.admin or owner == peer.owner):
            passed = now - planned.at  # type: ignore[union-attr] # it has starts
            times = {"first_s": _left(first, passed), "last_s": _left(last, passed)}
            more = {"license": owner} if peer.admin else {}
            kind = (need.kind or "")[:LONGEST_KIND]
            yield {"kind": kind, "jobs": len(line), "priority": priority, **more, **times}


def _whole(at: float | None) -> int | None:
    return None if at is None else math.ceil(at)


def _budget(purse: budget.Purse) -> dict[str, Any]:
    left = max(Decimal(), purse.limit - purse.spent)
    amounts = {"limit": purse.limit, "spent": purse.spent, "left": left}
    of = {"gpu": purse.gpu} if purse.gpu != ALL else {}
    plain = {name: ledger.plain(amount) for name, amount in amounts.items()}
    return {**of, "period": purse.period, **plain, "until": math.ceil(purse.until)}
