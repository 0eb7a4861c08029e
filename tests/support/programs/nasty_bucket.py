"""A bucket with signed links that fails in all the ways that real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.programs.plain_server import answering

Fault = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


class NastyBucket:
    """Keeps what is put, by BLAKE3, and answers GETs with ranges. `faults` answers requests before it does.

    Attributes:
        kept: The files.
        asked: Method, file and range of each request.
        first: Links of an earlier version have expired.
        taken: `cut` waits for it: the client has bytes of that file.
        gate: GETs wait until it is open.
        most: The most GETs that were answered at one time.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.faults: list[Fault] = []
        self.first = 1
        self.taken: Callable[[str], Awaitable[None]]
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0
        self.url = ""
        self.news = asyncio.Event()

    def link(self, blake3: str, version: int) -> str:
        """A link for one file."""
        return f"{self.url}/{blake3}?v={version}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body, name = await request.read(), request.path.strip("/")
        self.asked.append((request.method, name, request.headers.get("Range", "")))
        self.running += request.method == "GET"
        self.most = max(self.most, self.running)
        self.news.set()
        try:
            await self.gate.wait()
            if self.faults:
                return await self.faults.pop(0)(request, body)
            return self.honest(request, body, name)
        finally:
            self.running -= request.method == "GET"

    def honest(self, request: web.Request, body: bytes, name: str) -> web.StreamResponse:
        if int(request.query["v"]) < self.first:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if request.method == "PUT":
            self.kept[name] = body
            return web.Response()
        if name not in self.kept:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        whole, start = self.kept[name], int((request.headers.get("Range") or "bytes=0-")[6:-1])
        if not start:
            return web.Response(body=whole)
        ranged = {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}
        return web.Response(status=206, body=whole[start:], headers=ranged)

    # Faults

    async def slow_down(self, _: web.Request, body: bytes) -> web.StreamResponse:
        """Overloaded."""
        return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")

    async def cut(self, request: web.Request, _: bytes) -> web.StreamResponse:
        """Closes the connection after two thirds of what was asked for."""
        whole = self.kept[request.path.strip("/")]
        response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await response.prepare(request)
        await response.write(whole[: len(whole) * 2 // 3])
        await self.taken(request.path.strip("/"))
        assert request.transport is not None
        request.transport.close()
        return response

    async def ignores_ranges(self, request: web.Request, _: bytes) -> web.StreamResponse:
        """Sends the whole file."""
        return web.Response(body=self.kept[request.path.strip("/")])

    async def lies(self, request: web.Request, _: bytes) -> web.StreamResponse:
        """Sends other bytes of the same length."""
        return web.Response(body=self.kept[request.path.strip("/")][::-1])


@asynccontextmanager
async def nasty_bucket() -> AsyncIterator[NastyBucket]:
    """Runs one on loopback."""
    bucket = NastyBucket()
    async with answering(bucket.answer) as bucket.url:
        try:
            yield bucket
        finally:
            bucket.gate.set()
