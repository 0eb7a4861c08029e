"""Transfers that outlive what they depend on: the connection, the worker, the client; all real, and killed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from tests.support.engines.pair import idle_engine
from tests.support.programs import plain_server
from tests.support.programs.our_peers import until
from tests.support.programs.tus_scene import BODY, then_silent, tus
from tests.support.programs.worker_process import SECRET, WorkerProcess, worker_process
from wakestream.adapters.client import upload as client_upload
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.http import tus_append
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.errors import Corrupt, WakestreamError, WorkerUnreachable
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Resumed

SIZE = 96 * 1024 * 1024
"""More than the buffers of both sockets hold: a transfer of it can be broken off in its middle."""

COPY = f'{sys.executable} -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[3])" {{video}} {{audio}} {{output}}'


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    """A large file whose every part is different."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    stream = blake3(b"a film about a clock")
    with path.open("wb") as file:
        for at in range(0, SIZE, 1 << 20):
            file.write(stream.digest(length=1 << 20, seek=at))
    status = path.stat()
    digest = blake3().update_mmap(path).hexdigest()
    return Fingerprint(path, status.st_size, status.st_mtime_ns, {"blake3": digest})


def ref(file: Fingerprint) -> FileRef:
    return FileRef(file.digests["blake3"], ".mp4")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[HttpWorker]:
    """Our client, as it is after it has asked for the worker's health."""
    workers = HttpWorkers(url, SECRET)
    try:
        worker = workers.at(None)
        while not (await worker.health()).initialized:
            pass
        yield worker
    finally:
        await workers.close()


@asynccontextmanager
async def here(state: Path) -> AsyncIterator[RunningWorker]:
    """A worker in this process."""
    async with running_worker(WorkerConfig(state, idle_engine(), SECRET, port=0)) as worker:
        yield worker


async def sent(worker: HttpWorker, film: Fingerprint) -> list[int | Resumed]:
    return [item async for item in worker.upload(film, ref(film))]


async def broken_off(worker: HttpWorker, film: Fingerprint, process: WorkerProcess) -> None:
    """Send until some of it is on the worker's disk, then kill the worker."""
    sending = asyncio.create_task(sent(worker, film))
    await until(lambda: any(path.stat().st_size for path in process.state.glob("uploads/*.part")))
    await process.kill()
    with pytest.raises(WorkerUnreachable):
        await sending


@pytest.mark.parametrize("client", ["the same", "another"])
async def test_an_upload_resumes_after_a_worker_kill(tmp_path: Path, film: Fingerprint, client: str) -> None:
    async with worker_process(tmp_path / "state") as process, AsyncExitStack() as stack:
        worker = await stack.enter_async_context(connected(process.url))
        await broken_off(worker, film, process)
        await process.start()
        if client == "another":
            worker = await stack.enter_async_context(connected(process.url))
        first, *_, last = await sent(worker, film)
        assert isinstance(first, Resumed)
        assert (first.bytes > 0, last) == (True, film.size)
        assert await worker.check([ref(film)]) == {ref(film).hash: True}
        assert await sent(worker, film) == [Resumed(film.size), film.size]  # and nothing goes a second time


async def test_two_clients_send_one_file_once(
    tmp_path: Path, film: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_upload, "LOOK_AGAIN", 0.0)
    async with here(tmp_path) as worker, connected(worker.address) as one, connected(worker.address) as other:
        took = await asyncio.gather(sent(one, film), sent(other, film))
        wire = [sum_of(items) for items in took]
        assert [items[-1] for items in took] == [film.size, film.size]
        assert film.size <= sum(wire) <= 1.2 * film.size
        assert blake3().update_mmap(worker.store.path(ref(film))).hexdigest() == ref(film).hash


@asynccontextmanager
async def breaking(url: str, random: Random) -> AsyncIterator[str]:
    """A line to `url` that breaks after some MiB of each connection, in either direction."""
    host, port = url.removeprefix("http://").split(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = random.randint(1, 12) << 20
        while left > 0 and (block := await reader.read(1 << 16)):
            left -= len(block)
            writer.write(block)
            await writer.drain()
        writer.transport.abort()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)
        writer.transport.abort()
        back.transport.abort()

    async with plain_server.talking(served) as taken:
        yield f"http://127.0.0.1:{taken}"


async def test_a_large_file_arrives_over_an_unreliable_connection(
    tmp_path: Path, film: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tus_append, "STALE", 0.0)
    monkeypatch.setattr(client_upload, "LOOK_AGAIN", 0.0)
    took: list[list[int | Resumed]] = []
    async with here(tmp_path) as worker, breaking(worker.address, Random(1)) as url, connected(url) as client:
        while not (await client.check([ref(film)]))[ref(film).hash]:
            took.append([])
            with suppress(WorkerUnreachable):
                async for item in client.upload(film, ref(film)):
                    took[-1].append(item)
        assert len(took) > 8
        assert sum(map(sum_of, took)) < 2 * film.size  # bytes in transit at each break are sent twice
        assert blake3().update_mmap(worker.store.path(ref(film))).hexdigest() == ref(film).hash


def sum_of(items: list[int | Resumed]) -> int:
    """What went over the wire."""
    at = wire = 0
    for item in items:
        if isinstance(item, int):
            wire += max(0, item - at)
        at = item.bytes if isinstance(item, Resumed) else item
    return wire


