"""Keep-warm hours: GPUs that are on before the first job of a day comes. Pure.

The hub wakes such a GPU before the hours begin, by as much as most boots take. In the hours it answers the monitor that
the GPU is in use, so that the idle time does not stop it. A budget that is spent ends both.
"""

from __future__ import annotations

from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.ledger import boot_times
from wakestream.streams.hub.schedule import covered_until, parse
from wakestream.streams.hub.state import ALL, Gpu, HubState
from wakestream.streams.protocol import messages as m

LEAD = 300.0
"""Seconds before the hours at which a GPU is woken, until the hub has seen boots."""

LONGEST_LEAD = 1800.0
"""The most of them, however long boots take."""

AGAIN = 300.0
"""Seconds after which a monitor whose GPU is still off is asked again."""

_OFF = ("off", "failed", "unknown")


def warm_until(state: HubState, gpu: Gpu, now: float) -> float | None:
    """Until when this GPU is kept on, by its hours or by a person; None if it is not, or its budget is spent."""
    ends = [end for end in (hours_end(state, gpu, now), gpu.kept_until) if end is not None and end > now]
    return None if state.blocks(gpu.name) else max(ends, default=None)


def hours_end(state: HubState, gpu: Gpu, now: float) -> float | None:
    """When the hours end in which this GPU is on; None outside them, and in hours in which a person turned it off."""
    texts = (*state.limits.keep_warm.get(ALL, ()), *state.limits.keep_warm.get(gpu.name, ()))
    if not texts or state.blocks(gpu.name):
        return None
    times = (now, gpu.stopped_at) if gpu.stopped_at > 0 else (now,)
    end, *stopped = (covered_until(map(parse, texts), at, state.limits.zone, _lead(state, gpu)) for at in times)
    return None if end in stopped else end


def _lead(state: HubState, gpu: Gpu) -> float:
    boots = boot_times(gpu.boots or (seconds for _, seconds in state.boots))
    return LEAD if boots is None else min(LONGEST_LEAD, boots["p90"])


def keeps(state: HubState, gpu: Gpu, now: float) -> bool:
    """Whether this GPU must not be stopped now although no job needs it. One that does not serve may be."""
    return gpu.phase in ("online", "draining") and warm_until(state, gpu, now) is not None


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Wake the GPUs whose hours have begun or are about to."""
    if not state.limits.keep_warm:
        return
    for name in sorted(state.named() & state.gpus.keys()):
        gpu = state.gpus[name]
        if gpu.phase in _OFF and now - gpu.warmed >= AGAIN and hours_end(state, gpu, now) is not None:
            decision.fact(f.GpuWarmed(name, now))
            to = [fd for fd in state.monitors if name in state.connections[fd].gpus]
            decision.send(to, m.Boot(request_id=f"warm-{name}", source="hub", msg="its keep-warm hours", gpu=name))
