"""The stop of an HTTP server: what its calls use is closed afterwards, so no call may still run then."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from tests.support.programs.our_peers import until
from wakestream.adapters.net import silent_callers
from wakestream.adapters.net.connection_limits import Refusals
from wakestream.adapters.net.http_server import listening
from wakestream.adapters.net.silent_callers import SilentCallers


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


@pytest.mark.parametrize("local", [True, False])
async def test_a_head_that_does_not_end_is_cut_on_every_port_and_a_caller_with_a_whole_one_stays(
    monkeypatch: pytest.MonkeyPatch, *, local: bool
) -> None:
    refused = Refusals()

    async def call(_: web.Request) -> web.Response:
        return web.Response(text="well")

    app = web.Application()
    app.add_routes([web.get("/", call)])
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with listening(app, "test", None if local else SilentCallers(refused), "127.0.0.1", 0, grace=0.01) as port:
        heard, known = await asyncio.open_connection("127.0.0.1", port)
        known.write(request)
        await heard.readuntil(b"well")
        monkeypatch.setattr(silent_callers, "HEAD_WITHIN", 0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(15):
            for byte in request[:-1]:
                writer.write(bytes((byte,)))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        known.write(request)
        await heard.readuntil(b"well")
        for opened in (known, writer):
            opened.transport.abort()
    assert refused["silent"] == (0 if local else 1)
