"""Fakes of the ports, for tests. They live in memory and use the time of the event loop, real or virtual."""

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

from wakestream.adapters.power.config import Machine
from wakestream.operators.model.depot import Place
from wakestream.operators.model.errors import FileUnusable, NoCapacity, PowerError, WakestreamError, WorkerRefused
from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import (
    Health,
    LinkDown,
    LinkUp,
    Output,
    PowerState,
    Reading,
    TaskReceipt,
    TaskReport,
)
from wakestream.streams.protocol import messages as m

M = TypeVar("M", bound=m.Message)


class FakeLink:
    """A link whose hub is played by the test.

    `sent` has the messages that were sent, the oldest first.

    Example:
        >>> link = FakeLink()
        >>> link.connect("grant")
        >>> link.receive(m.Ack(request_id="job-1", gpu="gpu", url="http://gpu:8383"))
    """

    def __init__(self) -> None:
        self.sent: list[m.Message] = []
        self.up = False
        self.closed = False
        self._subject: Subject[m.Message | LinkUp | LinkDown] = Subject()
        self._waiting: list[tuple[Callable[[m.Message], bool], asyncio.Future[m.Message]]] = []

    @property
    def events(self) -> Observable[m.Message | LinkUp | LinkDown]:
        """The events that the test emits."""
        return self._subject

    def connect(self, *features: str) -> None:
        """Emit `LinkUp`: the hub registered us and has these features."""
        self.up = True
        self._subject.on_next(LinkUp(frozenset(features)))

    def disconnect(self, why: str = "cut") -> None:
        """Emit `LinkDown`: the connection is lost."""
        self.up = False
        self._subject.on_next(LinkDown(why))

    def refuse(self, why: str, code: str) -> None:
        """Emit `LinkDown`: the hub refuses the connection with this code."""
        self.up = False
        self._subject.on_next(LinkDown(why, code))

    def receive(self, message: m.Message) -> None:
        """Emit a message of the hub."""
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
        """All sent messages of one type, the oldest first."""
        return [message for message in self.sent if isinstance(message, kind)]

    async def next(self, kind: type[M], holds: Callable[[M], bool] = lambda _: True) -> M:
        """Wait for a message that is sent after this call.

        Args:
            kind: The type of the message.
            holds: Returns True for the message that is wanted.

        Returns:
            The message.

        Example:
            >>> submit = await link.next(m.Submit)
        """
        future: asyncio.Future[m.Message] = asyncio.get_running_loop().create_future()
        self._waiting.append((lambda message: isinstance(message, kind) and holds(message), future))
        message = await future
        assert isinstance(message, kind)  # noqa: S101 - it was chosen so
        return message

    async def close(self) -> None:
        """Close the link."""
        self.up, self.closed = False, True


class FakePower:
    """A machine that starts and stops in the loop's time.

    The test can set faults: the next `lacks` starts find no capacity; while `deaf` is set, starts are accepted without
    effect; `broken` is the error that every call raises, `refused` the error of each start. `address` and `gpus` are
    those of a machine that runs.

    Args:
        boot: Seconds to start.
        halt: Seconds to stop.
        on: Whether it runs at first.

    Example:
        >>> power = FakePower(boot=30.0)
        >>> power.lacks = 1  # the first start finds no capacity
    """

    def __init__(self, *, boot: float = 0.0, halt: float = 0.0, on: bool = False) -> None:
        self.boot, self.halt = boot, halt
        self.lacks = 0
        self.deaf = False
        self.broken: PowerError | None = None
        self.starts = 0
        self.stops = 0
        self.refused: PowerError | None = None
        self.address: str | None = None
        self.gpus: int | None = None
        self._detail = ""
        self._settled: PowerState = "running" if on else "stopped"
        self._moving: tuple[PowerState, float, PowerState] | None = None

    async def start(self) -> None:
        """Start the machine."""
        self._check()
        self.starts += 1
        if self.refused is not None:
            raise self.refused
        if self.lacks:
            self.lacks -= 1
            raise NoCapacity("no machine of this kind is free")
        if not self.deaf:
            self._move("starting", self.boot, "running")

    async def stop(self) -> None:
        """Stop the machine."""
        self._check()
        self.stops += 1
        self._move("stopping", self.halt, "stopped")

    async def inspect(self) -> Reading:
        """The current state."""
        self._check()
        state = self._state()
        if state != "running":
            return Reading(state, detail=self._detail)
        return Reading(state, self.address, detail=self._detail, gpus=self.gpus)

    async def close(self) -> None:
        """Do nothing."""

    async def machines(self) -> Sequence[Machine]:
        """The one machine."""
        return [Machine("fake", "fake", self._state())]

    def _state(self) -> PowerState:
        if self._moving is not None:
            during, until, after = self._moving
            if asyncio.get_running_loop().time() < until:
                return during
            self._settled, self._moving = after, None
        return self._settled

    def settle(self, reading: PowerState, detail: str = "") -> None:
        """Set the state of the machine, as if the provider had changed it."""
        self._settled, self._moving, self._detail = reading, None, detail

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _move(self, during: PowerState, seconds: float, after: PowerState) -> None:
        self._moving = (during, asyncio.get_running_loop().time() + seconds, after)


