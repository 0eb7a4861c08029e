"""`/ws/progress/TASK_ID?token=SECRET`: a task's progress as deployed clients watch it. Ours poll `progress`.

The handshake always succeeds, also for a wrong token: a deployed client takes the reason from the one text frame that
follows. The task is looked at once a second, and a frame is sent only when something has changed.
"""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from wakestream.adapters.net.refusals import WORD
from wakestream.adapters.worker.http import replies, requests
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.streams.worker import worker as w

PREFIX = "/ws/progress/"
LOOK_EVERY = 1.0
_MAX_FRAME = 4096
_CLOSING = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

_UNAUTHORIZED = {"code": 401, "msg": "鉴权失败"}
_UNKNOWN = {"code": 404, "msg": "任务 ID 不存在"}
_FORGOTTEN = {"code": 404, "msg": "任务已被清理"}


def is_handshake(request: web.Request) -> bool:
    """Whether the call asks for this socket. Any other call below `PREFIX` is refused as every call is."""
    return request.path.startswith(PREFIX) and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def tokens(request: web.Request) -> tuple[str, ...]:
    """The secret in the address, decoded and as it stands there: deployed clients do not encode it."""
    raw = request.rel_url.raw_query_string.partition("token=")[2]
    return request.query.get("token", ""), raw


async def turn_away(request: web.Request) -> web.StreamResponse:
    """For a caller whose token is wrong."""
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
        """The one address."""
        return [web.get(f"{PREFIX}{{task_id}}", self.follow)]

    async def close(self, _: web.Application) -> None:
        """The worker stops. A client whose socket ends early goes on by polling."""
        for socket in tuple(self._open):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Tell the task's progress until it ends, or until the caller goes."""
        socket = await _opened(request)
        self._open.add(socket)
        try:
            await self._tell(socket, request.match_info["task_id"])
        except (ConnectionError, TimeoutError):
            pass  # the caller is gone
        finally:
            self._open.discard(socket)
        return socket

    async def _tell(self, socket: web.WebSocketResponse, name: str) -> None:
        told: tuple[object, ...] = ()
        last = _UNKNOWN
        while (task := w.find(self._queue.state, name)) is not None:
            last = _FORGOTTEN
            progress = replies.progress(self._queue.state, task)
            seen = (progress["status"], progress["progress"], progress["current_frame"])
            if seen != told:
                await _send(socket, {"code": 0, "data": progress})
                told = seen
            if not task.unfinished:
                await socket.close()
                return
            if await _gone(socket):
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


async def _gone(socket: web.WebSocketResponse) -> bool:
    """Waits for the next look; whether the caller closed meanwhile. What he says is skipped."""
    try:
        async with asyncio.timeout(LOOK_EVERY):
            while (await socket.receive()).type not in _CLOSING:
                pass
    except TimeoutError:
        return False
    return True
