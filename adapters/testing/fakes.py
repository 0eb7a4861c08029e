"""Fakes of the ports, for tests of ours and of users: they live in memory and in the loop's time, real or virtual."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from blake3 import blake3
from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.model.errors import FileUnusable, NoCapacity, PowerError, WakestreamError, WorkerRefused
from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Health, LinkDown, LinkUp, PowerReading, TaskReceipt, TaskReport
from wakestream.streams.protocol import messages as m

M = TypeVar("M", bound=m.Message)


class FakeLink:
    """The hub's end of a link in the test's hand: `connect`, `receive`, and look at what was `sent`."""

    def __init__(self) -> None:
        self.sent: list[m.Message] = []
        self.up = False
        self.closed = False
        self._subject: Subject[m.Message | LinkUp | LinkDown] = Subject()
        self._waiting: list[tuple[Callable[[m.Message], bool], asyncio.Future[m.Message]]] = []

    @property
    def events(self) -> Observable[m.Message | LinkUp | LinkDown]:
        """What the test makes happen."""
        return self._subject

    def connect(self, *features: str) -> None:
        """The hub registered us; `features` are its own."""
        self.up = True
        self._subject.on_next(LinkUp(frozenset(features)))

    def disconnect(self, why: str = "cut") -> None:
        """The connection is lost."""
        self.up = False
        self._subject.on_next(LinkDown(why))

    def refuse(self, why: str, code: str) -> None:
        """The hub turns us away, for the reason that `code` names."""
        self.up = False
        self._subject.on_next(LinkDown(why, code))

    def receive(self, message: m.Message) -> None:
        """The hub says something."""
        self._subject.on_next(message)

    def send(self, message: m.Message) -> bool:
        """Keep the message in `sent`; False while there is no connection."""
        if not self.up:
            return False
        self.sent.append(message)
        for waiter in tuple(self._waiting):
            if waiter[0](message) and not waiter[1].done():
                waiter[1].set_result(message)
                self._waiting.remove(waiter)
        return True

    def said(self, kind: type[M]) -> list[M]:
        """All messages of one kind that were sent, oldest first."""
        return [message for message in self.sent if isinstance(message, kind)]

    async def next(self, kind: type[M], holds: Callable[[M], bool] = lambda _: True) -> M:
        """The next message of this kind that is sent from now on, and for which `holds` is true."""
        future: asyncio.Future[m.Message] = asyncio.get_running_loop().create_future()
        self._waiting.append((lambda message: isinstance(message, kind) and holds(message), future))
        message = await future
        assert isinstance(message, kind)  # noqa: S101 - it was chosen so
        return message

    async def close(self) -> None:
        """Hang up."""
        self.up, self.closed = False, True


class FakePower:
    """A machine that takes `boot` seconds to start and `halt` to stop, in the loop's time.

    Faults on order: `lacks` so many starts find no capacity, `deaf` starts are accepted and nothing happens,
    `broken` is the error that every call then raises.
    """

    def __init__(self, *, boot: float = 0.0, halt: float = 0.0, on: bool = False) -> None:
        self.boot, self.halt = boot, halt
        self.lacks = 0
        self.deaf = False
        self.broken: PowerError | None = None
        self.starts = 0
        self.stops = 0
        self.detail = ""
        self._settled: PowerReading = "running" if on else "stopped"
        self._moving: tuple[PowerReading, float, PowerReading] | None = None

    async def start(self) -> None:
        """Begin to start."""
        self._check()
        self.starts += 1
        if self.lacks:
            self.lacks -= 1
            raise NoCapacity("no machine of this kind is free")
        if not self.deaf:
            self._move("starting", self.boot, "running")

    async def stop(self) -> None:
        """Begin to stop."""
        self._check()
        self.stops += 1
        self._move("stopping", self.halt, "stopped")

    async def inspect(self) -> PowerReading:
        """What it is doing now."""
        self._check()
        if self._moving is not None:
            during, until, after = self._moving
            if asyncio.get_running_loop().time() < until:
                return during
            self._settled, self._moving = after, None
        return self._settled

    def settle(self, reading: PowerReading, detail: str = "") -> None:
        """Something happens to the machine that nobody asked for."""
        self._settled, self._moving, self.detail = reading, None, detail

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _move(self, during: PowerReading, seconds: float, after: PowerReading) -> None:
        self._moving = (during, asyncio.get_running_loop().time() + seconds, after)


Scripted = TypeVar("Scripted")


class FakeWorker:
    """A worker that answers as it is told, in the loop's time, and notes the `calls` that were made.

    `healths` and `reports` are told one by one, an error among them is raised, the last one stays. `known` holds the
    hashes that it has; uploads add to it. `failures["upload"] = [error, ...]` makes the next calls of that name fail,
    `delays["submit"] = 3.0` makes them take so long, and `gone` is raised by every call while it is set.
    """

    def __init__(
        self,
        *,
        healths: Iterable[Health | WakestreamError] = (Health(initialized=True),),
        reports: Iterable[TaskReport | WakestreamError] = (TaskReport("done", 100.0),),
        known: Collection[str] = (),
        receipt: TaskReceipt | None = None,
        size: int = 1000,
    ) -> None:
        self.healths = deque(healths)
        self.reports = deque(reports)
        self.known = set(known)
        self.receipt = receipt
        self.size = size
        self.failures: dict[str, list[WakestreamError]] = {}
        self.delays: dict[str, float] = {}
        self.gone: WakestreamError | None = None
        self.calls: list[tuple[str, object]] = []

    def said(self, name: str) -> list[object]:
        """What each call of this name was made with."""
        return [what for call, what in self.calls if call == name]

    async def health(self) -> Health:
        """The next of `healths`."""
        await self._called("health", None)
        return _told(self.healths)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """Which are in `known`."""
        await self._called("check", tuple(files))
        return {ref.hash: ref.hash in self.known for ref in files}

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int, None]:
        """Takes the file in two halves; a failure comes between them."""
        yield file.size // 2
        await self._called("upload", ref)
        self.known.add(ref.hash)
        yield file.size

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        """`receipt`, or a task named by the pair of files."""
        await self._called("submit", (job.id, video, audio))
        return self.receipt or TaskReceipt(f"{video.hash[:8]}-{audio.hash[:8]}")

    async def report(self, task_id: str) -> TaskReport:
        """The next of `reports`."""
        await self._called("report", task_id)
        return _told(self.reports)

    async def download(self, task_id: str, output: Path) -> AsyncGenerator[Downloading | Done, None]:
        """Says that `size` bytes came, and writes nothing; a failure comes half way."""
        yield Downloading(self.size // 2, self.size)
        await self._called("download", (task_id, output))
        yield Downloading(self.size, self.size)
        yield Done(output, self.size)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Noted."""
        await self._called("cancel", task_id)

    async def _called(self, name: str, what: object) -> None:
        self.calls.append((name, what))
        await asyncio.sleep(self.delays.get(name, 0.0))
        if self.gone is not None:
            raise self.gone
        if self.failures.get(name):
            raise self.failures[name].pop(0)


