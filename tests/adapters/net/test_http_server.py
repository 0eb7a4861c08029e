"""The stop of an HTTP server: what its calls use is closed afterwards, so no call may still run then."""

import asyncio

import pytest
from aiohttp import web

from tests.support.programs.our_peers import until
from wakestream.adapters.net.http_server import listening


@pytest.mark.parametrize("gone", [True, False])
async def test_no_call_runs_on_after_the_stop(*, gone: bool) -> None:
    calls: list[web.Request] = []
    ended = asyncio.Event()

    async def call(request: web.Request) -> web.Response:
        calls.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # as one that removes what came, in a thread
                await asyncio.sleep(0)
            ended.set()
        raise AssertionError

    app = web.Application()
    app.add_routes([web.get("/", call)])
    async with listening(app, "test", None, "127.0.0.1", 0, grace=0.01) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: calls)
        if gone:
            writer.transport.abort()
            await until(lambda: calls[0].transport is None)
    assert ended.is_set()
    writer.transport.abort()
