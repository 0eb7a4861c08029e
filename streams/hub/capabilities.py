"""Which of the hub's messages contain a capability, and when it is renewed. Pure: the adapter creates the tokens.

A capability lets the holder of one job, and of no other, speak to the worker of its GPU for a short time; it stands in
for the license key and for the worker's secret. It is given only where client and worker both announced the feature.
"""

from __future__ import annotations

from itertools import takewhile

from msgspec.structs import replace

from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.state import Gpu, HubState
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import CAPABILITY, ENDED, LEEWAY
from wakestream.streams.recording.secrets import REDACTED

RENEWED_AT = 1 / 3
"""The share of a capability's life that is left when it is renewed."""


def announced(state: HubState, fd: int | None) -> bool:
    """Whether the peer at `fd` knows capabilities, and this hub gives any."""
    peer = state.connections.get(fd) if fd is not None else None
    return peer is not None and CAPABILITY in peer.features and state.limits.capability_ttl > 0


def give(state: HubState, decision: HubDecision, now: float) -> None:
    """Mark the acks of a decision that must contain a capability."""
    for index, command in enumerate(decision.commands):
        if isinstance(command, f.Send) and isinstance(command.message, m.Ack):
            ack = command.message
            seal = _seal(state, command.fd, state.gpus.get(ack.gpu or ""))
            if seal is not None:
                expires = int(now + state.limits.capability_ttl)
                marked = replace(ack, capability=REDACTED, capability_expires=expires)
                decision.commands[index] = replace(command, message=marked, seal=seal)
                decision.fact(f.CapabilityGiven(ack.request_id, float(expires)))


def _seal(state: HubState, fd: int | None, gpu: Gpu | None) -> f.Seal | None:
    if fd is None or gpu is None or not announced(state, fd) or not announced(state, gpu.worker):
        return None
    owner = state.connections[fd].owner
    return None if owner is None else f.Seal(gpu.name, owner)


def renew(state: HubState, now: float, decision: HubDecision) -> None:
    """Send new capabilities for those jobs that hold their GPU and whose own soon end."""
    left = state.limits.capability_ttl * RENEWED_AT  # they stand in the order of their ends
    for id_, _ in [*takewhile(lambda given: given[1] - now <= left, state.capabilities.items())]:
        job = state.jobs.get(id_)
        fd, gpu = (job.fd, state.gpus.get(job.gpu or "")) if job is not None else (None, None)
        seal = _seal(state, fd, gpu)
        if seal is None or fd is None:
            decision.fact(f.CapabilityGiven(id_, None))
            continue
        expires = int(now + state.limits.capability_ttl)
        decision.command(f.Send(fd, m.Capability(request_id=id_, capability=REDACTED, expires=expires), seal=seal))
        decision.fact(f.CapabilityGiven(id_, float(expires)))


def for_worker(state: HubState, gpu: Gpu, job: m.Submit, owner: str, key: str | None, fd: int | None) -> m.Submit:
    """The job as its worker gets it: with the license's id, or for an old worker with the license key."""
    if announced(state, gpu.worker):
        return replace(job, license=owner or None, sender_fd=fd)
    return replace(job, key=key, sender_fd=fd)


def cancel(state: HubState, gpu: Gpu, job: str, owner: str, decision: HubDecision) -> None:
    """Have the GPU's worker stop a job. The message has the license's id if the worker reads it."""
    if gpu.worker is not None:
        license_ = (owner or None) if hears_ends(state, gpu.worker) else None
        decision.send(gpu.worker, m.Cancel(request_id=job, license=license_))


def hears_ends(state: HubState, worker: int | None) -> bool:
    """Whether this worker wants to know which jobs have ended, and their licenses."""
    return announced(state, worker) and worker is not None and ENDED in state.connections[worker].features


def told_of(state: HubState) -> list[int]:
    """The workers, and the depot, to notify about a revoked license."""
    workers = [gpu.worker for gpu in state.gpus.values() if gpu.worker is not None]
    workers += [state.depot] if state.depot is not None else []
    return [fd for fd in workers if announced(state, fd)]


def recently_revoked(state: HubState, now: float) -> list[str]:
    """Revoked licenses whose capabilities may still be valid."""
    return [id_ for id_, at in state.revoked.items() if now - at <= state.limits.capability_ttl + LEEWAY]
