"""The shipped cases for power providers, on a simulated socket with a PC behind it."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from wakestream_shelly import create

from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.testing.power_suite import CALL_TIMEOUT, PowerConformance, PowerWorld
from wakestream.operators.model.ports import PowerState


class Socket(PowerWorld):
    """A socket is on or off at once. What it cannot do is in no fault, and those cases are skipped."""

    faults = frozenset({"slow", "down", "broken", "garbage", "strange", "start_broken", "start_lost"})
    shows_stopping = False

    def __init__(self) -> None:
        self.on = self.gone = False
        self.url = ""

    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        return create(PowerConfig(machine or "0", timeout=timeout, base_url=self.url))

    async def become(self, state: PowerState) -> None:
        self.on, self.gone = state == "running", state == "terminated"

    async def finish(self) -> None: ...

    async def answer(self, request: web.Request) -> web.Response:
        method, body = request.match_info["method"], json.loads(await request.read())
        start = method == "Set" and bool(body["on"])
        self.calls += start
        refused = await self.refusal(request, start)
        if refused is not None:
            return refused
        if self.gone:
            return web.json_response({"code": -105, "message": "Argument 'id', value 0 not found!"}, status=404)
        if method == "Set":
            self.switch(bool(body["on"]))
        return web.json_response({"id": 0, "output": self.on})

    def switch(self, on: bool) -> None:
        self.starts += on
        self.stops += not on
        self.on = on

    async def refusal(self, request: web.Request, start: bool) -> web.Response | None:
        if self.fault == "slow":
            await asyncio.Event().wait()
        if self.fault == "down" and request.transport is not None:
            request.transport.abort()
        if start and self.fault == "start_lost":
            self.switch(True)
        if self.fault == "broken" or (start and self.fault in ("start_broken", "start_lost")):
            return web.Response(status=500)
        texts = {"garbage": "<html>", "strange": "[]"}
        return web.Response(text=texts[self.fault]) if self.fault in texts else None


class TestShelly(PowerConformance):
    @pytest.fixture
    async def world(self) -> AsyncIterator[Socket]:
        socket, app = Socket(), web.Application()
        app.router.add_post("/rpc/Switch.{method}", socket.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        socket.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield socket
        await runner.cleanup()
