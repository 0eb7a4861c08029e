"""What the HTTP stand-ins of the conformance suite share: the faults of an API, around whatever serves it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from aiohttp import web

from wakestream.adapters.testing.power_suite import Fault, PowerWorld


class FaultyWorld(PowerWorld):
    """A world behind an HTTP server that has the faults of the suite."""

    faults: ClassVar[frozenset[Fault]] = frozenset(
        {"slow", "down", "denied", "broken", "garbage", "strange",
         "start_broken", "start_lost", "start_unknown", "start_ignored", "start_slow"}
    )  # fmt: skip

    @abstractmethod
    def refusal(self, fault: Fault) -> web.Response:
        """How this API refuses."""

    @abstractmethod
    async def asks_start(self, request: web.Request) -> bool:
        """Whether the request is a start."""

    @abstractmethod
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer as the API does without faults."""

    def ignored(self) -> web.Response:
        """How this API accepts a start."""
        return web.Response(status=204)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer, with the present fault."""
        start = await self.asks_start(request)
        self.calls += start
        fault = self.fault
        bad = await self._always(request, fault)
        if bad is None and start:
            bad = await self._at_start(request, fault)
        return bad if bad is not None else await self.serve(request)

    async def _always(self, request: web.Request, fault: Fault | None) -> web.StreamResponse | None:
        match fault:
            case "slow":
                await asyncio.Event().wait()
            case "down":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "garbage":
                return web.Response(text="<html><body>Welcome to the hotel's network</body></html>")
            case "strange":
                return web.json_response(["no", "such", "shape"])
            case "denied" | "busy" | "broken":
                return self.refusal(fault)
        return None

    async def _at_start(self, request: web.Request, fault: Fault | None) -> web.StreamResponse | None:
        match fault:
            case "start_lost":
                await self.serve(request)
                return self.refusal("broken")
            case "start_ignored":
                return self.ignored()
            case "start_broken" | "start_unknown" | "start_busy" | "no_capacity" | "quota":
                return self.refusal(fault)
        return None


@asynccontextmanager
async def serving(world: FaultyWorld, socket: str | None = None) -> AsyncIterator[str]:
    """Serve a world on a Unix socket, or on a port of loopback; yields its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", world.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.UnixSite(runner, socket) if socket else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"unix://{socket}" if socket else f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
