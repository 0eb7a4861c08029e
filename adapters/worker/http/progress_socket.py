"""`/ws/progress/TASK_ID?token=SECRET`: a task's progress for deployed clients. Wakestream clients poll `progress`.

The handshake succeeds even with a wrong token, since a deployed client reads the reason from the text frame that
follows. The task is checked once a second, and a frame is sent only if something has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from wakestream.adapters.net.refusals import WORD
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.worker.http import replies, requests
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w

PREFIX = "/ws/progress/"
LOOK_EVERY = 1.0
_MAX_FRAME = 4096
_CLOSING = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

_UNAUTHORIZED = {"code": 401, "msg": "鉴权失败"}
_UNKNOWN = {"code": 404, "msg": "任务 ID 不存在"}
_FORGOTTEN = {"code": 404, "msg": "任务已被清理"}


def is_handshake(request: web.Request) -> bool:
    """Whether the call is a WebSocket handshake for this address. Other calls are refused in the usual way."""
    return request.path.startswith(PREFIX) and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def tokens(request: web.Request) -> tuple[str, ...]:
    """The secret in the address, decoded and raw, since deployed clients do not encode it."""
    raw = request.rel_url.raw_query_string.partition("token=")[2]
    return request.query.get("token", ""), raw


async def turn_away(request: web.Request) -> web.StreamResponse:
    """Refuse a caller with a wrong token."""
    socket = await _opened(request)
    socket[WORD] = "unauthorized"
    await _end(socket, _UNAUTHORIZED)
    return socket


class ProgressSockets:
    """All of a worker's open sockets."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._open: set[web.WebSocketResponse] = set()

    def routes(self) -> list[web.RouteDef]:
        """The route."""
        return [web.get(f"{PREFIX}{{task_id}}", self.follow)]

    async def close(self, _: web.Application) -> None:
        """Close all sockets, because the worker stops. Clients then continue by polling."""
        for socket in tuple(self._open):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send the task's progress until it ends or the caller disconnects."""
        socket = await _opened(request)
        self._open.add(socket)
        try:
            await self._send_progress(socket, request.match_info["task_id"])
        except (ConnectionError, TimeoutError):
            pass  # the caller has disconnected
        finally:
            self._open.discard(socket)
        return socket

    async def _send_progress(self, socket: web.WebSocketResponse, name: str) -> None:
        sent: tuple[object, ...] = ()
        last = _UNKNOWN
        while (task := w.find(self._queue.state, name)) is not None:
            last = _FORGOTTEN
            progress = replies.progress(self._queue.state, task)
            seen = (progress["status"], progress["progress"], progress["current_frame"])
            if seen != sent:
                await _send(socket, {"code": 0, "data": progress})
                sent = seen
            if not task.unfinished:
                await socket.close()
                return
            if await _is_closed(socket):
                return
        await _end(socket, last)


async def _opened(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False, max_msg_size=_MAX_FRAME)
    await socket.prepare(request)
    return socket


async def _end(socket: web.WebSocketResponse, frame: object) -> None:
    await _send(socket, frame)
    await socket.close()


async def _send(socket: web.WebSocketResponse, frame: object) -> None:
    async with asyncio.timeout(requests.SILENCE):
        await socket.send_str(orjson.dumps(frame).decode())


async def _is_closed(socket: web.WebSocketResponse) -> bool:
    """Wait for the next check; whether the caller has closed. Its messages are ignored."""
    try:
        async with asyncio.timeout(LOOK_EVERY):
            while (await socket.receive()).type not in _CLOSING:
                pass
    except TimeoutError:
        return False
    return True


# Clients that gave their license when they submitted by HTTP: the hub informs them when their task begins and ends.

_MAX_TASKS = 10_000
_MAX_LISTENERS = 1000
_MAX_KEY = 512
_TYPE = "gpu.task.progress"


class ProgressListeners:
    """License key and connection number of each client, by task. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: Recent[str, set[tuple[str, int]]] = Recent(_MAX_TASKS)

    def add(self, task_id: str, submit: Mapping[str, Any]) -> None:
        """Add the client of a submit, if its body has one."""
        key, fd = submit.get("license_key"), submit.get("sender_fd")
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY:
            return
        listeners = self._of.setdefault(task_id, set())
        if len(listeners) < _MAX_LISTENERS:
            listeners.add((key, fd if type(fd) is int else 0))

    def frames(self, task: w.Task) -> Iterator[m.Unknown]:
        """The messages for the listeners of a task that has begun or ended; none while it waits."""
        if task.status == "queued":
            return
        listeners = self._of.get(task.id, set()) if task.unfinished else self._of.pop(task.id, set())
        report = replies.report(w.QueueState(), task)
        told = ("task_id", "status", "progress", "message", "total_frames", "current_frame")
        values = {name: report[name] for name in told}
        if task.unfinished:
            values |= {"status": "processing", "progress": 0}
        for key, fd in sorted(listeners):
            frame = {"type": _TYPE, **values, "key": key, "sender_fd": fd, "ts": int(self._clock())}
            yield m.Unknown(type=_TYPE, frame=frame)
