"""A simulated GPU machine, and simulated files of a client, for replays that differ from the recorded run. Pure.

The machine boots, warms up, renders and stops in the times of the logs, without randomness. Its events are recorded as
rows, so that a test can see what it was doing when it was switched off.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.operators.model.errors import TaskLost, WorkerUnreachable
from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import (
    Files,
    Health,
    Output,
    PowerState,
    Resumed,
    TaskReceipt,
    TaskReport,
    Worker,
    Workers,
)
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.protocol import messages as m
from wakestream.streams.replay.network import Network
from wakestream.streams.replay.programs import Answered

ACTIVE_EVERY = 30.0
"""Seconds between two activity messages of a worker, as deployed workers send them."""

SIZE = 1_000_000
"""Bytes of a file that is not in the logs."""

FEATURES = frozenset({"blake3", "cancel", "inputs", "lists", "previews", "range", "small_files", "tus", "wait"})


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of a machine, in seconds.

    Args:
        boot: From the start until the worker connects.
        warm: From then until it is online.
        leave: From the stop until the hub notices that the worker is gone.
        halt: From the stop until the machine is off.
        call: A call to the worker or the provider.
        transfer: The transfer of a file.
        work: A task.
        works: A task, by its job, where it is known.
    """

    boot: float = 1.0
    warm: float = 1.0
    leave: float = 0.05
    halt: float = 1.0
    call: float = 0.001
    transfer: float = 0.001
    work: float = 3.0
    works: Mapping[str, float] = field(default_factory=dict)


class WorkerLink:
    """The worker's connection to the hub. This one does nothing, for a machine that does not belong to the hub."""

    def join(self) -> None:
        """Connect and register."""

    def say(self, message: m.Message) -> None:
        """Send one message, if connected."""

    def part(self, seconds: float) -> None:
        """Stop sending. The connection itself ends so many seconds later."""


OnEvent = Callable[[str, Mapping[str, Any], str | None], None]
"""Records an event: its label, its data, and the job."""


@dataclass(slots=True)
class _Task:
    job: str
    begins: float
    ends: float
    done: bool = False