Scripted = TypeVar("Scripted")


class FakeWorker:
    """A worker with scripted answers, in the loop's time. `calls` has the calls as `(name, argument)`.

    `failures["upload"] = [error, ...]` makes the next calls of that name fail, `delays["submit"] = 3.0` sets their
    duration in seconds, and every call raises `gone` while it is set.

    Args:
        healths: The answers to `health`, one by one; the last one is repeated, errors are raised.
        reports: The answers to `report`, in the same way.
        known: The hashes of the files that it has. Uploads add to them.
        receipt: The answer to `submit`; by default a task that is named after the files.
        size: Bytes of every result.

    Example:
        >>> worker = FakeWorker(reports=[TaskReport("processing", 50.0), TaskReport("done", 100.0)])
        >>> worker.failures["upload"] = [WorkerUnreachable("the connection was lost")]
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
        """The arguments of all calls of this name."""
        return [what for call, what in self.calls if call == name]

    async def health(self) -> Health:
        """The next of `healths`."""
        await self._called("health", None)
        return _next_of(self.healths)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """Which files are in `known`."""
        await self._called("check", tuple(files))
        return {ref.hash: ref.hash in self.known for ref in files}

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int, None]:
        """Receive the file in two halves; a failure comes between them."""
        yield file.size // 2
        await self._called("upload", ref)
        self.known.add(ref.hash)
        yield file.size

    async def upload_small(self, files: Mapping[FileRef, Fingerprint]) -> None:
        """Receive all files."""
        await self._called("upload_small", tuple(files))
        self.known.update(ref.hash for ref in files)

    async def submit(self, job: Job, files: Mapping[str, FileRef]) -> TaskReceipt:
        """`receipt`, or a task that is named after the files."""
        await self._called("submit", (job.id, *files.values()))
        return self.receipt or TaskReceipt("-".join(file.hash[:8] for file in files.values()))

    async def report(self, task_id: str) -> TaskReport:
        """The next of `reports`."""
        await self._called("report", task_id)
        return _next_of(self.reports)

    async def download(
        self, task_id: str, output: Path, name: str | None = None, made: Output | None = None
    ) -> AsyncGenerator[Downloading | Done, None]:
        """Report `size` bytes and write nothing; a failure comes after half of them."""
        yield Downloading(self.size // 2, self.size)
        await self._called("download", (task_id, output) if name is None else (task_id, output, name))
        yield Downloading(self.size, self.size)
        yield Done(output, self.size)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Only in `calls`."""
        await self._called("cancel", task_id)

    async def _called(self, name: str, what: object) -> None:
        self.calls.append((name, what))
        await asyncio.sleep(self.delays.get(name, 0.0))
        if self.gone is not None:
            raise self.gone
        if self.failures.get(name):
            raise self.failures[name].pop(0)


def _next_of(script: deque[Scripted | WakestreamError]) -> Scripted:
    answer = script.popleft() if len(script) > 1 else script[0]
    if isinstance(answer, WakestreamError):
        raise answer
    return answer


class FakeDepot(FakeWorker):
    """A depot with scripted answers, as those of `FakeWorker`: `put` is its `upload`, `get` its `download`.

    Example:
        >>> depot = FakeDepot()
        >>> depot.failures["upload"] = [LinkExpired("the link is over")]
    """

    def put(self, file: Fingerprint, place: Place) -> AsyncGenerator[int, None]:
        """Receive the file in two halves."""
        return self.upload(file, FileRef(place.file.blake3, place.file.ext))

    def get(self, place: Place, output: Path) -> AsyncGenerator[Downloading | Done, None]:
        """Report `size` bytes and write nothing."""
        return self.download(place.file.blake3, output)


class FakeWorkers:
    """Workers by address.

    Args:
        workers: The workers.
        default: The address of the worker in the settings.

    Example:
        >>> workers = FakeWorkers({"http://gpu:8383": FakeWorker()}, "http://gpu:8383")
    """

    def __init__(self, workers: Mapping[str, FakeWorker], default: str | None = None) -> None:
        self.workers = dict(workers)
        self.default = default

    def resolve(self, url: str | None) -> str:
        """The given address, or the default."""
        address = url or self.default
        if address is None:
            raise WorkerRefused("neither the hub nor the settings name a worker", code="no_worker")
        return address

    def at(self, url: str | None) -> FakeWorker:
        """Return the worker at an address.

        Args:
            url: The address; None for the default.

        Raises:
            WorkerRefused: there is no worker at this address.
        """
        address = self.resolve(url)
        if address not in self.workers:
            raise WorkerRefused(f"this test has no worker at {address}", code="no_worker")
        return self.workers[address]


class FakeFiles:
    """Files in memory. `readings` has the calls.

    Args:
        files: For each path the content, the fingerprint, or the error that reading raises.

    Example:
        >>> files = FakeFiles({"clip.mp4": b"video", "speech.wav": FileUnusable("cannot be read")})
    """

    def __init__(self, files: Mapping[str | Path, bytes | Fingerprint | WakestreamError]) -> None:
        self.files = {Path(path): file for path, file in files.items()}
        self.readings: list[tuple[Path, frozenset[Algorithm]]] = []

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """The fingerprint of a file, with the date 0."""
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
