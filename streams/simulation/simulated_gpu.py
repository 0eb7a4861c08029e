"""A GPU machine as a model, and the files of a client: for replays that leave the recorded run, and all that logs know.

Pure, in the loop's time. The machine boots, warms up, renders and stops in the times that the logs tell; nothing is
left to chance. What befalls it is noted as rows, so that a test can see what it was doing when it was switched off.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from wakestream.operators.model.errors import TaskLost, WorkerUnreachable
from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import (
    Files,
    Health,
    PowerReading,
    Resumed,
    TaskReceipt,
    TaskReport,
    Worker,
    Workers,
)
from wakestream.streams.protocol import messages as m
from wakestream.streams.simulation.network import Network

ACTIVE_EVERY = 30.0
"""Seconds between two signs of activity of a worker, as the field has it."""

SIZE = 1_000_000
"""Bytes of a file that the logs do not tell of."""

FEATURES = frozenset({"blake3", "cancel", "range", "tus"})


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that things take: from the start until the worker connects (`boot`), until it is online (`warm`), from
    the stop until the hub sees it leave (`leave`) and until the machine is off (`halt`); a call, a file's transfer, a
    task (`work`, or what `works` says of its job).
    """

    boot: float = 1.0
    warm: float = 1.0
    leave: float = 0.05
    halt: float = 1.0
    call: float = 0.001
    transfer: float = 0.001
    work: float = 3.0
    works: Mapping[str, float] = field(default_factory=dict)


class Line(Protocol):
    """The worker's connection to the hub."""

    def join(self) -> None:
        """Connect and register."""
        ...

    def say(self, message: m.Message) -> None:
        """Send one message, if connected."""
        ...

    def part(self) -> Callable[[], None]:
        """Say no more; what is returned is to be called when the connection is really gone."""
        ...


Note = Callable[[str, Mapping[str, Any], str | None], None]
"""Notes what happened: a label, what more there is to say, the job."""


@dataclass(slots=True)
class _Task:
    job: str
    begins: float
    ends: float
    done: bool = False