@dataclass(slots=True)
class SimulatedGpu:
    """One machine. `on_event` is called with each event."""

    name: str
    url: str
    pace: Pace
    net: Network
    link: WorkerLink
    on_event: OnEvent
    reading: PowerState = "stopped"
    serving: bool = False
    initialized: bool = False
    known: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    tasks: dict[str, _Task] = field(default_factory=dict)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    # --- calls of the provider

    def carry_out(self, command: p.PowerCommand, answered: Answered) -> None:
        """Carry out a call of the monitor, after the time that a call takes."""
        self.net.after(self.pace.call, self._carry_out, command, answered)

    def _carry_out(self, command: p.PowerCommand, answered: Answered) -> None:
        match command:
            case p.Start(number):
                self.start()
                answered("power.start", p.Taken(number))
            case p.Stop(number):
                self.stop()
                answered("power.stop", p.Taken(number))
            case p.Inspect(number):
                answered("power.inspect", p.Reading(number, self.reading))
            case p.CheckHealth():
                fault = "it is not initialized" if self.serving else f"{self.url} does not answer"
                answered("power.health", p.HealthAnswer(self.initialized, "" if self.initialized else fault))

    def start(self) -> None:
        """Switch it on. A start while it is not off is a fault of the caller, and is recorded."""
        self.on_event("start" if self.reading == "stopped" else "start.twice", {"reading": self.reading}, None)
        if self.reading == "stopped":
            self.run(self.pace.boot, self.pace.warm)

    def run(self, boot: float, warm: float) -> None:
        """Be on. The worker connects in `boot` seconds, and is online `warm` seconds later."""
        self.reading = "running"
        self._later(boot, self._boot)
        self._later(boot + warm, self._ready)

    def stop(self) -> None:
        """Switch it off, even if it has a task."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        self.on_event("stop", {"reading": self.reading}, None)
        self.reading, self.initialized = "stopping", False
        for task_id, task in list(self.tasks.items()):
            if not task.done:
                self.on_event("task.killed", {"task_id": task_id}, task.job)
                del self.tasks[task_id]
        # A machine that loses power does not close its connection, which may last until after its next start.
        self.link.part(self.pace.leave)
        self._later(min(self.pace.leave, self.pace.halt), self._leave)
        self._later(self.pace.halt, self._off)

    def _boot(self) -> None:
        self.serving = True
        self.link.join()

    def _ready(self) -> None:
        self.initialized = True
        self.on_event("online", {}, None)
        self.link.say(m.Online(msg="the GPU is online", gpu=self.name, url=self.url))

    def _leave(self) -> None:
        self.serving = False

    def _off(self) -> None:
        self.reading = "stopped"
        self.on_event("off", {}, None)

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.timers.append(self.net.after(seconds, call, *args))

    # --- calls of the worker

    def take(self, job: str, task_id: str) -> bool:
        """Begin a task unless it exists; whether it is done already."""
        if task_id not in self.tasks:
            free = max([self.net.now, *(task.ends for task in self.tasks.values() if not task.done)])
            work = self.pace.works.get(job, self.pace.work)
            self.tasks[task_id] = _Task(job, free, free + work)
            self.on_event("task", {"task_id": task_id}, job)
            self._later(free - self.net.now, self._beat, task_id)
            self._later(free + work - self.net.now, self._end, task_id)
        return self.tasks[task_id].done

    def drop(self, task_id: str) -> None:
        """Remove a task."""
        self.tasks.pop(task_id, None)

    def _beat(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is not None and not task.done:
            self.link.say(m.TaskActive(task_id=task_id, task_type="heygem_submit"))
            self._later(ACTIVE_EVERY, self._beat, task_id)

    def _end(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is not None:
            task.done = True
            self.on_event("task.done", {"task_id": task_id}, task.job)


class SimulatedWorkers(Workers):
    """The port `Workers`, by the address of simulated machines."""

    def __init__(self, gpus: Mapping[str, SimulatedGpu], otherwise: SimulatedGpu) -> None:
        self._gpus, self._otherwise = gpus, otherwise

    def at(self, url: str | None) -> Worker:
        """The worker at this address. One that no monitor of the logs switches is always on."""
        return _SimulatedWorker(self._gpus.get(url or "", self._otherwise))

    def resolve(self, url: str | None) -> str:
        """The address unchanged."""
        return url or self._otherwise.url


class _SimulatedWorker(Worker):
    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu

    async def _call(self, seconds: float | None = None) -> SimulatedGpu:
        gpu = self._gpu
        if gpu.serving:
            await asyncio.sleep(gpu.pace.call if seconds is None else seconds)
        if not gpu.serving:
            raise WorkerUnreachable(f"{gpu.url} does not answer")
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

    async def upload_small(self, files: Mapping[FileRef, Fingerprint]) -> None:
        (await self._call(self._gpu.pace.transfer)).known.update(ref.hash for ref in files)

    async def submit(self, job: Job, files: Mapping[str, FileRef]) -> TaskReceipt:
        gpu = await self._call()
        task_id = "-".join(file.hash[:12] for file in files.values())
        return TaskReceipt(task_id, cached=gpu.take(job.id, task_id))

    async def report(self, task_id: str) -> TaskReport:
        gpu = await self._call()
        task = gpu.tasks.get(task_id)
        if task is None:
            raise TaskLost(f"the worker has no task {task_id}")
        if task.done:
            return TaskReport("done", 100.0)
        if gpu.net.now < task.begins:
            return TaskReport("queued")
        return TaskReport("processing", round(100.0 * (gpu.net.now - task.begins) / (task.ends - task.begins), 1))

    async def download(
        self, task_id: str, output: Path, name: str | None = None, made: Output | None = None
    ) -> AsyncIterator[Downloading | Done]:
        await self._call(self._gpu.pace.transfer)
        yield Downloading(SIZE, SIZE)
        yield Done(output, SIZE)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        (await self._call()).drop(task_id)


class SimulatedFiles(Files):
    """The port `Files`: the fingerprints of the logs, and made-up ones for other files."""

    def __init__(self, known: Mapping[Path, Fingerprint], call: float) -> None:
        self._known, self._call = known, call

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """Always the same for the same path."""
        await asyncio.sleep(self._call)
        known = self._known.get(path, Fingerprint(path, SIZE, 0, {}))
        digests = {str(name): known.digests.get(name) or _made_up(name, known) for name in sorted(algorithms)}
        return Fingerprint(path, known.size, known.mtime_ns, digests)


def _made_up(algorithm: str, file: Fingerprint) -> str:
    digest = hashlib.sha256(f"{algorithm}:{file.path}:{file.size}".encode()).hexdigest()
    return digest[:32] if algorithm == "md5" else digest
