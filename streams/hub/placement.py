"""Which GPU can do which job. Pure.

A job of any kind goes only to a worker that announced `inputs`. Each job goes only to a GPU that has its kind, or whose
kinds are not known.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from wakestream.operators.model.events import INPUTS
from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.needs import STORING, Need, without_fields
from wakestream.streams.hub.state import ALL, Connection, Gpu, HubJob, HubState
from wakestream.streams.placement import requirements
from wakestream.streams.placement.waiting import Line
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

OFFERED_WITHIN: Final = 30.0
"""Seconds in which a client offers the files of its job to the depot, before a machine is woken for it anyway."""

REPORTED_EVERY: Final = 5.0
"""Seconds between two reports of an upload."""

GUESSED_RATE: Final = 1e6
"""Bytes a second of the first upload of a license, until its client has said it."""

BACK_WITHIN: Final = 60.0
"""Seconds after which the monitor or worker of a GPU should be back, when the hub was restarted or the worker left."""

_SHOWN = 20
"""Names in a sentence."""


def can(state: HubState, gpu: Gpu, need: Need) -> bool:
    """Whether this GPU can do such a job, as far as the hub knows."""
    if (need.gpus and gpu.name not in need.gpus) or lacks(state, gpu, need):
        return False
    if need.depot and gpu.depot is False:
        return False
    if pairs_only(state, gpu):
        return not need.any_kind
    return gpu.kinds is None or need.kind is None or need.kind in gpu.kinds


def known(gpu: Gpu, need: Need) -> bool:
    """Whether a GPU that can do such a job, as far as the hub knows, has told that it has the kind."""
    return gpu.kinds is not None or gpu.pairs_only or need.kind is None


def able(state: HubState, need: Need) -> list[Gpu]:
    """The GPUs that are known to do such a job; without any, those that may."""
    fit = [gpu for gpu in state.gpus.values() if can(state, gpu, need)]
    return [gpu for gpu in fit if known(gpu, need)] or fit


def lacks(state: HubState, gpu: Gpu, need: Need) -> list[str]:
    """What this GPU is known to lack of what a job requires.

    A label is not known until a worker of the GPU has told its labels, or one is connected that tells none.
    """
    told, lacking = gpu.worker is not None or "worker" in gpu.told, []
    for text in need.requires:
        required = requirements.parse(text)
        label = gpu.label(required.name)
        known = told if not required.name.startswith(requirements.KIND) else gpu.kinds is not None or gpu.pairs_only
        if (known or label is not None) and not requirements.met(required, label):
            lacking.append(text)
    return lacking


def label(state: HubState, peer: Connection, gpus: Iterable[str], decision: HubDecision) -> None:
    """Note the labels and slots that a worker or a monitor says of these GPUs, if they have changed."""
    role, labels, slots = peer.role or "", peer.labels or {}, peer.slots or 1
    for gpu in [state.gpus[name] for name in gpus if name in state.gpus]:
        new = peer.labels is not None or peer.slots is not None or role in gpu.told
        if new and (gpu.told.get(role) != labels or (role == "worker" and gpu.slots != slots)):
            decision.fact(f.GpuLabelled(gpu.name, role, labels, slots))


def pairs_only(state: HubState, gpu: Gpu) -> bool:
    """Whether the GPU's worker knows only jobs of a video and an audio file."""
    worker = state.worker_of(gpu)
    return gpu.pairs_only if worker is None else INPUTS not in worker.features


def may(state: HubState, gpu: Gpu, need: Need) -> bool:
    """Whether this GPU can do such a job now: its worker begins tasks, and it has a budget for it."""
    return not (need.unpaid or gpu.closed or state.blocks(gpu.name)) and can(state, gpu, need)


def free_at(state: HubState, need: Need) -> float | None:
    """When a GPU for such a job has a budget again, and the job's license too; None if that is so now."""
    free = _gpu_free_at(state, need)
    return max(free or 0.0, state.unpaid_until) if need.unpaid else free


def _gpu_free_at(state: HubState, need: Need) -> float | None:
    if not state.blocked:
        return None
    names = {name for name in state.named() or {*state.gpus} if _may_have(state, name, need)}
    if not state.blocks(*names):
        return None
    return min(map(state.blocked_until, names or {ALL}))