async def test_bytes_under_a_checksum_do_not_outlast_a_kill_unchecked(tmp_path: Path) -> None:
    content = blake3(b"x").digest(length=4 * 1024 * 1024)
    async with worker_process(tmp_path / "state") as process:
        async with tus(process.url, SECRET) as caller:
            path = await caller.created(content)
            await caller.patch(path, 0, content[:1000])
            body = then_silent([content[1000 : 3 << 20]], asyncio.Event())
            headers = {"Content_Type": BODY, "Upload_Offset": "1000"}
            sending = asyncio.create_task(
                caller.ask("PATCH", path, body, **headers, Upload_Checksum="sha1 " + "A" * 27 + "=")
            )
            await caller.until_at(path, 1 << 20)
            await process.again()
            await asyncio.gather(sending, return_exceptions=True)
        async with tus(process.url, SECRET) as caller:
            assert await caller.offset(path) == 1000


# download


async def rendered(worker: HttpWorker, film: Fingerprint) -> str:
    """The task whose result is the film itself."""
    await sent(worker, film)
    job = Job.lipsync("job", film.path, film.path, Path("out.mp4"))
    receipt = await worker.submit(job, {"video": ref(film), "audio": ref(film)})
    while (report := await worker.report(receipt.task_id)).status != "done":
        assert report.status != "error", report
    return receipt.task_id


async def fetched(worker: HttpWorker, task: str, output: Path) -> list[Downloading | Done]:
    return [step async for step in worker.download(task, output)]


def engine() -> list[str]:
    return ["--engine", "command", "--command", COPY]


async def test_a_download_resumes_after_a_kill_of_worker_and_client(tmp_path: Path, film: Fingerprint) -> None:
    output = tmp_path / "out.mp4"
    async with worker_process(tmp_path / "state", *engine()) as process:
        async with connected(process.url) as worker:
            task = await rendered(worker, film)
            fetching = asyncio.create_task(fetched(worker, task, output))
            await until(lambda: any(path.stat().st_size for path in tmp_path.glob("out.mp4.*.part")))
            await process.kill()
            with pytest.raises((WorkerUnreachable, Corrupt)):
                await fetching
        assert not output.exists()
        await process.start()
        async with connected(process.url) as another:
            first, *_, done = await fetched(another, task, output)
    assert isinstance(first, Downloading)
    assert 0 < first.bytes < film.size
    assert done == Done(output, film.size)
    assert blake3().update_mmap(output).hexdigest() == ref(film).hash
    assert list(tmp_path.glob("out.mp4.*")) == []


DOWNLOAD = """
import asyncio, sys
from pathlib import Path
from wakestream.adapters.client import upload as meter
from wakestream.adapters.client.worker import HttpWorkers
url, secret, task, output = sys.argv[1:]
meter.INTERVAL = 0.0
async def main():
    worker = HttpWorkers(url, secret).at(None)
    await worker.health()
    async for step in worker.download(task, Path(output)):
        if any(part.stat().st_size for part in Path(output).parent.glob("*.part")):
            print(step.bytes, flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_download_resumes_after_a_client_kill(tmp_path: Path, film: Fingerprint) -> None:
    output = tmp_path / "out.mp4"
    async with worker_process(tmp_path / "state", *engine()) as process, connected(process.url) as worker:
        task = await rendered(worker, film)
        killed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DOWNLOAD, process.url, SECRET, task, str(output), stdout=asyncio.subprocess.PIPE
        )
        assert killed.stdout is not None
        assert await killed.stdout.readline()
        killed.kill()
        await killed.wait()
        assert sorted(path.suffix for path in tmp_path.glob("out.mp4.*")) == [".json", ".part"]
        first, *_, done = await fetched(worker, task, output)
    assert isinstance(first, Downloading)
    assert (first.bytes > 0, done) == (True, Done(output, film.size))
    assert blake3().update_mmap(output).hexdigest() == ref(film).hash


# tasks


COUNTED = """
import pathlib, sys
runs = pathlib.Path(sys.argv[1]).parent.parent / "runs"
with runs.open("a") as file:
    file.write("run\\n")
pathlib.Path(sys.argv[3]).write_bytes(b"rendered")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="words of a command line are split the POSIX way")
async def test_a_worker_that_is_killed_again_and_again_renders_a_pair_once(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(COUNTED)
    command = f"{sys.executable} {tmp_path / 'engine.py'} {{video}} {{audio}} {{output}}"
    video, audio = (FileRef(blake3(text).hexdigest(), ".mp4") for text in (b"video", b"audio"))
    async with (
        worker_process(tmp_path / "state", "--engine", "command", "--command", command) as one,
    ):
        async with tus(one.url, SECRET) as caller:
            for text in (b"video", b"audio"):
                await caller.patch(await caller.created(text), 0, text)
        async with connected(one.url) as worker:
            receipt = await worker.submit(
                Job.lipsync("a", Path("v"), Path("a"), Path("o")), {"video": video, "audio": audio}
            )
        result = tmp_path / "state" / "results" / f"{receipt.task_id}.mp4"
        await until(result.exists)  # whole on the disk; the journal may or may not have it
        for _ in range(2):
            await one.again()
        async with connected(one.url) as worker:
            while (report := await worker.report(receipt.task_id)).status != "done":
                assert report.status != "error", report
            assert (
                await worker.submit(Job.lipsync("b", Path("v"), Path("a"), Path("o")), {"video": video, "audio": audio})
            ).cached
    assert (tmp_path / "state" / "runs").read_text() == "run\n"


async def test_a_refused_upload_reports_the_reason_and_is_not_retried(
    tmp_path: Path, film: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = client_upload._read
    async with here(tmp_path) as worker, connected(worker.address) as client:
        monkeypatch.setattr(client_upload, "_read", lambda *what: bytes(len(read(*what))))  # the memory fails
        with pytest.raises(Corrupt, match="the worker received a damaged file"):
            async for _ in client.upload(film, ref(film)):
                pass
        monkeypatch.undo()
        with pytest.raises(WakestreamError):
            async for _ in client.upload(Fingerprint(film.path, film.size, 0, film.digests), ref(film)):
                pass
