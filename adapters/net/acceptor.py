"""Counts connections at the accept, before TLS.

asyncio's loop accepts by the listening socket's own `accept`, and TLS begins after it; so this is where callers are
counted, as one that never ends its handshake costs more than most. The socket that it gives counts until it is closed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from loguru import logger
from websockets.asyncio.server import Server

from wakestream.adapters.net.connection_limits import ConnectionLimits, Place

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_AT_ONCE = 100
"""Callers that are turned away one after the other before the loop turns to something else."""

_IN_TURN = 8
"""Callers that are accepted before the loop hears them: many that come at once would all be strangers."""


class Acceptor:
    """Accepts callers within `limits`."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._places: dict[int, Place] = {}

    async def bind(self, host: str, port: int, kept: list[Listening] | None = None) -> list[Listening]:
        """A socket for each address that `host` has, not listening yet. `OSError` when one of them is taken.

        `kept` holds them from the first call on, for the next one: in between callers wait, and are not refused.
        """
        sockets = kept or await _bound(host, port)
        if kept is not None and os.name == "posix":  # the loop of Windows takes a socket only once
            kept[:] = sockets
            sockets = [listening.dup() for listening in kept]
        for listening in sockets:
            listening.acceptor = self
        return sockets

    def take(self, fresh: _Accepted, peer: Any) -> bool:
        """Give the socket a place; False when there is no free one."""
        place = self.limits.take(_host(peer), fresh.hang_up)
        if place is not None:
            self._places[fresh.fileno()] = place
            fresh.acceptor = self
        return place is not None

    def leave(self, number: int) -> None:
        """The socket of that number is closed."""
        if (place := self._places.pop(number, None)) is not None:
            self.limits.free(place)

    def place(self, transport: asyncio.BaseTransport, end: Callable[[], None]) -> Place | None:
        """Where the caller of a new connection was counted; `end` ends it from now on.

        Where the loop accepts by itself, as on Windows, it is counted only now: None when there is no place.
        """
        used = transport.get_extra_info("socket")
        place = self._places.get(used.fileno()) if used is not None else None
        if place is None:
            return self.limits.take(_host(transport.get_extra_info("peername")), end)
        place.end = end
        return place


async def _bound(host: str, port: int) -> list[Listening]:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        sockets = []
        for family, address in sorted({(family, address) for family, *_, address in infos}, key=str):
            # With the protocol's number: for no other asyncio sets TCP_NODELAY.
            listening = stack.enter_context(Listening(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            listening.bind(address)
            sockets.append(listening)
        stack.pop_all()
    return sockets


class Listening(socket.socket):
    """Gives only callers that have a place."""

    acceptor: Acceptor
    accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.accepted == _IN_TURN:
            self.accepted = 0
            raise BlockingIOError
        for _ in range(_AT_ONCE):
            try:
                plain, peer = super().accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self.acceptor.limits.make_room()
                raise
            fresh = _Accepted(self.family, self.type, self.proto, plain.detach())
            if self.acceptor.take(fresh, peer):
                self.accepted += 1
                return fresh, peer
            fresh.close()
        raise BlockingIOError


class _Accepted(socket.socket):
    """Gives its place back when it is closed."""

    acceptor: Acceptor | None = None

    def hang_up(self) -> None:
        """End the connection; the user of the socket then closes it."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._leave()
        super().close()

    def detach(self) -> int:
        self._leave()
        return super().detach()

    def _leave(self) -> None:
        if self.acceptor is not None and self.fileno() != -1:
            self.acceptor.leave(self.fileno())


def _host(peer: Any) -> str:
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def in_one_line(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """For `set_exception_handler`: that the system has no more sockets is no fault of the code, and is no traceback."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in _EXHAUSTED and "accept" in str(context.get("message")):
        logger.error("no further connection can be accepted: {}; tried again in a second", error.strerror)
        return
    loop.default_exception_handler(dict(context))


# Closes a listener without losing a connection that it has just accepted.


async def accept_no_more(listener: asyncio.Server | Server) -> None:
    """Accept no further connection; await it before the listener is closed.

    asyncio accepts a connection in two iterations of the loop. If the listener is closed between them, asyncio drops
    the connection without closing it, and the client waits until the garbage collector runs.
    """
    loop = listener.get_loop()
    for listening in listener.sockets:
        with suppress(NotImplementedError):  # the loop of Windows has no readers; a last connection may be lost there
            loop.remove_reader(listening.fileno())
    for _ in range(2):  # the socket is accepted in the first iteration, the protocol is connected in the second
        await asyncio.sleep(0)
