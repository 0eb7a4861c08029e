"""Messages between deployed programs through the hub: texts, videos, a phone's tasks, a render's progress. Pure.

Nothing crosses the border of a license: a connection is addressed by its number only if it is of the same license. A
text worker is recognised by its behaviour: it registers, and never reports that a GPU is online.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wakestream.streams.hub import answers, jobs
from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.state import Connection, HubState
from wakestream.streams.hub.texts import Text
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

BEAR_A_KEY = frozenset({"result", "chatglm_video_result", "gpu.task.progress"})
"""Frames of workers that name their addressee by its key. The adapter puts the license's id beside it."""

_SETTLED = 1.0
"""Seconds after which a worker that has not sent `gpu.power.online` counts as a text worker."""

_COMES_WITHIN = 60.0
"""Seconds from when a GPU is online within which its text worker, if there is one, connects."""

_FOR_THE_HUB = frozenset({"key", "license", "sender_fd"})
_NO_WORKER = "no text worker came to this hub while a GPU was online; start one where the GPU is"
_TOO_LONG = "no text worker came in time; ask again later, or start one where the GPU is"

Relay = Callable[[HubState, Connection, Any, float, HubDecision], None]


def _counted(state: HubState, peer: Connection, frame: Mapping[str, Any], now: float, decision: HubDecision) -> bool:
    """Whether the hub passes this frame on: its sender is within its limit for this second, and the frame is short."""
    id_ = _id(frame)
    if jobs.had_its_share(state, peer, now):
        decision.refuse(peer.fd, "too_fast", "this connection sends too much to others; try again in a second", id_)
        return False
    if len(wire.octets(m.Unknown(type="", frame=frame))) > state.limits.batch:
        decision.refuse(peer.fd, "too_large", f"what is passed on may have {state.limits.batch} bytes at most", id_)
        return False
    decision.fact(f.MonitorsTold(peer.fd, now))
    return True


def _id(frame: Mapping[str, Any]) -> str | None:
    id_ = frame.get("request_id")
    return id_ if isinstance(id_, str) and 0 < len(id_) <= m.MAX_ID else None


def _addressees(state: HubState, frame: Mapping[str, Any]) -> tuple[int, ...]:
    """The connection that a worker's frame names, if it has the frame's license; otherwise all with that license."""
    owner, fd = frame.get("license"), frame.get("sender_fd")
    mine = state.of_owner(owner) if isinstance(owner, str) else ()
    return _named(mine, fd) or tuple(fd for fd in mine if jobs.hears_results(state.connections[fd].features))


def _named(mine: tuple[int, ...], fd: object) -> tuple[int, ...]:
    """The connection of this number, if it is one of these."""
    return tuple(own for own in mine if type(fd) is int and own == fd)


def _without_addressee(frame: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in frame.items() if name not in _FOR_THE_HUB}


# Texts


def url(state: HubState, peer: Connection, message: m.Url, now: float, decision: HubDecision) -> None:
    """A client wants the text of a page."""
    _ask(state, peer, {"type": "url", "url": message.url}, now, decision)


def _video(state: HubState, peer: Connection, message: m.Unknown, now: float, decision: HubDecision) -> None:
    """A client wants a video made of a text."""
    content, id_ = message.frame.get("content"), _id(message.frame)
    if not isinstance(content, str) or not content:
        decision.refuse(peer.fd, "bad_request", 'chatglm_video: "content" must be a string that is not empty', id_)
        return
    named = {"request_id": id_} if id_ is not None else {}
    _ask(state, peer, {"type": message.type, "content": content, **named, "sender_fd": peer.fd}, now, decision)


