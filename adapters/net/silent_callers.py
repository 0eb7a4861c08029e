"""Closes connections on which no whole request comes, and those that are too many: the server itself keeps all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.net.acceptor import Acceptor
from wakestream.adapters.net.connection_limits import FRESH, ConnectionLimits, Place, Room
from wakestream.adapters.net.counters import Refusals
from wakestream.adapters.net.rate_limit import Proxies

HEAD_WITHIN = 15.0
"""Seconds that a caller has for its first request's head."""

MOST = 2000
"""Connections at a time."""

PER_ADDRESS = 500
"""Of which so many may come from one address."""


@dataclass(frozen=True, slots=True)
class _Seat:
    limits: ConnectionLimits
    place: Place


_SEAT = web.RequestKey("seat", _Seat)


def let_in(request: web.Request) -> None:
    """The caller has shown that it may be here: its connection makes no room for strangers."""
    if (seat := request.get(_SEAT)) is not None:
        seat.limits.let_in(seat.place)


class SilentCallers:
    """The connections of a server, and those of them that have not asked for anything yet."""

    def __init__(
        self,
        refused: Refusals | None = None,
        room: Room | None = None,
        *,
        per_address: int | None = None,
        proxies: Proxies | None = None,
        fresh: float = FRESH,
    ) -> None:
        self._refused = Refusals() if refused is None else refused
        self._limits = ConnectionLimits(
            room or Room.of(MOST), per_address or PER_ADDRESS, self._refused, proxies or Proxies(), fresh
        )
        self.acceptor = Acceptor(self._limits)
        self._waiting: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._places: dict[web.RequestHandler, Place] = {}
        self._closed = False

    def watch(self, server: web.Server) -> web.Server:
        """Watch all that connects to `server` from now on; returns it."""
        made, lost = server.connection_made, server.connection_lost

        def enter(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
            made(handler, transport)
            self._enter(handler, transport)

        def leave(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
            lost(handler, exc)
            self._leave(handler)

        server.connection_made, server.connection_lost = enter, leave  # type: ignore[method-assign]
        return server

    def _enter(self, caller: web.RequestHandler, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:  # a little later: aiohttp logs a traceback for one who is gone before it has begun with him
            loop.call_soon(transport.abort)

        place = self.acceptor.place(transport, end)
        if place is None or self._closed:  # where his TLS handshake ended only now
            end()
        if place is not None:
            self._places[caller] = place
            self._waiting[caller] = loop.call_later(HEAD_WITHIN, self._cut, transport)

    def _leave(self, caller: web.RequestHandler) -> None:
        self._heard(caller)
        if (place := self._places.pop(caller, None)) is not None:
            self._limits.free(place)

    def _heard(self, caller: object) -> None:
        timer = self._waiting.pop(caller, None)  # type: ignore[call-overload]
        if timer is not None:
            timer.cancel()

    def _cut(self, transport: asyncio.Transport) -> None:
        self._refused.count("silent")
        transport.abort()

    def middleware(self) -> Middleware:
        """What notes that a request came, and for whom."""

        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._heard(request.protocol)
            place = self._places.get(request.protocol)
            if place is not None:
                forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
                self._limits.speaks_for(place, self._limits.proxies.caller(request.remote or "", forwarded))
                request[_SEAT] = _Seat(self._limits, place)
            return await handler(request)

        return heard

    def close(self) -> None:
        """Cancel all timers and refuse new connections: the server stops."""
        self._closed = True
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
