"""What people order for one GPU: turn it off now, keep it on for a while, or forget it. Pure.

A stop goes to the monitor as the end of the idle time, so worker and hub are asked as before each stop, and no job is
cut. Until the next sign of work, the hub does not count the last one, nor the keep-warm hours that go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wakestream.streams.hub import answers, halts, jobs, late_jobs, placement, power, relays
from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.local_time import time_text
from wakestream.streams.hub.needs import ANY_GPU
from wakestream.streams.hub.state import Connection, Gpu, HubState
from wakestream.streams.protocol import messages as m

LONGEST = 24 * 3600
"""Seconds for which a GPU may be kept on."""

USUAL = 3600
"""Seconds for which it is kept on, if the order does not say it."""

_OFF = ("off", "stopping")
_STARTS = ("starting", "booted", "no_capacity")

Refusal = tuple[str, str]


def order(state: HubState, peer: Connection, message: m.GpuAdmin, now: float, decision: HubDecision) -> None:
    """Carry out an order of a client, or refuse it with the reason."""
    gpu, act = state.gpus.get(message.gpu), ACTIONS.get(message.action)
    if jobs.had_its_share(state, peer, now):
        power.too_fast(peer, message.request_id, decision)
    elif act is None:
        why = f'"action" is one of {", ".join(ACTIONS)}, not {message.action[:40]!r}'
        decision.refuse(peer.fd, "bad_request", why, message.request_id)
    elif gpu is None:
        names = ", ".join(sorted(state.gpus)[:10]) or "none"
        why = f"this hub knows no GPU {message.gpu[:100]!r}; it knows {names}"
        decision.refuse(peer.fd, "unknown_gpu", why, message.request_id)
    elif refusal := act(state, peer, gpu, message, now, decision):
        decision.refuse(peer.fd, *refusal, message.request_id)
    else:
        until = round(gpu.kept_until) if message.action == "keep" else None
        done = m.GpuAdminDone(request_id=message.request_id, gpu=gpu.name, action=message.action, until=until)
        decision.send(peer.fd, done)


def _stop(
    state: HubState, peer: Connection, gpu: Gpu, _: m.GpuAdmin, now: float, decision: HubDecision
) -> Refusal | None:
    """End the idle time of a GPU that no job needs."""
    if gpu.phase in _OFF:
        return None
    if gpu.phase in _STARTS:
        return "gpu_in_use", f"{gpu.name} is starting; it can be turned off when it is ready"
    if (held := in_use(state, peer, gpu)) is not None:
        return "gpu_in_use", held
    if not (to := state.with_feature(late_jobs.RELEASE, state.watching(gpu.name))):
        return "no_monitor", f"no monitor of {gpu.name} that can turn it off is connected; start or update it"
    decision.fact(f.MonitorsTold(peer.fd, now), f.GpuOrdered(gpu.name, "stop", now, now))
    decision.send(to, m.Release(gpu=gpu.name, msg="a person turns it off, and no job holds it"))
    return None


def in_use(state: HubState, peer: Connection, gpu: Gpu) -> str | None:
    """Which jobs need the GPU, as a reason not to stop it; None if none does."""
    waiting = [job for job in state.queued() if placement.can(state, gpu, state.need_of(job))]
    needing = [*(state.jobs[id_] for id_ in gpu.leases), *waiting]
    if not needing:
        return f"texts are being made at {gpu.name}; try again when they are done" if relays.active(state) else None
    others = sum(job.owner != peer.owner for job in needing)
    count = f"{len(needing)} (of other licenses: {others})"
    return f"jobs need {gpu.name}: {count}; wait for their end, or cancel them first"


def _keep(
    state: HubState, peer: Connection, gpu: Gpu, message: m.GpuAdmin, now: float, decision: HubDecision
) -> Refusal | None:
    """Do not stop a GPU that is on for some time, although no job needs it."""
    seconds = USUAL if message.seconds is None else message.seconds
    if not 0 < seconds <= LONGEST:
        return "bad_request", f'"seconds" is 1 to {LONGEST}, not {seconds}'
    if state.blocks(gpu.name) or peer.owner in state.unpaid:
        until = state.unpaid_until if peer.owner in state.unpaid else placement.free_at(state, ANY_GPU) or now
        return (
            answers.BUDGET,
            f"the budget is spent until {time_text(until, state.limits.zone)}, so {gpu.name} is not kept on",
        )
    if gpu.phase != "online":
        return "gpu_off", f"{gpu.name} is {gpu.phase}; only a GPU that is on can be kept on. Start a job first"
    decision.fact(f.MonitorsTold(peer.fd, now), f.GpuOrdered(gpu.name, "keep", now + seconds, now))
    return None


def _remove(
    state: HubState, peer: Connection, gpu: Gpu, message: m.GpuAdmin, now: float, decision: HubDecision
) -> Refusal | None:
    """Forget a GPU that is gone. Its costs go too; without this they would grow without end."""
    if not peer.admin:
        return "forbidden", "only a license with the role admin can remove a GPU; use its key with --key-file"
    if gpu.worker is not None or gpu.name in state.named():
        program = "worker" if gpu.worker is not None else "monitor"
        return "gpu_in_use", f"the {program} of {gpu.name} is connected; stop it first, and revoke its license"
    if gpu.leases:
        return "gpu_in_use", f"jobs have {gpu.name}: {len(gpu.leases)}; wait for their end, or cancel them first"
    others = [other for other in state.gpus.values() if other is not gpu]
    waiting = sum(
        count
        for need, count in state.wanted.items()
        if placement.can(state, gpu, need) and not any(placement.can(state, other, need) for other in others)
    )
    if waiting and not message.force:
        return (
            WANTED,
            f"jobs wait for {gpu.name}, and no other GPU can do them: {waiting}; cancel them first, or give --yes",
        )
    decision.fact(f.GpuForgotten(gpu.name))
    jobs.refuse_impossible(state, now, decision)
    return None


WANTED = "gpu_wanted"
"""The code of a refusal that `force` overcomes."""


def _hold(
    state: HubState, peer: Connection, gpu: Gpu, _: m.GpuAdmin, now: float, decision: HubDecision
) -> Refusal | None:
    """Give a GPU no more work; what it has ends."""
    if not gpu.suspended:
        decision.fact(f.MonitorsTold(peer.fd, now), f.GpuSuspended(gpu.name, peer.owner or "a person", now))
        late_jobs.plan(state, now, decision)
    return None


def _resume(
    state: HubState, peer: Connection, gpu: Gpu, _: m.GpuAdmin, now: float, decision: HubDecision
) -> Refusal | None:
    """Give a GPU that was held work again, and wake it if jobs wait."""
    if gpu.suspended:
        decision.fact(f.MonitorsTold(peer.fd, now), f.GpuSuspended(gpu.name, "", now))
        halts.open_again(state, gpu, now, decision)
    return None


ACTIONS: Mapping[str, Callable[[HubState, Connection, Gpu, m.GpuAdmin, float, HubDecision], Refusal | None]] = {
    "stop": _stop,
    "keep": _keep,
    "hold": _hold,
    "resume": _resume,
    "remove": _remove,
}
"""What each action does; it returns the code and the reason of a refusal."""
