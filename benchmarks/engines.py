"""Real Cog and Gradio servers (`make engines`): called directly, and through our worker.

The model returns its file, so that all time is the way there and back: from a file on the disk to a file on the disk.
Through the worker that is hashing, upload, submit, the engine, and a verified download: the bytes cross loopback twice
as often. For a large file the yardstick is therefore a bare store: the file is sent to it, the engine takes it there
and puts its result there, and the result is fetched. The worker is asked for its progress every 5 ms (small file) or
50 ms; a real client's `poll_every` adds up to 2 s. Engine, store, worker and client are processes of their own.
WAKESTREAM_BENCH_LARGE_MB sets the size of the large file (default 200).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import cast

import aiohttp
from aiohttp import web
from job_queues import free_port
from timing import MEMORY, row

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.operators import Fingerprints, Hub, LoopScheduler, Policy, then
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Job, Online
from wakestream.operators.rx.to_future import to_future
from wakestream.streams import Stages, World

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "tests" / "support" / "engines"
SECRET = "benchmark-secret-0123456789"  # noqa: S105 - of this run only
SMALL, CALLS = 1000, 10
LARGE = int(os.environ.get("WAKESTREAM_BENCH_LARGE_MB", "200")) * 1_000_000
ROUNDS = 5
POLICIES = {SMALL: Policy(poll_every=0.005), LARGE: Policy(poll_every=0.05)}
FILE = {"type": "string", "format": "uri"}
SCHEMA = {
    "Input": {"type": "object", "properties": {"file": FILE}, "required": ["file"]},
    "Output": FILE,
}

Way = Callable[[Path, Path], Awaitable[None]]
"""From a file to a file."""


@contextmanager
def program(argv: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A program while the block runs."""
    with (folder / f"{Path(argv[0]).name}.log").open("ab") as log:
        running = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    try:
        yield
    finally:
        running.kill()
        running.wait()


async def answers(url: str, word: str) -> None:
    """Returns when the answer has this word."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    if word in await response.text():
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


# Directly


class FileServer:
    """Hands out one file, and stores what is sent. With a folder it takes the file and hands out the result, too."""

    def __init__(self, folder: Path = Path()) -> None:
        self.source, self.target = folder / "stored-in.bin", folder / "stored-out.bin"

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[str]:
        """Gives the address."""
        app = web.Application()
        for path in ("/in", "/out", "/out/{name}"):
            app.add_routes([web.get(path, self._give), web.put(path, self._take)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()

    async def _give(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._file(request))

    async def _take(self, request: web.Request) -> web.Response:
        await written(request.content, self._file(request))
        return web.Response(status=201)

    def _file(self, request: web.Request) -> Path:
        return self.source if request.path == "/in" else self.target


async def written(content: aiohttp.StreamReader, target: Path) -> None:
    """Write a body to a file."""
    with target.open("wb", buffering=0) as file:
        async for block in content.iter_chunked(1 << 20):
            file.write(block)


@asynccontextmanager
async def cog_directly(url: str, port: int) -> AsyncIterator[Way]:
    """A prediction as Cog's own documentation shows it, with files by URL in both directions."""
    files = FileServer()
    async with files.serving(port) as base, aiohttp.ClientSession() as session:

        async def way(source: Path, target: Path) -> None:
            files.source, files.target = source, target
            asked = {"input": {"file": f"{base}/in"}}
            async with session.put(f"{url}/predictions/{uuid.uuid4().hex}", json=asked) as response:
                said = await response.json()
                assert said.get("output"), said

        yield way


@asynccontextmanager
async def cog_over_a_store(url: str, port: int, folder: Path) -> AsyncIterator[Way]:
    """A prediction whose files go through a store in a process of its own, which neither hashes nor syncs."""
    base = f"http://127.0.0.1:{port}"
    with program([sys.executable, __file__, str(port), str(folder)], folder, {}):
        await answers(f"{base}/out", "")
        async with aiohttp.ClientSession() as session:

            async def way(source: Path, target: Path) -> None:
                with source.open("rb") as file:
                    async with session.put(f"{base}/in", data=file) as response:
                        assert response.status == 201
                asked = {"input": {"file": f"{base}/in"}}
                async with session.put(f"{url}/predictions/{uuid.uuid4().hex}", json=asked) as response:
                    assert (await response.json()).get("output")
                async with session.get(f"{base}/out") as response:
                    await written(response.content, target)

            yield way


