"""Closes connections that send no complete request, and those beyond the limits: aiohttp itself keeps them all."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.net.acceptor import Acceptor
from wakestream.adapters.net.connection_limits import ConnectionLimits, Place, Proxies, Refusals, Room

HEAD_WITHIN = 15.0
"""Seconds that a caller has for its first request's head."""

MOST = 2000
"""Connections at a time."""

PER_ADDRESS = 500
"""Connections of one address at a time."""


_BY_PROXY = web.RequestKey("by_proxy", bool)
_LET_IN = web.RequestKey("let_in", partial[None])


def let_in(request: web.Request, owner: str = "") -> None:
    """The caller is authorized: strangers no longer take the place of its connection. It may be one of an `owner`."""
    if (authorized := request.get(_LET_IN)) is not None:
        authorized(owner)


def scheme_of(request: web.Request) -> str:
    """The scheme of the address that was called; of several that a named proxy tells the last one counts."""
    told = ",".join(request.headers.getall("X-Forwarded-Proto", ())).rpartition(",")[2].strip().lower()
    return told if request.get(_BY_PROXY) and told in ("http", "https") else request.scheme


class SilentCallers:
    """The connections of a server, and those that have not sent a request yet."""

    def __init__(
        self,
        refused: Refusals | None = None,
        room: Room | None = None,
        *,
        per_address: int | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self.refused = Refusals() if refused is None else refused
        self._limits = ConnectionLimits(
            room or Room.of(MOST), per_address or PER_ADDRESS, self.refused, proxies or Proxies()
        )
        self.acceptor = Acceptor(self._limits)
        self._waiting: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._places: dict[web.RequestHandler, Place] = {}
        self._closed = False

    def watch(self, server: web.Server) -> web.Server:
        """Watch all new connections of `server`; returns it."""
        made, lost = server.connection_made, server.connection_lost

        def enter(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
            made(handler, transport)
            loop = asyncio.get_running_loop()

            def end() -> None:  # later: aiohttp logs a traceback if a connection ends before it has started
                loop.call_soon(transport.abort)

            place = self.acceptor.place(transport, end)
            if place is None or self._closed:  # the server stopped during the TLS handshake
                end()
            if place is not None:
                self._places[handler] = place
                self._waiting[handler] = loop.call_later(HEAD_WITHIN, self._cut, transport)

        def leave(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
            lost(handler, exc)
            self._heard(handler)
            if (place := self._places.pop(handler, None)) is not None:
                self._limits.free(place)

        server.connection_made, server.connection_lost = enter, leave  # type: ignore[method-assign]
        return server

    def _heard(self, caller: object) -> None:
        timer = self._waiting.pop(caller, None)  # type: ignore[call-overload]
        if timer is not None:
            timer.cancel()

    def _cut(self, transport: asyncio.Transport) -> None:
        self.refused.count("silent")
        transport.abort()

    def middleware(self) -> Middleware:
        """Notes that a request arrived, and from which address."""

        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._heard(request.protocol)
            request[_BY_PROXY] = self._limits.proxies.include(request.remote or "")
            place = self._places.get(request.protocol)
            if place is not None:
                forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
                self._limits.speaks_for(place, self._limits.proxies.caller(request.remote or "", forwarded))
                request[_LET_IN] = partial(self._limits.let_in, place)
            return await handler(request)

        return heard

    def close(self) -> None:
        """Cancel all timers and refuse new connections: the server stops."""
        self._closed = True
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