def _may_have(state: HubState, name: str, need: Need) -> bool:
    if name not in state.gpus:
        return not need.gpus or name in need.gpus
    return can(state, state.gpus[name], need)


def best_gpu(state: HubState, need: Need) -> Gpu | None:
    """The online GPU for such a job that has a budget: one that is known to do it, with the fewest leases."""
    fit = (gpu for gpu in state.gpus.values() if gpu.online and may(state, gpu, need))
    return min(fit, key=lambda gpu: (not known(gpu, need), len(gpu.leases), gpu.name), default=None)


def helps(state: HubState, monitored: Collection[str], need: Need) -> bool:
    """Whether a monitor of these GPUs may wake one for such a job; without names it may be the monitor of any."""
    if need.unpaid or state.blocks(*monitored):
        return False
    if not monitored:
        return not state.gpus or not all(gpu.closed for gpu in state.gpus.values())
    known = ((name, state.gpus.get(name)) for name in monitored if not state.blocks(name))
    return any(_may_have(state, name, need) for name, gpu in known if gpu is None or not gpu.closed)


def halted(state: HubState, need: Need) -> Gpu | None:
    """The GPU for which such a job waits until its worker begins tasks again; None if another one may come first."""
    stopped = [gpu for gpu in state.gpus.values() if gpu.closed and can(state, gpu, need)]
    return stopped[0] if stopped and not wakeable(state, need) else None


def wakeable(state: HubState, need: Need) -> bool:
    """Whether a monitor could wake a GPU for such a job."""
    return any(helps(state, state.connections[fd].gpus, need) for fd in state.monitors)


def wakers(state: HubState, need: Need) -> list[int]:
    """The monitors that could wake a GPU for such a job."""
    return [fd for fd in state.monitors if helps(state, state.connections[fd].gpus, need)]


def waiting_for(state: HubState, gpus: Sequence[Gpu]) -> int:
    """How many waiting jobs one of these GPUs may do and is expected to; all of them if none is named."""
    if not gpus:
        return len(state.queue)
    early, planned = state.early_wanted(), state.planned or f.Planned(0.0, {}, frozenset(), {})
    waiting = sum(count for need, count in early.items() if any(may(state, gpu, need) for gpu in gpus))
    expected = [gpu for gpu in gpus if gpu.name not in planned.needless]
    for (need, owner, priority), line in state.lines.items() if expected else ():
        late = need.depot == STORING or (need.depot and not state.depot_up)
        if late and (need, owner, priority) not in planned.near:
            continue  # its files come later than its machine needs to start
        waiting += len(line) if any(may(state, gpu, state.need(need, owner)) for gpu in expected) else 0
    return waiting


def ready_in(state: HubState, line: Line, now: float) -> float:
    """In how many seconds the first job of a line has its files in the depot; those without a rate wait for others."""

    def left_of(id_: str, left: int, rate: float, at: float) -> float:
        rate = rate or state.rates.get(state.jobs[id_].owner, GUESSED_RATE)
        return max(0.0, left / rate - min(now - at, REPORTED_EVERY))

    seen = {id_: state.uploads[id_] for id_ in line if id_ in state.uploads}
    at_work = {id_: upload for id_, upload in seen.items() if upload[1] or not upload[0]}
    return min((left_of(id_, *upload) for id_, upload in (at_work or seen).items()), default=math.inf)


def will_offer(state: HubState, job: HubJob, now: float) -> bool:
    """Whether the client of a new job will soon say what it puts into the depot: it still hashes the files."""
    peer = state.connections.get(job.fd or 0)
    waits = job.depot is None and not job.direct and now - job.arrived < OFFERED_WITHIN
    return waits and state.depot_up and peer is not None and d.FEATURE in peer.features


def wanting(state: HubState, gpu: Gpu) -> int:
    """How many waiting jobs this GPU can do, whether or not it has a budget for them."""
    return sum(count for need, count in state.wanted.items() if can(state, gpu, need))


def tell(state: HubState, message: m.Message, to: Iterable[int], decision: HubDecision) -> None:
    """Send a message to monitors: to those that do not know jobs of any kind, without the fields of such jobs."""
    if not isinstance(message, m.Submit) or (plain := without_fields(message.payload)) == message.payload:
        decision.send(to, message)
        return
    new = [fd for fd in to if INPUTS in state.connections[fd].features]
    decision.send(new, message)
    decision.send([fd for fd in to if fd not in new], replace(message, payload=plain))


