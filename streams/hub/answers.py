"""The messages to clients and workers about grants and waits. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wakestream.streams.hub import capabilities, placement
from wakestream.streams.hub.events import HubDecision, Links, Send
from wakestream.streams.hub.ledger import boot_times
from wakestream.streams.hub.local_time import time_text
from wakestream.streams.hub.needs import ANY_GPU, Need
from wakestream.streams.hub.state import Gpu, HubJob, HubState
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

BUDGET = "budget"
"""The phase of jobs that wait because no budget is left."""

_PHASES = {"starting": "booting", "unknown": "booting", "off": "booting", "failed": "booting", "draining": "stopping"}
_HOPE = ("online", "booted", "booting", "stopping", "lost", "no_capacity")


def leave_halted(state: HubState, job: HubJob | None, gpu: Gpu, decision: HubDecision) -> None:
    """Another GPU makes the job now: the worker that could not begin it must not, when it can."""
    before = state.gpus.get(job.gpu or job.last or "") if job is not None else None
    if job is not None and before is not None and before.halted and before.name != gpu.name:
        capabilities.cancel(state, before, job.id, job.owner, decision)


def ack(message: m.Submit, gpu: Gpu, position: int, url: str | None) -> m.Ack:
    """The grant; `position` is the job's place among those that hold the GPU, 1 for the first."""
    return m.Ack(
        request_id=message.request_id,
        task_type=message.task_type,
        msg="a GPU is online and took the job",
        gpu=gpu.name,
        url=url,
        position=position,
    )


UNPAID = "this license has spent its budget for the day"
"""Why a job waits although a GPU may be on."""


class Outlook(NamedTuple):
    """What a waiting job can expect.

    `phase`, when it has a budget again, a sentence, the seconds until a GPU, those until the provider is asked for
    one again, and the reason beside the phase.
    """

    phase: str
    until: float | None
    text: str
    eta: dict[str, float] | None
    retry_in: int | None = None
    why: str | None = None


def outlook(state: HubState, need: Need, now: float) -> Outlook:
    """What jobs with this need can expect."""
    why, until = phase(state, need), placement.free_at(state, need)
    if until is None and placement.halted(state, need) is not None:
        return Outlook(why, None, f"{placement.no_way(state, need)}; the job is queued and starts when it can", None)
    if until is None:
        text = f"no GPU is online ({why}); the job is queued and starts when one is"
        again = retry_in(state, need, now) if why == "no_capacity" else None
        return Outlook(why, None, text, eta(state, now, need), again)
    when = time_text(until, state.limits.zone)
    text = f"{UNPAID if need.unpaid else 'the budget is spent'}; the job is queued and continues at {when}"
    return Outlook(why, until, text, None, None, UNPAID if need.unpaid else None)


def offline(message: m.Submit, position: int, now: float, expect: Outlook) -> m.Offline:
    """The answer to a job that has to wait; `position` is its place in the queue, 1 for the next one."""
    return m.Offline(
        request_id=message.request_id,
        trace_id=message.trace_id or message.request_id,
        ts=int(now),
        task_type=message.task_type,
        msg=expect.text,
        phase=expect.phase,
        position=position,
        eta_s=expect.eta,
        until=None if expect.until is None else math.ceil(expect.until),
        retry_in=expect.retry_in,
        why=expect.why,
    )


def phase(state: HubState, need: Need = ANY_GPU) -> str:
    """The phase of the GPU that will be online first for such a job, in one word for waiting clients."""
    if placement.free_at(state, need) is not None:
        return BUDGET
    if (halted := placement.halted(state, need)) is not None:
        return halted.closed
    if not placement.wakeable(state, need):
        return "no_monitor"
    fit = (gpu for gpu in state.gpus.values() if placement.may(state, gpu, need))
    phases = {_PHASES.get(gpu.phase, gpu.phase) for gpu in fit} or {"booting"}
    return min(phases, key=lambda word: _HOPE.index(word) if word in _HOPE else len(_HOPE))


def retry_in(state: HubState, need: Need, now: float) -> int | None:
    """Seconds until the first provider of a GPU that can do such a job is asked again."""
    fit = (gpu for gpu in state.gpus.values() if gpu.phase == "no_capacity" and placement.may(state, gpu, need))
    times = [gpu.retry_at for gpu in fit if gpu.retry_at is not None]
    return max(0, math.ceil(round(min(times) - now, 3))) if times else None


