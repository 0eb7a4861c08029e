"""The hub as it is deployed: one record per key and task type, a queue that it hands out one frame at a time, and no
answer to what it does not know.

It never looks at who registers, sends each job to every worker, also to one that only knows texts, and forgets a queued
job without a word. What our programs send and no deployed part sends is kept in `faults`, which must stay empty.
"""

import itertools
import re
import time
from asyncio import Condition
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.field.frames import Frame
from tests.support.field.hub_room import ACK, Peer, id_of
from tests.support.field.hub_texts import Texts
from tests.support.ports import free_port
from wakestream.adapters.net.acceptor import accept_no_more

BUSY_FOR = 600
HANDED_OUT = 50
ONLINE = "GPU服务器已上线，可以开始处理任务"
SWALLOWED = frozenset({
    "gpu.power.booted", "gpu.power.boot.result", "gpu.task.query", "gpu.task.query.response", "gpu.task.progress",
    "pong",
})  # fmt: skip
"""What deployed parts say and this hub does not pass on."""

_MD5 = re.compile(r"[0-9a-f]{32}").fullmatch
_SUBMIT = {"type", "request_id", "task_type", "payload"}


@dataclass(slots=True)
class Record:
    """The one job that a key may have of a task type."""

    request_id: Any
    state: str
    since: int


class Clock:
    """Seconds that a test can move."""

    def __init__(self) -> None:
        self.moved = 0.0

    def move(self, seconds: float) -> None:
        self.moved += seconds

    def __call__(self) -> float:
        return time.time() + self.moved


@dataclass(slots=True)
class Store:
    """What outlives the hub's process: the records, not the queue."""

    records: dict[tuple[str, str], Record] = field(default_factory=dict)


