"""Others' job queues with a job that does nothing, each as durable and as quick as it lets itself be set.

For an interpreter of its own, with celery[redis], arq, huey, procrastinate and nats-py in it, and for a machine with
redis-server, nats-server and PostgreSQL's programs: what is not there is left out. Prints one JSON line for each:
name, jobs per second, and the median of the seconds that one job alone takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

MANY, ALONE, FLIGHT = 1000, 200, 100
WITHIN = 60.0


def free_port() -> int:
    """A free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    """A server that listens on `port` while the block runs."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"{command[0]} did not start")
        yield
    finally:
        process.terminate()
        process.wait(20)


def report(name: str, rate: float, median: float) -> None:
    """One line of the result."""
    print(json.dumps([name, rate, median]), flush=True)


async def measured(name: str, job: Callable[[], Awaitable[object]]) -> None:
    """Run many jobs at the same time, then one after another; `job` starts a job and returns when it is done."""
    slots = asyncio.Semaphore(FLIGHT)

    async def one() -> None:
        async with slots:
            await job()

    await job()
    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(MANY)))
    rate = MANY / (time.perf_counter() - start)
    taken = []
    for _ in range(ALONE):
        begun = time.perf_counter()
        await job()
        taken.append(time.perf_counter() - begun)
    report(name, rate, statistics.median(taken))


class Ended:
    """Futures by job id, set from whichever thread a job ends in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._last = 0

    def begin(self) -> tuple[int, asyncio.Future[None]]:
        """A new id, and what is done when its job is."""
        self._last += 1
        self._waiting[self._last] = self._loop.create_future()
        return self._last, self._waiting[self._last]

    def end(self, id_: int) -> None:
        """The job has run."""
        if threading.current_thread() is threading.main_thread():
            self._waiting.pop(id_).set_result(None)
        else:
            self._loop.call_soon_threadsafe(self._waiting.pop(id_).set_result, None)


async def huey(folder: Path) -> None:
    """SQLite with a sync at each step; its consumer is a thread of this process."""
    from huey import SqliteHuey

    ended = Ended()
    queue = SqliteHuey(filename=str(folder / "huey.sqlite"), fsync=True, results=False)
    task = queue.task()(ended.end)
    consumer = queue.create_consumer(workers=1, initial_delay=0.001, backoff=1.0, max_delay=0.001, periodic=False)
    consumer.start()

    async def job() -> None:
        id_, done = ended.begin()
        await asyncio.to_thread(task, id_)
        await done

    try:
        await measured("huey (SQLite, fsync)", job)
    finally:
        consumer.stop(graceful=True)


async def arq(port: int) -> None:
    """Redis as it is set by default; its worker runs in this loop and looks every millisecond."""
    import arq as library
    from arq.connections import RedisSettings
    from arq.worker import Worker, func

    ended = Ended()

    async def nothing(_: dict[str, Any], id_: int) -> None:
        ended.end(id_)

    redis = RedisSettings(port=port)
    worker = Worker(
        [func(nothing, name="nothing", keep_result=0)], redis_settings=redis, handle_signals=False, max_jobs=FLIGHT,
        poll_delay=0.001, queue_read_limit=FLIGHT,
    )  # fmt: skip
    running = asyncio.create_task(worker.async_run())
    pool = await library.create_pool(redis)

    async def job() -> None:
        id_, done = ended.begin()
        await pool.enqueue_job("nothing", id_)
        await done

    try:
        await measured("arq (Redis)", job)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await worker.close()
        await pool.aclose()


