"""What the page shows of the hub's state, as plain values. It uses the same answers as `status` and `cost`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from wakestream.streams.hub import status
from wakestream.streams.hub.state import Connection, HubState
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

MOST: Final = 200
"""Leases, and licenses with jobs, that are shown; the others are counted."""

ROLES: Final = ("client", "worker", "monitor")


def state_of(state: HubState, now: float, note_of: Callable[[str], str]) -> dict[str, Any]:
    """GPUs, leases, jobs by license, connections and budgets.

    Args:
        state: The hub's state.
        now: UNIX seconds.
        note_of: Returns the note of a license by its id.
    """
    told = _answer(state, now, costs=False)
    leases = [
        {"job": job.id, "kind": job.kind, "gpu": job.gpu, "license": job.owner, "since": int(job.since)}
        for gpu in state.gpus.values()
        for job in (state.jobs[id_] for id_ in gpu.leases)
    ]
    jobs = _jobs(state)
    shown = {row["license"] for row in (*leases[:MOST], *jobs[:MOST])}
    return {
        **told,
        "leases": leases[:MOST], "all_leases": len(leases),
        "licenses": jobs[:MOST], "all_licenses": len(jobs),
        "notes": {id_: note for id_ in sorted(shown) if (note := note_of(id_))},
        "peers": _peers(state),
        "disk_low": state.disk_low,
    }  # fmt: skip


def costs_of(state: HubState, now: float) -> dict[str, Any]:
    """The cost of each day, of today and of this month, and the forecast."""
    costs = _answer(state, now, costs=True)["costs"]
    return {name: costs[name] for name in ("today", "totals", "days", "forecast")}


def _answer(state: HubState, now: float, *, costs: bool) -> dict[str, Any]:
    asker = Connection(fd=-1, opened=now, role="client", admin=True)
    query = m.HubStatusQuery(request_id="-", costs=costs or None)
    told = status.answer(state, asker, query, now)
    plain = {name: value for name, value in wire.to_frame(told).get("data", {}).items() if name != "own_queued"}
    return {"ts": told.ts, **plain}


def _jobs(state: HubState) -> list[dict[str, Any]]:
    """The waiting and running jobs of each license; those with most jobs first."""
    waiting = Counter(state.jobs[id_].owner for id_ in state.queue)
    running = Counter(job.owner for job in state.jobs.values() if job.gpu is not None)
    rows = [{"license": id_, "waiting": waiting[id_], "running": running[id_]} for id_ in waiting | running]
    return sorted(rows, key=lambda row: (-row["waiting"] - row["running"], row["license"]))


def _peers(state: HubState) -> dict[str, int]:
    """The open connections by role; `other` have not registered yet."""
    found = Counter(peer.role for peer in state.connections.values())
    return {**{role: found[role] for role in ROLES}, "other": found[None]}
