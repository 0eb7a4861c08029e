"""Closes connections on which no whole request comes, and those that are too many: the server itself keeps all."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.net.counters import Refusals

HEAD_WITHIN = 15.0
"""Seconds that a caller has for its first request's head."""

MOST = 2000
"""Connections at a time."""

PER_ADDRESS = 500
"""Of which so many may come from one address; behind a proxy all come from one."""


class SilentCallers:
    """The connections of a server, and those of them that have not asked for anything yet."""

    def __init__(self, refused: Refusals | None = None) -> None:
        self._refused = Refusals() if refused is None else refused
        self._waiting: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._inside: dict[web.RequestHandler, str] = {}
        self._of: Counter[str] = Counter()
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
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        self._inside[caller] = address
        self._of[address] += 1
        loop = asyncio.get_running_loop()
        self._waiting[caller] = loop.call_later(HEAD_WITHIN, self._cut, transport, "silent")
        # Cut a little later: aiohttp logs a traceback for one who is gone before it has begun with him.
        if self._closed:  # his TLS handshake ended only now
            loop.call_soon(transport.abort)
        elif len(self._inside) > MOST:
            loop.call_soon(self._cut, transport, "full")
        elif self._of[address] > PER_ADDRESS:
            loop.call_soon(self._cut, transport, "crowded_address")

    def _leave(self, caller: web.RequestHandler) -> None:
        self._heard(caller)
        address = self._inside.pop(caller, None)
        if address is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

    def _heard(self, caller: object) -> None:
        timer = self._waiting.pop(caller, None)  # type: ignore[call-overload]
        if timer is not None:
            timer.cancel()

    def _cut(self, transport: asyncio.Transport, reason: str) -> None:
        self._refused.count(reason)
        transport.abort()

    def middleware(self) -> Middleware:
        """What notes that a request came."""

        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._heard(request.protocol)
            return await handler(request)

        return heard

    def close(self) -> None:
        """Forget them all, and take nobody else: the server stops."""
        self._closed = True
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