async def serve_store(port: int, folder: Path) -> None:
    """The store, until this process is killed."""
    async with FileServer(folder).serving(port):
        await asyncio.Event().wait()


@asynccontextmanager
async def gradio_directly(url: str, fn_index: int) -> AsyncIterator[Way]:
    """What Gradio's own client does: upload, join, stream, download."""
    connector = aiohttp.TCPConnector(keepalive_timeout=2.0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def way(source: Path, target: Path) -> None:
            form, name = aiohttp.FormData(), uuid.uuid4().hex
            with source.open("rb") as file:
                form.add_field("files", file, filename="file.bin")
                async with session.post(f"{url}/gradio_api/upload", data=form) as response:
                    (path,) = await response.json()
            asked = {
                "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}],
                "fn_index": fn_index, "session_hash": name,
            }  # fmt: skip
            async with session.post(f"{url}/gradio_api/queue/join", json=asked) as response:
                assert response.status == 200, await response.text()
            made = ""
            async with session.get(f"{url}/gradio_api/queue/data", params={"session_hash": name}) as response:
                async for line in response.content:
                    if b"process_completed" in line:
                        made = json.loads(line[5:])["output"]["data"][0]["url"]
                        break
            async with session.get(made) as response:
                await written(response.content, target)

        yield way


# Through our worker


@asynccontextmanager
async def worker(folder: Path, *options: str) -> AsyncIterator[tuple[HttpWorkers, frozenset[str]]]:
    """Our worker, and its features."""
    port = free_port()
    argv = [sys.executable, "-m", "wakestream.adapters.cli", "worker", "--state", str(folder / "worker")]
    argv += ["--listen", f"127.0.0.1:{port}", "--spare-disk", "0", *options]
    with program(argv, folder, {"HEYGEM_API_SECRET": SECRET}):
        workers = HttpWorkers(f"http://127.0.0.1:{port}", SECRET)
        yield workers, await initialized(workers)
        await workers.close()


@asynccontextmanager
async def through_worker(folder: Path, kind: str, output: str, *options: str) -> AsyncIterator[Way]:
    """A job of this kind, from hashing to the verified file."""
    async with worker(folder, *options) as (workers, features):
        files = DiskFiles()

        async def way(source: Path, target: Path) -> None:
            job = Job(uuid.uuid4().hex, {source.stem: source}, {output: target}, kind)
            world, policy = World(cast("Hub", None), workers, files, Random(1)), POLICIES[source.stat().st_size]
            s = Stages(job, world, policy, Fingerprints(job, files))
            checked = s.dedupe(Online(workers.resolve(None), features=features))
            await checked.pipe(then(s.upload, s.synthesize, s.follow, s.download)).pipe(
                to_future(LoopScheduler(asyncio.get_running_loop()))
            )

        yield way
        await files.close()


async def initialized(workers: HttpWorkers) -> frozenset[str]:
    """The features of the worker, when its engine can work."""
    while True:
        try:
            health = await workers.at(None).health()
            if health.initialized:
                return health.features
        except WakestreamError:
            pass
        await asyncio.sleep(0.05)


# The rows


async def seconds(way: Way, folder: Path, size: int) -> float:
    """How long one new file takes; the result is compared with it."""
    source, target = folder / "file.bin", folder / "result.bin"
    content = os.urandom(size)
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    begin = time.perf_counter()
    await way(source, target)
    taken = time.perf_counter() - begin
    assert target.read_bytes() == content
    return taken


async def compared(engine: str, folder: Path, direct: Way, ours: Way, store: Way | None = None) -> bool:
    """Print the rows of an engine. A large file is compared with the way over a bare store, if there is one."""
    await seconds(direct, folder, SMALL)
    await seconds(ours, folder, SMALL)
    small = []
    for _ in range(ROUNDS):
        calls = [[await seconds(way, folder, SMALL) for way in (direct, ours)] for _ in range(CALLS)]
        small.append(tuple(statistics.median(each) for each in zip(*calls, strict=True)))
    ways = (direct, ours, store or direct)
    large = [[await seconds(way, folder, LARGE) for way in ways] for _ in range(ROUNDS)]
    added = sorted(after - before for before, after in small)
    direct_ms = statistics.median(before for before, _ in small) * 1000
    what = (
        f"{engine}: {SMALL} bytes, direct {direct_ms:.0f} ms, added {spread([1000 * each for each in added], '.0f')} ms"
    )
    held = row(f"{what}, of 30 ms", added[-1], 0.030, 1.0)
    direct_s = statistics.median(before for before, *_ in large)
    what = f"{engine}: {LARGE // 1_000_000} MB in and out, direct {direct_s:.2f} s"
    print(f"        {spread(sorted(mine / before for before, mine, _ in large), '.2f')} x  {what}")
    if store is None:
        return held
    print(f"        {spread(sorted(bare / before for before, _, bare in large), '.2f')} x  the same over a bare store")
    ratios = sorted(mine / bare for _, mine, bare in large)
    return row(f"{engine}: against the bare store, ratios {spread(ratios, '.2f')}", ratios[-1], 1.0, 1.35) and held


def spread(figures: list[float], form: str) -> str:
    """Least, median and greatest of sorted figures; the last one counts."""
    return " / ".join(f"{each:{form}}" for each in (figures[0], statistics.median(figures), figures[-1]))


@contextmanager
def cog_server(folder: Path, upload_port: int) -> Iterator[str]:
    """A Cog server that uploads to this port; gives its address."""
    (folder / ".cog").mkdir(parents=True)
    (folder / ".cog" / "openapi_schema.json").write_text(json.dumps({"components": {"schemas": SCHEMA}}))
    python, port = python_of("cog"), free_port()
    upload = f"http://127.0.0.1:{upload_port}/out/"
    argv = [str(python), "-m", "cog.server.http", "--host", "127.0.0.1", "--upload-url", upload]
    environment = {
        "PORT": str(port), "COG_PREDICT_TYPE_STUB": f"{MODELS / 'cog_models.py'}:Same",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder),
    }  # fmt: skip
    with program(argv, folder, environment):
        yield f"http://127.0.0.1:{port}"


