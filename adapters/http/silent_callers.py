"""Closes connections on which no whole request comes: the server itself would keep them for ever."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

HEAD_WITHIN = 15.0
"""Seconds that a caller has for its first request's head."""


class SilentCallers:
    """The connections that have not asked for anything yet."""

    def __init__(self) -> None:
        self._waiting: dict[object, asyncio.TimerHandle] = {}

    def watch(self, connection: web.RequestHandler) -> web.RequestHandler:
        """Give it some time, beginning now; returns the same connection."""
        self._waiting[connection] = asyncio.get_running_loop().call_later(HEAD_WITHIN, self._cut, connection)
        return connection

    def _cut(self, connection: web.RequestHandler) -> None:
        del self._waiting[connection]
        if connection.transport is not None:
            connection.transport.abort()

    def middleware(self) -> Middleware:
        """What notes that a request came."""

        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            timer = self._waiting.pop(request.protocol, None)
            if timer is not None:
                timer.cancel()
            return await handler(request)

        return heard

    def close(self) -> None:
        """Forget them all."""
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
