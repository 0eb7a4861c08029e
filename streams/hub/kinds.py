"""What the GPUs can do: the hub learns it from the workers, keeps it, and tells clients. Pure.

A worker describes its kinds one after the other. They are kept on its connection until they are complete and it is
known which GPU it has; then they are journaled, so that they are also known while the machine sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from wakestream.operators.model.events import INPUTS
from wakestream.streams.hub import events as f
from wakestream.streams.hub import jobs, placement
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.needs import weight
from wakestream.streams.hub.state import Connection, Gpu, HubState
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.kinds import KINDS, MAX_KIND, MAX_KIND_DEPTH, MAX_KINDS_BYTES, flat_kind, kind_from

Kinds = tuple[Mapping[str, Any], ...]

A_SECOND: Final = 20
"""Answers to one connection in a second."""


def heard(state: HubState, peer: Connection, message: m.GpuKinds, now: float, decision: HubDecision) -> None:
    """A worker describes one of its kinds; after the last one, they are its GPU's."""
    before = () if message.number <= 1 or peer.described else peer.kinds or ()
    fault = _fault(state, peer, message, before, now)
    if fault is not None:
        decision.refuse(peer.fd, *fault)
        _complete(state, peer, None, now, decision)
        return
    decision.fact(f.MonitorsTold(peer.fd, now))
    kinds = (*before, flat_kind(message.kind)) if message.kind is not None else None
    if message.number < message.of:
        decision.fact(f.KindsHeard(peer.fd, kinds))
    else:
        _complete(state, peer, kinds, now, decision)


def _fault(
    state: HubState, peer: Connection, message: m.GpuKinds, before: Sequence[Mapping[str, Any]], now: float
) -> tuple[str, str] | None:
    """Why the hub does not take this description, or None."""
    if message.of == 0 and message.kind is None:
        return None
    if message.kind is None or not 1 <= message.number <= message.of or message.number != len(before) + 1:
        return "bad_request", 'gpu.kinds: send each kind once, in order, with "number" from 1 to "of"'
    if jobs.had_its_share(state, peer, now):
        return "too_fast", "this connection sends too much; send the kinds again in a second"
    size = weight((message.kind,))
    if message.of > state.limits.kinds or size > MAX_KIND or size + weight(before) > MAX_KINDS_BYTES:
        return "too_large", (
            f"a worker may describe {state.limits.kinds} kinds, each with {MAX_KIND} bytes and all with "
            f"{MAX_KINDS_BYTES}; this hub does not know its kinds"
        )
    if state.kinds_bytes + size > state.limits.kinds_bytes:
        return "too_large", f"this hub keeps {state.limits.kinds_bytes} bytes of kinds at most; it has no room for this"
    if wire.is_deeper(message.kind, MAX_KIND_DEPTH):
        return "bad_request", f"gpu.kinds: a kind may be nested {MAX_KIND_DEPTH} deep at most"
    try:
        name = kind_from(message.kind).name
    except ValueError as error:
        return "bad_request", f"gpu.kinds: {str(error)[:300]}"
    return ("bad_request", f"gpu.kinds: {name} comes twice") if name in (kind["name"] for kind in before) else None


def _complete(state: HubState, peer: Connection, kinds: Kinds | None, now: float, decision: HubDecision) -> None:
    """These are all kinds of this worker; they become those of its GPU, if it is known which one that is."""
    gpu = state.gpus.get(peer.gpu or "")
    if gpu is None or _must_wait(state, gpu, kinds, now):
        decision.fact(f.KindsHeard(peer.fd, kinds, complete=True))
        return
    decision.fact(f.KindsHeard(peer.fd, None))
    if not _differs(gpu, kinds):
        return
    _describe(state, gpu, kinds, now, decision)
    if gpu.online:
        jobs.grant(state, gpu, state.url_of(gpu), now, decision, again=False)
    else:
        jobs.refuse_impossible(state, now, decision)