def _ask(state: HubState, peer: Connection, frame: dict[str, Any], now: float, decision: HubDecision) -> None:
    id_, kind, owner, texts, limits = _id(frame), frame["type"], peer.owner, state.texts, state.limits
    if owner is None or not _counted(state, peer, frame, now, decision):
        return
    if texts.of(owner) >= limits.texts_per_license or len(texts.open) >= limits.texts:
        decision.refuse(peer.fd, "queue_full", "too many texts are open already; ask again when one has come", id_)
        return
    worker = _text_worker(state, now)
    if worker is None and texts.in_vain:
        decision.refuse(peer.fd, "no_text_worker", _NO_WORKER, id_)
        return
    decision.fact(f.TextAsked(kind, owner, peer.fd, frame, now))
    new = texts.open[texts.serial]
    _wake(state, kind, worker is None, new.id, decision)
    if worker is not None:
        _give(state, new, worker, decision)
        ack: dict[str, Any] = {"type": "ack", "msg": "the text worker has the request"}
        decision.send(peer.fd, m.Ack(request_id=id_, task_type=kind, msg=ack["msg"]) if id_ else _as_is(ack))
        return
    why = "no text worker is online; the request waits, and is given up after a while"
    name = id_ or f"gpu_offline_{new.id}"
    offline = m.Offline(request_id=name, ts=int(now), task_type=kind, msg=why, phase=answers.phase(state))
    decision.send(peer.fd, offline, old=peer.old)


def _as_is(frame: Mapping[str, Any]) -> m.Unknown:
    return m.Unknown(type=frame["type"], frame=frame)


def _wake(state: HubState, kind: str, lacking: bool, id_: int, decision: HubDecision) -> None:
    """Send deployed monitors a copy of the request, and ours a `boot` if there is no text worker."""
    to = state.may_wake()
    ours = [fd for fd in to if state.connections[fd].features]
    decision.send([fd for fd in to if fd not in ours], _as_is({"type": kind}))
    if lacking:
        decision.send(ours, m.Boot(request_id=f"text_{id_}", source="hub", msg="a text request waits for its worker"))


def _text_worker(state: HubState, now: float) -> int | None:
    """The connection of the text worker that has the fewest requests."""
    given = {fd: 0 for fd, peer in state.connections.items() if _takes_texts(state, peer, now)}
    for text in state.texts.open.values():
        if text.worker in given:
            given[text.worker] += 1
    return min(given, key=lambda fd: (given[fd], fd), default=None)


def _takes_texts(state: HubState, peer: Connection, now: float) -> bool:
    if peer.role != "worker" or peer.features or peer.url is not None:
        return False
    gpu = state.gpus.get(peer.gpu) if peer.gpu is not None else None
    return now - peer.opened >= _SETTLED and (gpu is None or not gpu.ready)


def _give(state: HubState, text: Text, worker: int, decision: HubDecision) -> None:
    decision.fact(f.TextGiven(text.id, worker))
    decision.send(worker, _as_is({**text.frame, "key": state.keys.get(text.owner, text.owner)}))


def active(state: HubState) -> int:
    """How many texts a worker has, or wait for one while a client of their license is connected."""
    texts = state.texts.open.values()
    return sum(text.worker is not None or bool(state.of_owner(text.owner)) for text in texts)


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Send waiting requests to a text worker if there is one, and fail those that are too old."""
    if not state.texts.open:
        return
    worker = _text_worker(state, now)
    in_vain = worker is None and any(gpu.online and now - gpu.since >= _COMES_WITHIN for gpu in state.gpus.values())
    for text in [*state.texts.open.values()]:
        if now - text.at > state.limits.text_ttl or (text.worker is None and in_vain):
            decision.fact(f.TextEnded(text.id, in_vain))
            if text.worker is None and text.fd in state.of_owner(text.owner):
                decision.refuse(text.fd, "no_text_worker", _NO_WORKER if in_vain else _TOO_LONG, _id(text.frame))
        elif text.worker is None and worker is not None and state.of_owner(text.owner):
            _give(state, text, worker, decision)


_ANSWERS = {"result": "url", "chatglm_video_result": "chatglm_video"}


def _text_result(state: HubState, peer: Connection, message: m.Unknown, now: float, decision: HubDecision) -> None:
    """A text worker's answer, which names no request. If only one request can be meant, the hub adds its id."""
    frame, owner = message.frame, message.frame.get("license")
    if not isinstance(owner, str) or not _counted(state, peer, frame, now, decision):
        return
    meant = state.texts.answered(peer.fd, owner, _ANSWERS[message.type])
    if meant:
        decision.fact(f.TextEnded(meant[0].id))
    clean = _without_addressee(frame)
    if message.type == "chatglm_video_result" and len(meant) == 1 and "request_id" not in clean:
        frame = {"sender_fd": meant[0].fd, **frame}
        clean |= {"request_id": id_} if (id_ := _id(meant[0].frame)) else {}
    decision.send(_addressees(state, frame), _as_is(clean))