class FieldHub(Texts):
    """`heard` has what came, as (fd, frame), oldest first. `swallows` names further types that it ignores.

    What it `complains` of it says to each submit, before its answer and without the job's name.

    `before_result` is awaited before a worker's result counts. `time.move(600)` makes its records old; `records`
    outlive it in a `Store`.
    """

    def __init__(self, store: Store | None = None, clock: Clock | None = None) -> None:
        self.time = clock or Clock()
        super().__init__(self.time)
        self.url = ""
        self.records = (store or Store()).records
        self.heard: list[tuple[int, Frame]] = []
        self.refused: list[Frame] = []
        self.faults: list[str] = []
        self.swallows: set[str] = set()
        self.complains = ""
        self.before_result: Callable[[], Awaitable[object]] | None = None
        self.changed = Condition()
        self._fds = itertools.count(7)

    # What tests look at

    async def until(self, seen: Callable[[], object]) -> None:
        """Returns when `seen()` is true; it is asked after each frame and each connection that ends."""
        async with self.changed:
            await self.changed.wait_for(seen)

    def said(self, kind: str, **wanted: Any) -> list[Frame]:
        """The frames of a type that came, with these fields."""
        return [frame for _, frame in self.heard if frame.get("type") == kind and wanted.items() <= frame.items()]

    @property
    def submits(self) -> list[Frame]:
        return self.said("gpu.job.submit")

    # Connections

    async def serve(self, socket: ServerConnection) -> None:
        fd = next(self._fds)
        peer = self.peers[fd] = Peer(socket, fd)
        await peer.say({"type": "connected", "fd": fd})
        try:
            async for raw in socket:
                await self._read(peer, raw)
                await self._notify()
        except ConnectionClosed:
            pass
        finally:
            del self.peers[fd]
            await self._notify()

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _read(self, peer: Peer, raw: str | bytes) -> None:
        try:
            frame = orjson.loads(raw)
        except orjson.JSONDecodeError:
            text = raw if isinstance(raw, str) else ""
            frame = {"type": "url", "url": text} if text.startswith(("http://", "https://")) and peer.key else None
        if not isinstance(frame, dict):
            return
        self.heard.append((peer.fd, frame))
        kind = frame.get("type")
        if kind in self.swallows:
            return
        handler = _HANDLERS.get(str(kind))
        if handler is not None:
            await handler(self, peer, frame)
        elif kind not in SWALLOWED:
            self.faults.append(f"the hub was sent a {kind!r}, which no deployed part says")

    # Registers, power and status

    async def _ping(self, peer: Peer, _: Frame) -> None:
        await peer.say({"type": "pong"})

    async def _register(self, peer: Peer, frame: Frame) -> None:
        if frame.get("role") == "worker":
            peer.roles.add("worker")
            await peer.say({"type": "registered", "role": "worker"})
            await self._online({"source": "worker", "worker_fd": peer.fd})
            await self._hand_out(peer)
        elif frame.get("role") == "gpu_monitor":
            peer.roles.add("gpu_monitor")
            await peer.say({"type": "registered", "role": "gpu_monitor"})
        elif frame.get("key"):
            peer.roles.add("client")
            peer.key, peer.device = str(frame["key"]), str(frame.get("device_type", "pc"))
            await peer.say({"type": "registered", "key": peer.key, "device_type": peer.device})

    async def _online(self, data: Frame, request_id: str = "") -> None:
        await self.tell({"type": "gpu_online", "msg": ONLINE})
        await self.tell(self._power("online", request_id, {"status": "online", "msg": ONLINE, **data}))

    async def _hand_out(self, worker: Peer) -> None:
        for key, jobs in self.queue.items():
            self.queue[key], now = jobs[HANDED_OUT:], jobs[:HANDED_OUT]
            for job in now:  # the record stays `queued`
                await worker.say(job)

    async def _power_online(self, peer: Peer, frame: Frame) -> None:
        if "worker" in peer.roles:
            await self._online({"from": "worker", "request_id": frame.get("request_id") or ""})
            await self._hand_out(peer)
        elif "gpu_monitor" in peer.roles:
            await self._online({"from": "gpu_monitor", "request_id": frame.get("request_id") or ""})

    async def _boot(self, peer: Peer, frame: Frame) -> None:
        about = {"request_id": id_of(frame, "boot"), "msg": frame.get("msg", "")}
        await self.tell({"type": "gpu.power.boot", "source": "client", "fd": peer.fd, **about}, "gpu_monitor")

    async def _status_query(self, peer: Peer, frame: Frame) -> None:
        about = {"sender_fd": peer.fd, "request_id": id_of(frame, "sq")}
        await self.tell({"type": "gpu.status.query", "source": "client", **about}, "gpu_monitor")

    async def _status_response(self, peer: Peer, frame: Frame) -> None:
        if "gpu_monitor" in peer.roles:
            state = str(frame.get("State", frame.get("state", "")))
            word = str(frame.get("status", "")).lower()
            word = "starting" if state == "Initializing" else {"online": "running"}.get(word, word)
            about = {"request_id": frame.get("request_id", ""), "fresh": bool(frame.get("fresh", False))}
            await self.tell({"type": "gpu.status.response", "status": word, "State": state, **about})

    async def _task_active(self, peer: Peer, frame: Frame) -> None:
        if "worker" in peer.roles:
            about = {name: frame.get(name, "") for name in ("task_id", "task_type", "ts")}
            await self.tell({"type": "gpu.task.active", **about}, "gpu_monitor")

    # Jobs and their results

    async def _submit(self, peer: Peer, frame: Frame) -> None:
        if "client" not in peer.roles:
            return
        if self.complains:
            await peer.say({"type": "error", "message": self.complains})
        if not set(frame) <= _SUBMIT:
            self.faults.append(f"a submit with {sorted(set(frame) - _SUBMIT)}")
        payload = frame.get("payload")
        hashes = [payload[name] for name in ("video_hash", "audio_hash") if name in payload] if payload else []
        if not all(_MD5(str(digest)) for digest in hashes):
            self.faults.append(f"a submit of {hashes}, which are no MD5")
        task_type, request_id = frame.get("task_type", ""), id_of(frame, "gt")
        if (busy := self._busy(peer.key, task_type)) is not None:
            await self._refuse(peer, busy, request_id, task_type)
            return
        about = {"type": "gpu.job.submit", "task_type": task_type}
        job = {
            **about,
            "request_id": request_id,
            "key": peer.key,
            "sender_fd": peer.fd,
            "payload": frame.get("payload"),
        }
        await self._take(peer, job, about, request_id if isinstance(request_id, str) else None, task_type)

    def _busy(self, key: str, task_type: str) -> Record | None:
        """The record that stands in the way. A queued one does not: its job leaves the queue without a word."""
        record = self.records.get((key, task_type))
        if record is None or int(self.clock()) - record.since > BUSY_FOR:
            return None
        if record.state == "queued":
            self.queue[key] = [job for job in self.queue[key] if job.get("request_id") != record.request_id]
            return None
        return record

    async def _refuse(self, peer: Peer, busy: Record, request_id: Any, task_type: str) -> None:
        text = f"任务处理中，请等待完成（已用时 {int(self.clock()) - busy.since}秒）"
        about = {"request_id": request_id, "task_type": task_type, "msg": text, "old_request_id": busy.request_id}
        self.refused.append(about)
        await peer.say({"type": "error", **about})

    async def _take(self, peer: Peer, job: Frame, copy: Frame, answered: str | None, task_type: str) -> None:
        workers = self._of("worker")
        state = "processing" if workers else "queued"
        self.records[peer.key, task_type] = Record(job["request_id"], state, int(self.clock()))
        for worker in workers:
            await worker.say(job)
        await self.tell({**copy, "key": peer.key}, "gpu_monitor")
        if not workers:
            self._keep(peer.key, job)
        if answered is not None and workers:
            await peer.say({"type": "ack", "request_id": answered, "task_type": task_type, "msg": ACK})
        elif answered is not None:
            await self._offline(peer, answered, task_type)

    async def _result(self, peer: Peer, frame: Frame) -> None:
        if "worker" not in peer.roles:
            return
        if self.before_result is not None:
            await self.before_result()
        key, task_type = str(frame.get("key") or ""), str(frame.get("task_type") or "")
        if key and task_type:
            self.records.pop((key, task_type), None)  # whatever the request_id
        bad = {name: frame[name] for name in ("error", "error_msg") if frame.get(name)}
        about = {"request_id": frame.get("request_id", ""), "task_type": task_type}
        for name in ("gpu.job.result", "gpu_task_result"):
            outcome = bad if bad.get("error") else {"result": frame.get("result")}
            await self._to_sender(frame, {"type": name, **about, **outcome})


