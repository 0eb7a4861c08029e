"""The other end of a webhook: a real server that keeps what it was sent, and answers as a test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.ports import free_port
from tests.support.programs import plain_server


@dataclass
class Call:
    """One request: its headers and body."""

    headers: dict[str, str]
    body: bytes

    @property
    def news(self) -> dict[str, Any]:
        """What it says."""
        return dict(orjson.loads(self.body))


@dataclass
class Shop:
    """A receiver that answers with `status` (None: not at all)."""

    status: int | None = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    calls: list[Call] = field(default_factory=list)
    elsewhere: int = 0
    port: int = field(default_factory=free_port)
    tls: ssl.SSLContext | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where to tell it."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/done?token=marked-token"

    async def hears(self, count: int = 1) -> Call:
        """The call of that number, from 1."""
        async with asyncio.timeout(100):
            while len(self.calls) < count:
                self.heard.clear()
                await self.heard.wait()
        return self.calls[count - 1]

    async def _hear(self, request: web.Request) -> web.Response:
        self.calls.append(Call(dict(request.headers), await request.read()))
        self.heard.set()
        if self.status is None:
            await self.over.wait()
        return web.Response(status=self.status or 200, headers=self.headers, body=self.body)

    async def _other(self, _: web.Request) -> web.Response:
        self.elsewhere += 1
        return web.Response()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Shop]:
        """While it listens, at the same port again each time."""
        app = web.Application()
        app.router.add_post("/done", self._hear)
        app.router.add_route("*", "/{other:.*}", self._other)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        async with plain_server.serving(runner, self.port, self.tls):
            try:
                yield self
            finally:
                self.over.set()