def _progress(state: HubState, peer: Connection, message: m.Unknown, now: float, decision: HubDecision) -> None:
    """How far a render is, from its worker."""
    to = _addressees(state, message.frame)
    if to and _counted(state, peer, message.frame, now, decision):
        decision.send(to, _as_is(_without_addressee(message.frame)))


# Between the devices of one license


def _newest(state: HubState, peer: Connection, device: object) -> tuple[int, ...]:
    """The newest other connection of this kind of device; wakestream's own programs cannot handle a task."""
    mine = (state.connections[fd] for fd in state.of_owner(peer.owner or "") if fd != peer.fd)
    fit = [other.fd for other in mine if other.device == device and jobs.hears_results(other.features)]
    return (max(fit),) if fit else ()


def _mobile_task(state: HubState, peer: Connection, message: m.Unknown, now: float, decision: HubDecision) -> None:
    """A phone hands a task to the PC."""
    frame, id_ = message.frame, _id(message.frame)
    to = _newest(state, peer, "pc")
    if not to:
        why = "no PC of this license is connected; start the desktop program there first"
        decision.refuse(peer.fd, "no_pc", why, id_)
    elif _counted(state, peer, frame, now, decision):
        decision.send(to, _as_is({**frame, "key": peer.key, "sender_fd": peer.fd}))
        kind = frame.get("task_type")
        if id_ is not None:
            kind = kind if isinstance(kind, str) else None
            decision.send(peer.fd, m.Ack(request_id=id_, task_type=kind, msg="the PC has the task"))


def _task_result(state: HubState, peer: Connection, message: m.Unknown, now: float, decision: HubDecision) -> None:
    """The PC's answer to a phone."""
    mine = state.of_owner(peer.owner or "")
    to = _named(mine, message.frame.get("sender_fd")) or _newest(state, peer, "mobile")
    if to and _counted(state, peer, message.frame, now, decision):
        decision.send(to, message)


def _sync(state: HubState, peer: Connection, message: m.Unknown, now: float, decision: HubDecision) -> None:
    """Pass a device's frame on unchanged to another device of its license."""
    to = _newest(state, peer, message.frame.get("target_device"))
    if not to:
        why = 'no other device of this license is connected as this "target_device"'
        decision.refuse(peer.fd, "no_device", why, _id(message.frame))
    elif _counted(state, peer, message.frame, now, decision):
        decision.send(to, message)


_RELAYS: Mapping[str, Mapping[str, Relay]] = {
    "worker": {"result": _text_result, "chatglm_video_result": _text_result, "gpu.task.progress": _progress},
    "client": {
        "chatglm_video": _video,
        "mobile_task": _mobile_task,
        "mobile_task_result": _task_result,
        "sync": _sync,
    },
}


def handler(peer: Connection, message: m.Message) -> Relay | None:
    """The handler of a frame of this type from this peer; None for other types."""
    return _RELAYS.get(peer.role or "", {}).get(message.type) if isinstance(message, m.Unknown) else None