_HANDLERS = {
    "ping": FieldHub._ping,
    "register": FieldHub._register,
    "gpu.power.online": FieldHub._power_online,
    "gpu.power.boot": FieldHub._boot,
    "gpu.status.query": FieldHub._status_query,
    "gpu.status.response": FieldHub._status_response,
    "gpu.task.active": FieldHub._task_active,
    "gpu.job.submit": FieldHub._submit,
    "gpu_task": FieldHub._submit,
    "gpu.job.result": FieldHub._result,
    "gpu_task_result": FieldHub._result,
    "url": FieldHub._url,
    "result": FieldHub._text,
    "chatglm_video": FieldHub._video,
    "chatglm_video_result": FieldHub._video_result,
    "mobile_task": FieldHub._mobile_task,
    "mobile_task_result": FieldHub._mobile_result,
    "sync": FieldHub._sync,
}


@asynccontextmanager
async def field_hub(
    *, store: Store | None = None, clock: Clock | None = None, port: int | None = None, kind: type[FieldHub] = FieldHub
) -> AsyncIterator[FieldHub]:
    """A deployed hub on loopback; it sends no protocol pings. A later one with the same `store` is the same hub."""
    hub, port = kind(store, clock), port or free_port()
    async with serve(hub.serve, "127.0.0.1", port, ping_interval=None, close_timeout=0.2) as server:
        hub.url = f"http://127.0.0.1:{port}"
        try:
            yield hub
        finally:
            await accept_no_more(server)