def eta(state: HubState, now: float, need: Need = ANY_GPU) -> dict[str, float] | None:
    """Seconds until the first GPU for such a job is expected, from its own boots, minus the time for which it boots.

    Boots of others count for a GPU of which none is known.
    """
    fit = [gpu for gpu in state.gpus.values() if placement.may(state, gpu, need)]
    coming = [gpu for gpu in fit if gpu.started(now) or gpu.phase in ("starting", "booted")] or fit
    usual = boot_times([seconds for gpu in fit for seconds in gpu.boots] or (seconds for _, seconds in state.boots))
    left = []
    for woken, boots in [(gpu.started(now), boot_times(gpu.boots) or usual) for gpu in coming] or [(None, usual)]:
        since = woken if woken is not None else now if state.waking is None else state.waking
        left.append({name: round(max(0.0, seconds - (now - since)), 1) for name, seconds in (boots or {}).items()})
    return min(left, key=lambda times: times.get("p50", 0.0)) or None


def dispatch(
    state: HubState, gpu: Gpu, jobs: Sequence[HubJob], now: float, decision: HubDecision, *, alone: bool = False
) -> None:
    """Send jobs to the GPU's worker: together, or `alone`; those that it fetches each for itself."""
    if gpu.worker is None:
        return
    for job in jobs:
        if gpu.fetches(job):
            fetch(state, gpu, job, decision)
    jobs = [job for job in jobs if not gpu.fetches(job)]
    if alone:
        decision.command(*(Send(gpu.worker, _copy(state, gpu, job)) for job in jobs))
    else:
        decision.command(*(Send(gpu.worker, batch) for batch in _batches(state, gpu, jobs, now)))


def fetch(state: HubState, gpu: Gpu, job: HubJob, decision: HubDecision) -> None:
    """Have the GPU's worker do a job whose files are in the depot, and tell its client, if it is connected."""
    if job.depot is None or gpu.worker is None:
        return
    message = d.DepotFetch(
        request_id=job.id,
        task_type=job.task_type,
        payload=_hashed(job.payload, job.depot.files),
        license=job.owner or None,
        files=places(job.depot.files, [file.blake3 for file in job.depot.files]),
        again=job.depot.again or None,
    )
    decision.command(Send(gpu.worker, message, seal=Links(job.owner, job.id, "get")))
    if job.fd is not None:
        decision.send(job.fd, d.DepotProgress(request_id=job.id, step="wait", gpu=gpu.name))


def places(files: Iterable[d.DepotFile], have: Collection[str]) -> tuple[d.DepotPlace, ...]:
    """The places of files, without links, of which the depot has some."""
    return tuple(
        d.DepotPlace(name=file.name, blake3=file.blake3, ext=file.ext, size=file.size, have=file.blake3 in have)
        for file in files
    )


def _hashed(payload: Mapping[str, Any], files: Iterable[d.DepotFile]) -> dict[str, Any]:
    """A payload with the BLAKE3 of each file, in the shape that it has."""
    if isinstance(inputs := payload.get("inputs"), dict):
        refs = {file.name: {"hash": file.blake3, "ext": file.ext} for file in files}
        return {**payload, "inputs": {**inputs, **refs}}
    fields = ((file.name, (("hash", file.blake3), ("ext", file.ext))) for file in files)
    return {**payload, **{f"{name}_{word}": text for name, pairs in fields for word, text in pairs}}


def _batches(state: HubState, gpu: Gpu, jobs: Sequence[HubJob], now: float) -> Iterable[m.DispatchBatch]:
    """The jobs as dispatch frames: one, unless that would be larger than a peer accepts."""
    frames: list[dict[str, Any]] = []
    size = 0
    for job in jobs:
        copy = _copy(state, gpu, job)
        more = len(wire.octets(copy)) + 1
        if frames and size + more > state.limits.batch:
            yield _batch(frames, now)
            frames, size = [], 0
        frames.append(wire.to_frame(copy))
        size += more
    if frames:
        yield _batch(frames, now)


def _copy(state: HubState, gpu: Gpu, job: HubJob) -> m.Submit:
    key = state.keys.get(job.owner, job.owner)
    return capabilities.for_worker(state, gpu, job.submit, job.owner, key, job.fd)


def _batch(frames: Sequence[dict[str, Any]], now: float) -> m.DispatchBatch:
    first = frames[0]["request_id"]
    return m.DispatchBatch(ts=int(now), batch_id=f"{int(now)}-{len(frames)}-{first}"[: m.MAX_ID], jobs=tuple(frames))