def _told(script: deque[Scripted | WakestreamError]) -> Scripted:
    told = script.popleft() if len(script) > 1 else script[0]
    if isinstance(told, WakestreamError):
        raise told
    return told


class FakeWorkers:
    """Workers by address; `default` is the one that settings would name."""

    def __init__(self, workers: Mapping[str, FakeWorker], default: str | None = None) -> None:
        self.workers = dict(workers)
        self.default = default

    def resolve(self, url: str | None) -> str:
        """The address as it was given."""
        address = url or self.default
        if address is None:
            raise WorkerRefused("neither the hub nor the settings name a worker", code="no_worker")
        return address

    def at(self, url: str | None) -> FakeWorker:
        """The worker there, which must be one of `workers`."""
        address = self.resolve(url)
        if address not in self.workers:
            raise WorkerRefused(f"this test has no worker at {address}", code="no_worker")
        return self.workers[address]


class FakeFiles:
    """Files that are bytes, fingerprints made elsewhere, or the error of reading them; notes its `readings`."""

    def __init__(self, files: Mapping[str | Path, bytes | Fingerprint | WakestreamError]) -> None:
        self.files = {Path(path): file for path, file in files.items()}
        self.readings: list[tuple[Path, frozenset[Algorithm]]] = []

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """As the file on a disk would have it, dated 0."""
        self.readings.append((path, frozenset(algorithms)))
        file = self.files.get(path)
        if isinstance(file, WakestreamError):
            raise file
        if not file:
            raise FileUnusable(f"{path} does not exist")
        if isinstance(file, Fingerprint):
            return file
        digests = {"md5": hashlib.md5(file, usedforsecurity=False).hexdigest(), "blake3": blake3(file).hexdigest()}
        return Fingerprint(path, len(file), 0, {name: digests[name] for name in sorted(algorithms)})