def refusal(state: HubState, need: Need, now: float) -> tuple[str, str] | None:
    """Why no GPU will ever do such a job: a code and a sentence; None if one may."""
    need = need._replace(depot="")
    named = state.named()
    if need.gpus and state.gpus and not any(name in state.gpus or name in named for name in need.gpus):
        return "unknown_kind", f"there is no GPU {_list(need.gpus)}; there are {_list({*state.gpus, *named})}"
    if any(can(state, gpu, need) and _is_hope(state, gpu, named, now) for gpu in state.gpus.values()):
        return None
    unfit = [gpu for gpu in state.gpus.values() if not can(state, gpu, need)]
    if need.gpus:
        unfit = [gpu for gpu in unfit if gpu.name in need.gpus]
    if not unfit:
        return None  # nothing is known of any GPU yet
    plain = need._replace(requires=())
    if short := [gpu for gpu in unfit if can(state, gpu, plain)]:
        return "unmet", _unmet(state, short, need)
    old = [gpu.name for gpu in unfit if pairs_only(state, gpu)]
    kinds = {name for gpu in unfit for name in gpu.kinds or ()}
    if old and not kinds:
        return "unsupported", (
            f"the worker of the GPU {_list(old)} knows only jobs of a video and an audio file, not the kind "
            f"{_kind(need)}; update that worker first"
        )
    update = f". The worker of the GPU {_list(old)} knows no other kinds than lipsync; update it first" if old else ""
    if need.gpus:
        return "unknown_kind", f"the GPU {_list(need.gpus)} does not have the kind {_kind(need)}; it has {_list(kinds)}"
    return "unknown_kind", f"no GPU has the kind {_kind(need)}; there are {_list(kinds)}{update}"


def _unmet(state: HubState, gpus: Sequence[Gpu], need: Need) -> str:
    """Which GPU lacks what, and which labels there are."""
    missing = [f"{gpu.name} lacks {_list(lacks(state, gpu, need))}" for gpu in gpus[:_SHOWN]]
    labels = _list({name for gpu in gpus for name in gpu.labels})
    return f"no GPU has all that the job requires: {'; '.join(missing)}. There are the labels {labels}"


def _is_hope(state: HubState, gpu: Gpu, named: Collection[str], now: float) -> bool:
    """Whether a GPU that may have the kind will come: it is known to have it, or it is not just a name of the past."""
    here = gpu.kinds is not None or gpu.pairs_only or gpu.worker is not None or gpu.name in named
    return here or now - max(gpu.away, gpu.unwatched or gpu.away) < BACK_WITHIN


def any_given_up(state: HubState, now: float) -> bool:
    """Whether a GPU that has not told its kinds does not count as one that may come."""
    named = state.named()
    return any(not _is_hope(state, gpu, named, now) for gpu in state.gpus.values())


def all_described(state: HubState, now: float) -> bool:
    """Whether the kinds are known of all GPUs, so that another kind than theirs is had by none."""
    unknown = (gpu for gpu in state.gpus.values() if gpu.kinds is None and not pairs_only(state, gpu))
    named = state.named()
    return bool(state.gpus) and not any(_is_hope(state, gpu, named, now) for gpu in unknown)


def no_way(state: HubState, need: Need) -> str | None:
    """Why no GPU that can do such a job can be started, although there are monitors; None if one can, now or later."""
    if (gpu := halted(state, need)) is not None:
        return f"the GPU {gpu.name} takes no jobs at present: {gpu.closed_cause or gpu.closed}"
    if not state.monitors or wakeable(state, need) or free_at(state, need) is not None:
        return None
    fit = [gpu for gpu in state.gpus.values() if can(state, gpu, need)]
    have = [gpu.name for gpu in fit if gpu.kinds is not None or gpu.pairs_only]
    if have:
        return f"only the GPU {_list(have)} has the kind {_kind(need)}, and its monitor is not connected"
    may_have = _list(gpu.name for gpu in fit)
    return f"no GPU is known to have the kind {_kind(need)}; {may_have} may have it, and its monitor is not connected"


def _kind(need: Need) -> str:
    return (need.kind or "of a job without a kind")[:40]


def _list(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
