"""GPUs whose worker begins no tasks, because its engine cannot work or its disk is full. Pure.

Such a GPU is granted nothing, and no job holds it, so its machine is stopped when it is idle. The jobs wait in the
queue, for this GPU or for another one.
"""

from __future__ import annotations

from wakestream.streams.hub import events as f
from wakestream.streams.hub import jobs, late_jobs, power
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.state import UNWATCHED, Connection, Gpu, HubState
from wakestream.streams.protocol import messages as m

STATES = ("ready", "not_ready", "paused")


def heard(state: HubState, peer: Connection, message: m.WorkerState, now: float, decision: HubDecision) -> None:
    """A worker says whether it begins tasks."""
    if message.state not in STATES:
        decision.refuse(peer.fd, "bad_request", f'"state" is one of {", ".join(STATES)}')
        return
    gpu = state.gpus.get(peer.gpu or "")
    halted = "" if message.state == "ready" else message.state
    cause = (message.reason or "")[: power.LONGEST_CAUSE] if halted else ""
    if gpu is None or (gpu.halted, gpu.halt_cause) == (halted, cause):
        return
    decision.fact(f.GpuHalted(gpu.name, halted, cause, now))
    listening = state.with_feature(m.WorkerState.FEATURE, state.clients)
    decision.send(listening, m.WorkerState(gpu=gpu.name, state=message.state, reason=cause or None))
    if halted:
        late_jobs.give_back(state, gpu.leases, now, decision)
        late_jobs.plan(state, now, decision)
    elif gpu.online and gpu.ready:
        jobs.grant(state, gpu, state.url_of(gpu), now, decision, again=False)


def open_again(state: HubState, gpu: Gpu, now: float, decision: HubDecision) -> None:
    """Give a GPU that was given no work what waits, or wake it for that."""
    if gpu.online and gpu.ready:
        jobs.grant(state, gpu, state.url_of(gpu), now, decision, again=False)
        return
    for fd in jobs.monitors_of(state, gpu.name):
        power.boot_for_the_queue(state, state.connections[fd], decision)
    late_jobs.plan(state, now, decision)


def registered(state: HubState, gpu: str | None, features: frozenset[str], now: float, decision: HubDecision) -> None:
    """An older worker does not say whether it begins tasks. A newer one learns that its monitor is gone."""
    known = state.gpus.get(gpu or "")
    if known is not None and known.orphan == UNWATCHED:
        power.tell_worker(state, known, decision)
    if known is not None and known.halted and m.WorkerState.FEATURE not in features:
        decision.fact(f.GpuHalted(known.name, "", "", now))


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Start a GPU again that was stopped long ago while its worker began no tasks: its disk may have room by now."""
    for gpu in state.gpus.values():
        if gpu.halted and gpu.worker is None and now - gpu.halted_at >= state.limits.halted:
            decision.fact(f.GpuHalted(gpu.name, "", "", now))
            open_again(state, gpu, now, decision)
