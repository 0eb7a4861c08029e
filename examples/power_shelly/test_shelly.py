"""The shipped cases for power providers, on a simulated socket with a PC behind it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from wakestream_shelly import create

from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn, serving
from wakestream.adapters.testing.power_suite import PowerConformance


class Socket(HttpStandIn):
    """A socket is on or off at once, so that it has no start that stays in between."""

    make = staticmethod(create)
    machine_id = "0"
    faults = ANY_API - {"start_slow"}
    shows_stopping = False

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/rpc/Switch.{method}", self.answer)]

    def act(self, request: web.Request, body: Any) -> Act:
        return "" if request.match_info["method"] != "Set" else "start" if body["on"] else "stop"

    async def answer(self, request: web.Request) -> web.Response:
        if self.state == "terminated":
            return web.json_response({"code": -105, "message": "Argument 'id', value 0 not found!"}, status=404)
        match self.act(request, await request.json()):
            case "start":
                self.start()
            case "stop":
                self.stop()
        return web.json_response({"id": 0, "output": self.state in ("running", "starting")})


class TestShelly(PowerConformance):
    @pytest.fixture
    async def world(self) -> AsyncIterator[Socket]:
        async with serving(Socket()) as world:
            yield world
