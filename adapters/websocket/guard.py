"""What stands between the hub and a hostile socket: who may come in, how many of one address, and who is cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from loguru import logger
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State

from wakestream.adapters.addresses import HUB_PATH

MAX_BUFFER = 1024 * 1024
"""Bytes that may wait for one slow connection before it is cut."""


class Gate:
    """Counts the connections of each address from their first byte on, and refuses handshakes that are not for us."""

    def __init__(self, most: int, per_address: int) -> None:
        self._most, self._per_address = most, per_address
        self._inside: dict[ServerConnection, str] = {}
        self._of: Counter[str] = Counter()

    def connection(self, *arguments: Any, **options: Any) -> GuardedConnection:
        """For the library, which makes its connections with this."""
        return GuardedConnection(self, *arguments, **options)

    def enter(self, socket: ServerConnection) -> None:
        """A socket was accepted."""
        address = str((socket.remote_address or ("",))[0])
        self._inside[socket] = address
        self._of[address] += 1

    def leave(self, socket: ServerConnection) -> None:
        """It is closed."""
        address = self._inside.pop(socket, None)
        if address is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """The answer to a handshake that is refused; None lets it through."""
        if request.path.partition("?")[0] != HUB_PATH:
            return _answer(HTTPStatus.NOT_FOUND, f"this hub is at {HUB_PATH}")
        if len(self._inside) > self._most:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections, try again later")
        if self._of[self._inside.get(socket, "")] > self._per_address:
            why = f"too many connections from one address, {self._per_address} at most"
            return _answer(HTTPStatus.TOO_MANY_REQUESTS, f"{why}; close some, or raise --per-address at the hub")
        return None

    def cut_handshakes(self) -> None:
        """Let go of those who have not said yet what they want: nobody waits for them when the hub stops."""
        for socket in list(self._inside):
            if socket.protocol.state is State.CONNECTING:
                socket.transport.abort()


class GuardedConnection(ServerConnection):
    """A connection that is cut when it makes the hub answer and reads no answers, as with unread protocol pings."""

    def __init__(self, gate: Gate, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._gate.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._gate.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; the library has answered pings by the time that it returns."""
        super().data_received(data)
        cut_if_slow(self)


def cut_if_slow(socket: ServerConnection) -> None:
    """Cut a connection for which too much waits."""
    transport = socket.transport
    if transport.get_write_buffer_size() > MAX_BUFFER and not transport.is_closing():
        logger.warning("a connection does not read what it is sent; it is cut")
        transport.abort()


def _answer(status: HTTPStatus, text: str) -> Response:
    body = f"{text}\n".encode()
    fields: Mapping[str, str] = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return Response(status.value, status.phrase, Headers(fields), body)