async def celery(port: int, folder: Path) -> None:
    """Redis as broker and for results, both as they are set by default; its worker is a process."""
    module = folder / "celery_tasks.py"
    module.write_text(
        "from celery import Celery\n"
        f"app = Celery('x', broker='redis://127.0.0.1:{port}/1', backend='redis://127.0.0.1:{port}/2')\n"
        "app.conf.worker_prefetch_multiplier = 100\n"
        "@app.task\ndef nothing():\n    pass\n"
    )
    sys.path.insert(0, str(folder))
    import celery_tasks

    gc.disable()  # a result that is collected once Redis is gone would try to reach it, for minutes

    flags = ["-A", "celery_tasks", "worker", "--pool", "solo", "--without-gossip", "--without-mingle", "-l", "ERROR"]
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        [sys.executable, "-m", "celery", *flags], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "C_FORCE_ROOT": "1"},
    ) as worker:  # fmt: skip
        try:
            nothing = celery_tasks.nothing
            nothing.delay().get(timeout=WITHIN)
            start = time.perf_counter()
            for result in [nothing.delay() for _ in range(MANY)]:
                result.get(timeout=WITHIN, interval=0.001)
            rate = MANY / (time.perf_counter() - start)
            taken = []
            for _ in range(ALONE):
                begun = time.perf_counter()
                nothing.delay().get(timeout=WITHIN, interval=0.001)
                taken.append(time.perf_counter() - begun)
            report("Celery (Redis)", rate, statistics.median(taken))
        finally:
            worker.kill()  # asked to end, it sometimes does not


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of our own; how to connect to it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise RuntimeError("no PostgreSQL here")
    data, port = folder / "pg", free_port()
    as_other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder.chmod(0o711)
    data.mkdir()
    if as_other:
        shutil.chown(data, "postgres")
    initdb = [*as_other, str(programs[-1] / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    command = [*as_other, str(programs[-1] / "postgres"), "-D", str(data), "-p", str(port), "-k", str(data)]
    ready = [str(programs[-1] / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    with server(command, port):
        if not any(subprocess.run(ready, check=False).returncode == 0 for _ in range(2000)):
            raise RuntimeError("PostgreSQL does not get ready")
        yield f"host=127.0.0.1 port={port} user=bench dbname=postgres"


async def procrastinate(folder: Path) -> None:
    """PostgreSQL as it is set by default, which syncs each commit; its worker runs in this loop."""
    import procrastinate as library

    with postgres(folder) as address:
        app = library.App(connector=library.PsycopgConnector(conninfo=address, max_size=10))
        ended = Ended()

        @app.task(name="nothing")  # type: ignore[untyped-decorator]
        async def nothing(id_: int) -> None:
            ended.end(id_)

        async def job() -> None:
            id_, done = ended.begin()
            await nothing.defer_async(id_=id_)
            await done

        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            running = asyncio.create_task(
                app.run_worker_async(
                    concurrency=FLIGHT,
                    fetch_job_polling_interval=0.05,
                    install_signal_handlers=False,
                    delete_jobs="always",
                )
            )
            try:
                await measured("procrastinate (PostgreSQL)", job)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


async def jetstream(folder: Path) -> None:
    """Not a job queue, but a durable log: one message published and acknowledged, synced each time."""
    import nats

    port = free_port()
    settings = folder / "nats.conf"
    settings.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/nats", sync_interval: always }}\n'
    )
    with server(["nats-server", "-c", str(settings)], port):
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        stream = client.jetstream()
        await stream.add_stream(name="jobs", subjects=["jobs"])
        try:
            await measured("JetStream (sync always), publish to ack", lambda: stream.publish("jobs", b"x" * 200))
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def left_out(name: str) -> AsyncIterator[None]:
    """What cannot be had is left out, and why is said."""
    try:
        async with asyncio.timeout(WITHIN):
            yield
    except Exception as error:
        print(f"{name} is left out: {type(error).__name__} {error}", file=sys.stderr)


async def main() -> None:
    """All of them, one after another."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with left_out("huey"):
            await huey(folder)
        async with left_out("procrastinate"):
            await procrastinate(folder)
        async with left_out("JetStream"):
            await jetstream(folder)
        async with left_out("Redis"):
            port = free_port()
            with server(["redis-server", "--port", str(port), "--dir", name, "--bind", "127.0.0.1"], port):
                async with left_out("arq"):
                    await arq(port)
                async with left_out("Celery"):
                    await celery(port, folder)


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)  # without collecting, see above
