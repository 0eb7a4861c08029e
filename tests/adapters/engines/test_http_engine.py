"""What an engine behind HTTP may answer: its own bytes, as they are, and no more than the disk has room for."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.programs import plain_server
from wakestream.adapters.engines import http_engine
from wakestream.adapters.engines.http_engine import HttpEngine
from wakestream.operators.model.errors import NoSpace, TaskFailed

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def engine_at(answer: Answer) -> AsyncIterator[HttpEngine]:
    async with plain_server.answering(answer) as url:
        engine = HttpEngine(url, "The app")
        yield engine
        await engine.close()


async def test_no_redirect_is_followed(tmp_path: Path) -> None:
    asked = []

    async def secret(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({})

    async with plain_server.answering(secret) as inside:

        async def elsewhere(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{inside}/admin"})

        async with engine_at(elsewhere) as engine:
            with pytest.raises(TaskFailed, match=r"redirects to 'http://.*/admin'; give its own"):
                await engine.json("POST", "/prompt", json={})
            with pytest.raises(TaskFailed, match="redirects to"):
                await engine.fetch("/view", tmp_path / "a.png")
            with suppress(aiohttp.ClientError):
                async with engine.session.ws_connect(f"{engine.url}/ws"):
                    pass
    assert asked == []


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br"])
async def test_an_answer_that_could_unfold_is_refused_before_it_is_read(tmp_path: Path, encoding: str) -> None:
    said: list[str] = []

    async def small(request: web.Request) -> web.Response:
        said.append(request.headers["Accept-Encoding"])
        return web.Response(body=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": encoding})

    async with engine_at(small) as engine:
        with pytest.raises(TaskFailed, match=f"compresses its answer \\('{encoding}'\\)"):
            await engine.json("GET", "/info")
        with pytest.raises(TaskFailed, match="compresses its answer"):
            await engine.fetch("/file", tmp_path / "a.bin")
    assert {*said} == {"identity"}


@pytest.mark.parametrize("told", [True, False])
async def test_a_result_is_not_larger_than_the_disk_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        if told:
            answer.content_length = 10**15
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b"x" * 100_000)
                sent += 100_000
        return answer

    free = http_engine.KEPT_FREE + 1_000_000
    monkeypatch.setattr(http_engine, "disk_usage", lambda _: SimpleNamespace(free=free))
    async with engine_at(endless) as engine:
        with pytest.raises(NoSpace, match="the worker's disk has room for 1000000"):
            await engine.fetch("/file", tmp_path / "a.bin")
    assert sent < 10**9
    assert not (tmp_path / "a.bin").exists() or (tmp_path / "a.bin").stat().st_size <= 1_000_000


async def test_json_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_engine, "MAX_JSON", 1000)

    async def large(_: web.Request) -> web.Response:
        return web.json_response(["x" * 2000])

    async with engine_at(large) as engine:
        with pytest.raises(TaskFailed, match="has more than 1000 bytes"):
            await engine.json("GET", "/info")


@pytest.mark.timeout(20)
async def test_a_result_elsewhere_is_fetched_from_public_addresses_only(tmp_path: Path) -> None:
    async def secret(_: web.Request) -> Any:
        raise AssertionError("the address is this machine's")

    async with plain_server.answering(secret) as inside:
        port = inside.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"):
            store = HttpEngine(f"http://{host}:{port}/a.png", "the store", public=True)
            with pytest.raises(TaskFailed, match="is an address of this machine or of a local network"):
                await store.fetch("", tmp_path / "a.png")
            await store.close()
