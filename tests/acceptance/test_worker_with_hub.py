"""A real worker at a real hub, over real WebSockets, with a client beside it."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from loguru import logger

from tests.support.engines.pair import lipsync
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.hub.events import Fact
from wakestream.streams.protocol import messages as m

COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[3])"
VIDEO, AUDIO = FileRef("a" * 32, ".mp4"), FileRef("b" * 32, ".wav")
PAYLOAD = {"video_hash": VIDEO.hash, "video_ext": VIDEO.ext, "audio_hash": AUDIO.hash, "audio_ext": AUDIO.ext}


class Heard:
    """What came over a link, and a way to wait for it."""

    def __init__(self, link: Link) -> None:
        self.items: list[Any] = []
        self.changed = asyncio.Event()
        link.events.subscribe(self._hear)

    def _hear(self, item: object) -> None:
        self.items.append(item)
        self.changed.set()

    async def first(self, matches: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(100):
            while True:
                found = [item for item in self.items if matches(item)]
                if found:
                    return found[0]
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def hub_and_keys(folder: Path) -> AsyncGenerator[tuple[str, dict[str, str]], None]:
    book = LicenseBook(folder / "hub")
    keys = {role: book.issue(role, "", time.time())[1] for role in ("client", "worker", "monitor")}
    async with open_hub(HubConfig(book), FakeJournal[Fact]()) as hub:
        yield hub.url, keys


@asynccontextmanager
async def client(url: str, key: str) -> AsyncGenerator[tuple[Link, Heard], None]:
    link = Link(url, lambda: m.Register(key=key))
    try:
        heard = Heard(link)
        await heard.first(lambda item: isinstance(item, LinkUp))
        yield link, heard
    finally:
        await link.close()


@asynccontextmanager
async def worker(folder: Path, url: str, key: str) -> AsyncGenerator[RunningWorker, None]:
    engine = lipsync(sys.executable, "-c", COPY, limit=40)
    config = WorkerConfig(folder / "worker", engine, "s" * 20, port=0, gpu="gpu-7", key=key)
    async with running_worker(config, lambda register: Link(url, register)) as running:
        yield running


async def test_a_queued_job_gets_online_and_its_result_through_the_hub(tmp_path: Path) -> None:
    async with hub_and_keys(tmp_path) as (url, keys), client(url, keys["client"]) as (link, heard):
        link.send(m.Submit(request_id="job-1", payload=PAYLOAD))
        await heard.first(lambda item: isinstance(item, m.Offline))
        (tmp_path / "worker" / "files").mkdir(parents=True)
        for ref in (VIDEO, AUDIO):
            (tmp_path / "worker" / "files" / f"{ref.hash}{ref.ext}").write_bytes(b"x")
        async with worker(tmp_path, url, keys["worker"]) as running:
            online = await heard.first(lambda item: isinstance(item, m.Online))
            assert (online.gpu, online.url) == ("gpu-7", running.address)
            result = await heard.first(lambda item: isinstance(item, m.Result))
            assert (result.request_id, result.error, result.result["status"]) == ("job-1", None, "done")
            assert (result.key, result.sender_fd) == (None, None)
            assert running.store.result(result.result["task_id"]).read_bytes() == b"x"


async def test_a_worker_with_a_clients_key_is_refused_and_serves_http(tmp_path: Path) -> None:
    lines: list[str] = []
    said = asyncio.Event()

    def hear(message: object) -> None:
        lines.append(str(message))
        if "--role worker" in lines[-1]:
            said.set()

    sink = logger.add(hear, level="ERROR")
    try:
        async with hub_and_keys(tmp_path) as (url, keys), worker(tmp_path, url, keys["client"]) as running:
            await said.wait()
            async with aiohttp.ClientSession() as session, session.get(f"{running.address}/api/heygem/health") as reply:
                assert reply.status == 200
    finally:
        logger.remove(sink)
    assert keys["client"] not in "".join(lines)


async def test_an_upload_of_a_deployed_client_counts_as_a_use_of_the_gpu_at_our_hub(tmp_path: Path) -> None:
    async with hub_and_keys(tmp_path) as (url, keys), worker(tmp_path, url, keys["worker"]) as running:
        monitor = Link(url, lambda: m.Register(role="gpu_monitor", token=keys["monitor"], gpus=("gpu-7",)))
        heard = Heard(monitor)
        try:
            await heard.first(lambda item: isinstance(item, LinkUp))
            form = aiohttp.FormData({"hash": "made up"})
            form.add_field("file", b"film", filename="film.mp4")
            headers = {"Authorization": "s" * 20}
            call = f"{running.address}/api/heygem/upload_file"
            async with aiohttp.ClientSession(headers=headers) as session, session.post(call, data=form) as reply:
                assert reply.status == 200
            await heard.first(lambda item: isinstance(item, m.TaskActive))
            monitor.send(m.TaskQuery(request_id="q1", gpu="gpu-7", drain=True))
            answer = await heard.first(lambda item: isinstance(item, m.TaskQueryResponse))
            assert (answer.active_count, answer.has_recent_active) == (0, True)
        finally:
            await monitor.close()