async def cog(folder: Path) -> bool:
    """The rows of Cog: three servers, as each uploads to one place."""
    ports = {name: free_port() for name in ("theirs", "bare", "mine")}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(cog_server(folder / name, port)) for name, port in ports.items()}
        for url in urls.values():
            await answers(f"{url}/health-check", "READY")
        options = ["--engine", "cog", "--engine-option", f"url={urls['mine']}"]
        options += ["--engine-option", f"listen=127.0.0.1:{ports['mine']}"]
        async with (
            cog_directly(urls["theirs"], ports["theirs"]) as direct,
            cog_over_a_store(urls["bare"], ports["bare"], folder / "bare") as store,
            through_worker(folder / "mine", "predict", "output", *options) as ours,
        ):
            return await compared("Cog", folder, direct, ours, store)


async def gradio(folder: Path) -> bool:
    """The rows of Gradio."""
    here, port = folder / "app", free_port()
    here.mkdir()
    environment = {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(here / "temp"), "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with program([str(python_of("gradio")), str(MODELS / "gradio_app.py")], here, environment):
        await answers(f"{url}/config", "same")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/config") as response:
            functions = {each["api_name"]: each["id"] for each in (await response.json())["dependencies"]}
        options = ["--engine", "gradio", "--engine-option", f"url={url}"]
        async with (
            gradio_directly(url, functions["same"]) as direct,
            through_worker(here, "same", "file", *options) as ours,
        ):
            return await compared("Gradio", folder, direct, ours)


def python_of(engine: str) -> Path:
    """The Python that has the engine."""
    return ROOT / ".venv" / "engines" / engine / "bin" / "python"


async def main() -> bool:
    """Print the rows; returns whether every budget holds."""
    print("engines behind our worker, against calling them directly:")
    held = True
    for engine, rows in (("cog", cog), ("gradio", gradio)):
        if not python_of(engine).exists():
            print(f"  skipped: no {engine} server here (make engines)")
            continue
        with tempfile.TemporaryDirectory(dir=MEMORY) as name:
            held &= await rows(Path(name))
    return held


if __name__ == "__main__":
    asyncio.run(serve_store(int(sys.argv[1]), Path(sys.argv[2])))
