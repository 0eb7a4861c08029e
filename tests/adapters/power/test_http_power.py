"""What all providers with an HTTP API share."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from wakestream.adapters.power import http_power
from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.power.http_power import HttpPower, unix_seconds
from wakestream.operators.model.errors import Transient


class Acme(HttpPower):
    name, api = "acme", "https://acme.example"


async def _served(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> tuple[web.AppRunner, Acme]:
    app = web.Application()
    app.router.add_get("/x", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, Acme(PowerConfig("1", base_url=f"http://127.0.0.1:{runner.addresses[0][1]}"))


async def test_an_answer_in_several_pieces_is_read_to_its_end() -> None:
    arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"name": "half')
        await arrived.wait()
        await response.write(b' and half"}')
        return response

    runner, power = await _served(answer)
    asking = asyncio.create_task(power.call("GET", "/x"))
    asyncio.get_running_loop().call_later(0.1, arrived.set)
    assert await asking == {"name": "half and half"}
    await power.close()
    await runner.cleanup()


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_power, "LONGEST_ANSWER", 1000)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"[" * 5000)

    runner, power = await _served(answer)
    with pytest.raises(Transient, match="longer than 1000 bytes"):
        await power.call("GET", "/x")
    await power.close()
    await runner.cleanup()


def test_a_time_before_1970_is_no_time() -> None:
    assert unix_seconds("0001-01-01T00:00:00Z") is None
