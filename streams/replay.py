"""A recorded log drives the same pipelines again: the log's frames come in, its effects answer, time is the loop's.

Run it on a virtual loop (`wakestream.adapters.virtual_loop`) and thirty minutes take milliseconds.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.operators.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job, JobEvent
from wakestream.operators.flow.scheduler import LoopScheduler
from wakestream.operators.job.outcome import is_outcome
from wakestream.operators.policy import Policy
from wakestream.operators.ports import Files, Health, LinkDown, LinkUp, TaskReceipt, TaskReport, Worker, Workers
from wakestream.streams import effects, wire
from wakestream.streams import messages as m
from wakestream.streams.daemon import Daemon, job_random, policy_from
from wakestream.streams.hub_client import HubClient
from wakestream.streams.job import World
from wakestream.streams.recording import Log, Row


@dataclass
class Replayed:
    """What the program did this time: its events by job, with times, and the frames that it sent."""

    events: dict[str, list[tuple[float, JobEvent]]] = field(default_factory=lambda: defaultdict(list))
    sent: list[tuple[float, m.Message]] = field(default_factory=list)

    def outcome(self, job: str) -> JobEvent | None:
        """The job's last event if it ended, else None."""
        last = self.events[job][-1][1] if self.events[job] else None
        return last if last is not None and is_outcome(last) else None


async def replay(log: Log, policy: Policy | None = None) -> Replayed:
    """Feed the log of a client to the same program, at the log's own times; returns when all its jobs have ended.

    `policy` is the one that the log was recorded under, unless another is given to ask "what if".
    """
    return await _Replay(log, policy or policy_from(log.header.config)).run()


Until = Callable[[float], Awaitable[None]]


class _Replay:
    def __init__(self, log: Log, policy: Policy) -> None:
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time()
        self.scheduler = LoopScheduler(self.loop)
        self.said = Replayed()
        self.hub = HubClient(self._send, self._fault)
        self.daemon = Daemon(self._world, policy)
        self.open: set[str] = set()
        self.over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> Replayed:
        drives = [row for row in self.log.rows if row.dir == "conn" or (row.dir == "in" and row.label != "registered")]
        self.open = {row.job for row in drives if row.label == "job.accept" and row.job}
        if not self.open:
            return self.said
        for row in drives:
            self.loop.call_at(self.start + row.t, self._drive, row)
        await self.over
        await self.scheduler.close()
        return self.said

    def _world(self, job: Job) -> World:
        answers = _Answers(self.log, job.id, self._until)
        return World(self.hub, _LoggedWorkers(answers), _LoggedFiles(answers), job_random(self.log.header.seed, job))

    def _send(self, message: m.Message) -> bool:
        self.said.sent.append((self.loop.time() - self.start, message))
        return True

    def _fault(self, error: Exception, _: Any) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def _drive(self, row: Row) -> None:
        if row.dir == "conn":
            self.hub.feed(_link(row))
        elif row.label == "job.accept":
            self._accept(row)
        elif row.label == "job.cancel":
            self.daemon.cancel(str(row.job))
        else:
            self.hub.feed(wire.from_frame(row.data, strict=False))

    def _accept(self, row: Row) -> None:
        job = _job(row)

        def on_next(event: JobEvent) -> None:
            self.said.events[job.id].append((self.loop.time() - self.start, event))

        def on_completed() -> None:
            self.open.discard(job.id)
            if not self.open and not self.over.done():
                self.over.set_result(None)

        self.daemon.events(job).subscribe(
            on_next, lambda error: self._fault(error, job), on_completed, scheduler=self.scheduler
        )

    async def _until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, self.start + t - self.loop.time()))


def _link(row: Row) -> LinkUp | LinkDown:
    if row.label == "up":
        return LinkUp(frozenset(row.data.get("features", ())))
    return LinkDown(row.data.get("why", ""), row.data.get("code"))


def _job(row: Row) -> Job:
    data = row.data
    return Job(str(row.job), Path(data["video"]), Path(data["audio"]), Path(data["output"]), data["task_type"])


class _Answers:
    """The world as one job's log has it: each call gets the next recorded outcome of its kind, at its time."""

    def __init__(self, log: Log, job: str, until: Until) -> None:
        self._rows: dict[str, deque[Row]] = defaultdict(deque)
        for row in log.rows:
            if row.dir == "effect" and row.job == job:
                self._rows[row.label].append(row)
        self._until = until

    def now(self, label: str) -> Any:
        """The next outcome of a call that takes no time."""
        return self._rows[label].popleft().data["ok"]

    async def of(self, label: str) -> Any:
        """The next outcome of a call, or its error."""
        return (await self._next(label)).get("ok")

    async def items(self, label: str) -> AsyncIterator[Any]:
        """The items of one call that gives many, up to its end or its error."""
        while True:
            data = await self._next(label)
            if data.get("end"):
                return
            yield data["item"]

    async def _next(self, label: str) -> Mapping[str, Any]:
        if not self._rows[label]:
            # The log tells of no end: the call was let go of, or the log ends here. Only a dispose helps.
            await asyncio.get_running_loop().create_future()
        row = self._rows[label].popleft()
        await self._until(row.t)
        if "error" in row.data:
            raise effects.error_from(row.data["error"])
        return row.data


class _LoggedFiles(Files):
    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        return effects.fingerprint_from(await self._answers.of("fingerprint"))


class _LoggedWorkers(Workers):
    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def at(self, url: str | None) -> Worker:
        return _LoggedWorker(self._answers)

    def resolve(self, url: str | None) -> str:
        return str(self._answers.now("resolve"))


class _LoggedWorker(Worker):
    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    async def health(self) -> Health:
        return effects.health_from(await self._answers.of("health"))

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        return dict(await self._answers.of("check"))

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int]:
        return self._answers.items("upload")

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        return TaskReceipt(**await self._answers.of("submit"))

    async def report(self, task_id: str) -> TaskReport:
        return TaskReport(**await self._answers.of("report"))

    async def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        async for item in self._answers.items("download"):
            yield effects.transfer_from(item)

    async def cancel(self, task_id: str) -> None:
        await self._answers.of("cancel")