def tick(state: HubState, now: float, decision: HubDecision) -> bool:
    """Take over the kinds of a worker that described them again too soon; returns whether there was one."""
    for peer in state.connections.values():
        gpu = state.gpus.get(peer.gpu or "") if peer.described else None
        if gpu is not None and not _must_wait(state, gpu, peer.kinds, now):
            _complete(state, peer, peer.kinds, now, decision)
            return True
    return False


def of_worker(state: HubState, gpu: Gpu, worker: Connection, now: float, decision: HubDecision) -> None:
    """Note what is known of the kinds of a GPU whose worker is coming online."""
    old = INPUTS not in worker.features
    kinds = tuple(gpu.kinds.values()) if gpu.kinds is not None else None
    if worker.described and not _must_wait(state, gpu, worker.kinds, now):
        kinds = worker.kinds
        decision.fact(f.KindsHeard(worker.fd, None))
    elif KINDS not in worker.features:
        kinds = None
    if _differs(gpu, kinds, old):
        _describe(state, gpu, kinds, now, decision, pairs_only=old)


def _describe(
    state: HubState, gpu: Gpu, kinds: Kinds | None, now: float, decision: HubDecision, pairs_only: bool = False
) -> None:
    """Journal the GPU's kinds and tell clients."""
    decision.fact(f.GpuDescribed(gpu.name, now, kinds, pairs_only))
    decision.send(state.with_feature(KINDS, state.clients), m.KindsChanged(gpu=gpu.name))


def _must_wait(state: HubState, gpu: Gpu, kinds: Kinds | None, now: float) -> bool:
    """Whether a change comes too soon after another: each is journaled."""
    return now - gpu.described_at < state.limits.kinds_every and _differs(gpu, kinds)


def _by_name(kinds: Kinds | None) -> dict[str, Mapping[str, Any]] | None:
    return None if kinds is None else {str(kind["name"]): kind for kind in kinds}


def _differs(gpu: Gpu, kinds: Kinds | None, pairs_only: bool = False) -> bool:
    return gpu.pairs_only != pairs_only or gpu.kinds != _by_name(kinds)


# Questions of clients


def query(state: HubState, peer: Connection, message: m.KindsQuery, now: float, decision: HubDecision) -> None:
    """Tell a client all kinds and who has them, in as many frames as that takes."""
    if peer.told_in(now) >= A_SECOND:
        decision.refuse(peer.fd, "too_fast", "this connection asks too often; try again in 1 s", message.request_id)
        return
    decision.fact(f.MonitorsTold(peer.fd, now))
    frames = [*_frames(state)] or [()]
    complete = placement.all_described(state, now)
    for number, kinds in enumerate(frames, 1):
        answer = m.KindsResponse(
            request_id=message.request_id, number=number, of=len(frames), kinds=kinds, complete=complete
        )
        decision.send(peer.fd, answer)


def _frames(state: HubState) -> Iterator[tuple[dict[str, Any], ...]]:
    frame: list[dict[str, Any]] = []
    room = state.limits.batch
    for entry in _entries(state):
        size = len(orjson.dumps(entry)) + 1
        if frame and size > room:
            yield tuple(frame)
            frame, room = [], state.limits.batch
        frame.append(entry)
        room -= size
    if frame:
        yield tuple(frame)


def _entries(state: HubState) -> Iterator[dict[str, Any]]:
    """Each description with the GPUs that have it; a description with many GPUs comes several times."""
    kinds_with_gpus: dict[bytes, tuple[Mapping[str, Any], list[dict[str, Any]]]] = {}
    for gpu in state.gpus.values():
        for kind in (gpu.kinds or {}).values():
            text = orjson.dumps(kind, option=orjson.OPT_SORT_KEYS)
            kinds_with_gpus.setdefault(text, (kind, []))[1].append({"gpu": gpu.name, "online": gpu.online})
    for kind, gpus in kinds_with_gpus.values():
        for at in range(0, len(gpus), _AT_ONCE):
            yield {"kind": kind, "gpus": gpus[at : at + _AT_ONCE]}


_AT_ONCE: Final = 20
"""GPUs beside a description: with their longest names, a frame can hold this many and the longest description."""
