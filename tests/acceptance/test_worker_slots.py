"""A real worker that does two tasks at one time."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from tests.support.programs.tus_scene import tus
from tests.support.programs.worker_process import SECRET, WorkerProcess, worker_process
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.errors import WorkerUnreachable
from wakestream.operators.model.events import FileRef, Job
from wakestream.operators.model.ports import TaskReport

ENGINE = """
import os, pathlib, sys, time
video, audio, output = map(pathlib.Path, sys.argv[1:])
gate = pathlib.Path(__file__).parent / video.read_text()
print("25%", flush=True)
while not gate.exists() and os.getppid() > 1:
    time.sleep(0.01)
output.write_text(video.read_text())
"""

NAMES = ("one", "two", "three")


class Worker:
    """The worker's process, and what it said last of its tasks; one ends when the gate of its name is opened."""

    def __init__(self, folder: Path, process: WorkerProcess, http: HttpWorker) -> None:
        self.folder, self.process, self.http = folder, process, http
        self.tasks: dict[str, str] = {}
        self.seen: dict[str, TaskReport] = {}
        self.news = asyncio.Event()

    async def submit(self, name: str) -> None:
        async with tus(self.process.url, SECRET) as caller:
            for text in (name.encode(), b"audio"):
                await caller.patch(await caller.created(text), 0, text)
        video, audio = (FileRef(blake3(text).hexdigest(), ".mp4") for text in (name.encode(), b"audio"))
        job = Job.lipsync(name, Path("v"), Path("a"), Path("o"))
        self.tasks[name] = (await self.http.submit(job, {"video": video, "audio": audio})).task_id

    def open(self, name: str) -> None:
        (self.folder / name).touch()

    async def follow(self, name: str) -> None:
        while True:
            with contextlib.suppress(WorkerUnreachable):
                self.seen[name] = await self.http.report(self.tasks[name])  # answered when it has changed
                self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()

    def percents(self, *names: str) -> list[int]:
        return [int(self.seen[name].percent) if name in self.seen else -1 for name in names]

    def ended(self, *names: str) -> bool:
        return all(self.seen[name].status == "done" for name in names)


@asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[Worker]:
    (folder / "engine.py").write_text(ENGINE)
    command = f"{sys.executable} {folder / 'engine.py'} {{video}} {{audio}} {{output}}"
    arguments = ("--slots", "2", "--engine", "command", "--command", command)
    async with asyncio.timeout(100), worker_process(folder / "state", *arguments) as process:
        workers = HttpWorkers(process.url, SECRET)
        try:
            http = workers.at(None)
            while not (await http.health()).initialized:
                pass
            worker = Worker(folder, process, http)
            for name in NAMES:
                await worker.submit(name)
            async with tasks_of_block() as start:
                for name in NAMES:
                    start(worker.follow(name))
                await worker.until(lambda: worker.percents(*NAMES) == [25, 25, 0])
                yield worker
        finally:
            await workers.close()


@pytest.mark.skipif(sys.platform == "win32", reason="words of a command line are split the POSIX way")
async def test_two_tasks_overlap_and_the_third_waits_for_one_of_them(tmp_path: Path) -> None:
    async with at_work(tmp_path) as worker:
        await worker.until(lambda: worker.seen["three"].position == 1)
        worker.open("two")
        await worker.until(lambda: worker.ended("two") and worker.percents("one", "three") == [25, 25])
        worker.open("one")
        worker.open("three")
        await worker.until(lambda: worker.ended(*NAMES))


@pytest.mark.skipif(sys.platform == "win32", reason="words of a command line are split the POSIX way")
async def test_a_cancel_of_one_leaves_the_other_and_a_kill_restores_both(tmp_path: Path) -> None:
    async with at_work(tmp_path) as worker:
        await worker.http.cancel(worker.tasks["one"], "one")
        await worker.until(lambda: worker.percents("two", "three") == [25, 25])
        await worker.process.kill()
        worker.seen.clear()
        await worker.process.start()
        await worker.until(lambda: worker.percents("two", "three") == [25, 25])
        for name in NAMES:
            worker.open(name)
        await worker.until(lambda: "one" in worker.seen and worker.ended("two", "three"))
        assert worker.seen["one"].status == "cancelled"
