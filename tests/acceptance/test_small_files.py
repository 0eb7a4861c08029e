"""Several small files in one request, to a real worker: what is taken, and what is refused."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import aiohttp
import orjson
import pytest
from aiohttp import web
from blake3 import blake3

from tests.support.programs.any_kind_scene import Scene
from tests.support.programs.our_peers import SECRET, Place
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import transfers
from wakestream.adapters.worker.program import RunningWorker

ONE, TWO = b"one", b"two two"


def entry(content: bytes) -> dict[str, object]:
    return {"hash": blake3(content).hexdigest(), "ext": ".bin", "size": len(content)}


def body(listed: object, content: bytes = ONE + TWO) -> bytes:
    return orjson.dumps(listed) + b"\n" + content


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncGenerator[RunningWorker, None]:
    async with Scene(tmp_path, Place(tmp_path)).worker() as worker:
        yield worker


async def post(worker: RunningWorker, content: bytes) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {SECRET}"}
    url = f"{worker.address}/api/heygem/upload_files"
    async with (
        asyncio.timeout(100),
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, data=io.BytesIO(content)) as response,
    ):
        reply = await response.json()
    return response.status, reply["msg"]


async def test_files_are_there_under_their_hashes(worker: RunningWorker) -> None:
    assert await post(worker, body([entry(ONE), entry(TWO)])) == (200, "ok")
    for content in (ONE, TWO):
        assert (worker.store.root / "files" / f"{blake3(content).hexdigest()}.bin").read_bytes() == content


UNFIT: list[tuple[bytes, int, str]] = [
    (b"", 400, "the list of the files does not parse"),
    (b"{}\n", 400, "the list of the files does not parse"),
    (body([]), 400, "the request has 0 files; send 1 to 64"),
    (body([entry(ONE)] * 65), 400, "the request has 65 files; send 1 to 64"),
    (body([entry(ONE)]), 400, "the files have 3 bytes in the list, but 10 came"),
    (body([entry(ONE), entry(TWO)], ONE), 400, "the files have 10 bytes in the list, but 3 came"),
    (body([{**entry(ONE), "size": -3}, entry(TWO)]), 400, '"size" must be the bytes of a file'),
    (body([{**entry(ONE), "size": 1024 * 1024 + 1}, entry(TWO)]), 400, "send larger ones alone"),
    (body([{**entry(ONE), "hash": "ab" * 16}, entry(TWO)]), 400, '"hash" must be 64 hex digits'),
    (body([{**entry(ONE), "ext": "/../x"}, entry(TWO)]), 400, '"ext" must be a dot'),
    (body([entry(ONE), entry(TWO)], TWO + ONE), 400, "the file's hash is"),
    (b"x" * (17 * 1024 * 1024), 413, "send large ones alone"),
]


async def test_what_does_not_fit_is_refused_and_nothing_is_kept(worker: RunningWorker) -> None:
    for content, status, words in UNFIT:
        answered, message = await post(worker, content)
        assert (answered, words in message) == (status, True), message
        assert list((worker.store.root / "files").iterdir()) == [], content


async def test_calls_that_stall_hold_little_memory(tmp_path: Path) -> None:
    class Stalled:
        """A body of which most came."""

        def __init__(self) -> None:
            self.left, self.stalls = 150, asyncio.Event()

        async def readany(self) -> bytes:
            if not self.left:
                self.stalls.set()
                await asyncio.Event().wait()
            self.left -= 1
            return bytes(100_000)

    store, bodies = FileStore(tmp_path), [Stalled() for _ in range(20)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        calls = [
            asyncio.create_task(transfers.receive(cast("web.Request", SimpleNamespace(content=body)), store, print))
            for body in bodies
        ]
        await asyncio.gather(*(body.stalls.wait() for body in bodies))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    store.close()
    assert held < 20 * 2 * transfers.HELD, "of 300 MB that came"
    assert list(store.partials.iterdir()) == []