@dataclass(slots=True)
class ModelledGpu:
    """One machine. It starts and stops on order, whoever holds it; `note` is told what that meant."""

    name: str
    url: str
    pace: Pace
    net: Network
    line: Line
    note: Note
    reading: PowerReading = "stopped"
    serving: bool = False
    initialized: bool = False
    known: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    tasks: dict[str, _Task] = field(default_factory=dict)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    # --- the provider's side

    def start(self) -> None:
        """Switch it on. To start what is not off is a fault of whoever does it, and noted."""
        self.note("start" if self.reading == "stopped" else "start.twice", {"reading": self.reading}, None)
        if self.reading == "stopped":
            self.run(self.pace.boot, self.pace.warm)

    def run(self, boot: float, warm: float) -> None:
        """It is on; its worker connects in `boot` seconds, and is online `warm` seconds later."""
        self.reading = "running"
        self._later(boot, self._boot)
        self._later(boot + warm, self._ready)

    def stop(self) -> None:
        """Switch it off, with whatever it is doing."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        self.note("stop", {"reading": self.reading}, None)
        self.reading, self.initialized = "stopping", False
        self._kill()
        # A machine that is cut off does not hang up: its connection may outlive it, and even its next start.
        self.net.after(self.pace.leave, self.line.part())
        self._later(min(self.pace.leave, self.pace.halt), self._leave)
        self._later(self.pace.halt, self._off)

    def _boot(self) -> None:
        self.serving = True
        self.line.join()

    def _ready(self) -> None:
        self.initialized = True
        self.note("online", {}, None)
        self.line.say(m.Online(msg="the GPU is online", gpu=self.name, url=self.url))

    def _leave(self) -> None:
        self.serving = False

    def _off(self) -> None:
        self.reading = "stopped"
        self.note("off", {}, None)

    def _kill(self) -> None:
        for task_id, task in list(self.tasks.items()):
            if not task.done:
                self.note("task.killed", {"task_id": task_id}, task.job)
                del self.tasks[task_id]

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.timers.append(self.net.after(seconds, call, *args))

    # --- the worker's side

    def take(self, job: str, task_id: str) -> bool:
        """Begin a task, or find it; whether it is done already."""
        if task_id not in self.tasks:
            free = max([self.net.now, *(task.ends for task in self.tasks.values() if not task.done)])
            work = self.pace.works.get(job, self.pace.work)
            self.tasks[task_id] = _Task(job, free, free + work)
            self.note("task", {"task_id": task_id}, job)
            self._later(free - self.net.now, self._beat, task_id)
            self._later(free + work - self.net.now, self._end, task_id)
        return self.tasks[task_id].done

    def drop(self, task_id: str) -> None:
        """Stop a task."""
        self.tasks.pop(task_id, None)

    def _beat(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is not None and not task.done:
            self.line.say(m.TaskActive(task_id=task_id, task_type="heygem_submit"))
            self._later(ACTIVE_EVERY, self._beat, task_id)

    def _end(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is not None:
            task.done = True
            self.note("task.done", {"task_id": task_id}, task.job)


class ModelledWorkers(Workers):
    """The port `Workers` on modelled machines, by address."""

    def __init__(self, gpus: Mapping[str, ModelledGpu], otherwise: ModelledGpu) -> None:
        self._gpus, self._otherwise = gpus, otherwise

    def at(self, url: str | None) -> Worker:
        """The machine there; an address that no monitor of the logs switches is taken to be always on."""
        return _ModelledWorker(self._gpus.get(url or "", self._otherwise))

    def resolve(self, url: str | None) -> str:
        """The address as it was given."""
        return url or self._otherwise.url


class _ModelledWorker(Worker):
    def __init__(self, gpu: ModelledGpu) -> None:
        self._gpu = gpu

    async def _call(self, seconds: float | None = None) -> ModelledGpu:
        gpu = self._gpu
        if gpu.serving:
            await asyncio.sleep(gpu.pace.call if seconds is None else seconds)
        if not gpu.serving:
            raise WorkerUnreachable(f"nobody answers at {gpu.url}")
        return gpu

    async def health(self) -> Health:
        return Health((await self._call()).initialized, FEATURES)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        known = (await self._call()).known
        return {file.hash: file.hash in known for file in files}

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        half, resumed = file.size // 2, ref.hash in self._gpu.begun
        (await self._call(None if resumed else self._gpu.pace.transfer)).begun.add(ref.hash)
        yield Resumed(half) if resumed else half
        (await self._call(self._gpu.pace.transfer)).known.add(ref.hash)
        yield file.size

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        gpu = await self._call()
        task_id = f"{video.hash[:12]}-{audio.hash[:12]}"
        return TaskReceipt(task_id, cached=gpu.take(job.id, task_id))

    async def report(self, task_id: str) -> TaskReport:
        gpu = await self._call()
        task = gpu.tasks.get(task_id)
        if task is None:
            raise TaskLost(f"the worker knows no task {task_id}")
        if task.done:
            return TaskReport("done", 100.0)
        if gpu.net.now < task.begins:
            return TaskReport("queued")
        return TaskReport("processing", round(100.0 * (gpu.net.now - task.begins) / (task.ends - task.begins), 1))

    async def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        await self._call(self._gpu.pace.transfer)
        yield Downloading(SIZE, SIZE)
        yield Done(output, SIZE)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        (await self._call()).drop(task_id)


class ModelledFiles(Files):
    """The port `Files`: as the logs have them, and where these tell nothing, made up of their names."""

    def __init__(self, known: Mapping[Path, Fingerprint], call: float) -> None:
        self._known, self._call = known, call

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """The same for the same path, always."""
        await asyncio.sleep(self._call)
        found = self._known.get(path, Fingerprint(path, SIZE, 0, {}))
        digests = {str(name): found.digests.get(name) or _made_up(name, found) for name in sorted(algorithms)}
        return Fingerprint(path, found.size, found.mtime_ns, digests)


def _made_up(algorithm: str, file: Fingerprint) -> str:
    digest = hashlib.sha256(f"{algorithm}:{file.path}:{file.size}".encode()).hexdigest()
    return digest[:32] if algorithm == "md5" else digest
