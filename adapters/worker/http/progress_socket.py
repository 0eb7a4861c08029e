"""`/ws/progress/TASK_ID?token=SECRET`: a task's progress for deployed clients. Wakestream clients poll `progress`.

The handshake succeeds even with a wrong token, since a deployed client reads the reason from the text frame that
follows. The task is checked once a second, and a frame is sent only if something has changed.
"""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from wakestream.adapters.net.refusals import WORD
from wakestream.adapters.worker.http import replies, requests
from wakestream.adapters.worker.task_queue import TaskQueue
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
