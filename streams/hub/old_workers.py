"""When the job of a deployed worker is over: it says so at the beginning, and never at the end. Pure."""

from __future__ import annotations

from wakestream.streams.hub.needs import RENDER
from wakestream.streams.hub.state import Connection, Gpu, HubJob, HubState
from wakestream.streams.protocol import messages as m


def says_done(state: HubState, job: HubJob) -> bool:
    """Whether the job's client is connected and tells the end of its jobs."""
    peer = state.connections.get(job.fd) if job.fd is not None else None
    return peer is not None and "done" in peer.features


def ends(state: HubState, peer: Connection, job: HubJob, message: m.Result, now: float) -> bool:
    """Whether a result of the worker `peer` is the end of its job.

    The deployed worker, which announces no features, answers a render as soon as it has the job: with a result that
    means "accepted", or with an error if the client has not uploaded the files yet. It sends nothing at the end.
    """
    if peer.features or job.task_type != RENDER:
        return True
    if job.fd is None or says_done(state, job):
        return False
    return bool(message.error) or now - _handed_out(state, job) > state.limits.accepted


def _handed_out(state: HubState, job: HubJob) -> float:
    """When its worker was given the job last: a worker that comes back is given all that it holds."""
    gpu = state.gpus.get(job.gpu or "")
    return max(job.since, gpu.since) if gpu is not None else job.since


def silently_ended(state: HubState, gpu: Gpu, now: float) -> list[str]:
    """The jobs of a deployed worker that has no task any more, as far as their clients do not tell the end either."""
    worker = state.worker_of(gpu)
    if worker is None or worker.features:
        return []
    held = [job for job in map(state.jobs.__getitem__, gpu.leases) if job.fd is not None and not says_done(state, job)]
    return [job.id for job in held if now - _handed_out(state, job) > state.limits.accepted]
