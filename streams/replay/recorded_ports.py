"""The ports of a replayed job: each call gets the next recorded result of its kind, at its recorded time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job, JobEvent
from wakestream.operators.model.ports import Effects, Files, Health, Resumed, TaskReceipt, TaskReport, Worker, Workers
from wakestream.streams.jobs import effects
from wakestream.streams.recording.recording import Log, Row

Until = Callable[[float], Awaitable[None]]
"""Waits until this many seconds after the log's epoch."""


@dataclass(frozen=True, slots=True)
class EffectCall:
    """What a job asked for `t` seconds after the log's epoch: a call of a port, or a submit to the hub."""

    t: float
    job: str
    label: str


@dataclass(slots=True)
class Watch:
    """What a replay has done so far, for the case that it does not end.

    Args:
        open: The jobs that have not ended.
        unanswered: The calls without a result in the log, as (job, label).
        asked: All requests of jobs to hub, worker and files, in order.
        clock: Returns seconds since the log's epoch.
        seen: The events of each job, with their times.
    """

    open: set[str] = field(default_factory=set)
    unanswered: set[tuple[str, str]] = field(default_factory=set)
    asked: list[EffectCall] = field(default_factory=list)
    clock: Callable[[], float] = field(default=float)
    seen: dict[str, list[tuple[float, JobEvent]]] = field(default_factory=dict)

    def sees(self, job: str, event: JobEvent) -> None:
        """Record an event of a job."""
        self.seen[job].append((self.clock(), event))

    def asks(self, job: str, label: str) -> None:
        """Record a request of a job."""
        self.asked.append(EffectCall(self.clock(), job, label))


Known = Mapping[str | None, Sequence[Row]]


def effects_of(log: Log) -> Known:
    """The rows of effects by job. A log may have thousands of jobs, so this is done once."""
    found: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in log.rows:
        if row.dir == "effect":
            found[row.job].append(row)
    return found


class Answers:
    """The recorded results of the calls of one job.

    A call gets the next row with its label, worker and arguments, so concurrent calls each get their own results. If no
    row has its arguments, it gets the next row of its label, and the replay diverges.

    Args:
        known: The rows of effects, from `effects_of`.
        job: The job.
        until: Waits for a time.
        watch: Collects requests, and calls without a result.
    """

    def __init__(self, known: Known, job: str, until: Until, watch: Watch | None = None) -> None:
        self._job, self._watch = job, watch or Watch()
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for row in known.get(job, ()):
            self._rows[row.label].append(row)
        self._until = until

    def now(self, label: str) -> Any:
        """The next result of a call that takes no time."""
        data = self._rows[label].pop(0).data
        if "error" in data:
            raise effects.error_from(data["error"])
        return data["ok"]

    async def of(self, label: str, **asked: Any) -> Any:
        """The next result of a call, or its error; `asked` are its `args`, and the worker (`at`) if it has one."""
        return (await self._next(label, asked)).get("ok")

    async def items(self, label: str, **asked: Any) -> AsyncIterator[Any]:
        """The items of one streaming call, up to its end or its error."""
        while True:
            data = await self._next(label, asked)
            if data.get("end"):
                return
            yield data["item"]

    async def _next(self, label: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        self._watch.asks(self._job, label)
        row = self._take(self._rows[label], asked)
        if row is None:
            # The log has no result: the call was cancelled, or the log ends here. Wait until the replay is disposed.
            self._watch.unanswered.add((self._job, label))
            never: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
            return await never
        try:
            await self._until(row.t)
        except asyncio.CancelledError:
            # The call was cancelled before its result came: in the recorded run, the next call got this result.
            self._rows[label].append(row)
            self._rows[label].sort(key=lambda each: each.seq)
            raise
        if "error" in row.data:
            raise effects.error_from(row.data["error"])
        return row.data

    def _take(self, rows: list[Row], asked: Mapping[str, Any]) -> Row | None:
        at, args = asked.get("at"), asked.get("args")
        turn = None
        for place, row in enumerate(rows):
            if row.data.get("at", at) != at:
                continue
            if row.data.get("args") == args:
                return rows.pop(place)
            turn = place if turn is None else turn
        return None if turn is None else rows.pop(turn)


class LoggedEffects(Effects):
    """The port `Effects` with the results of a log: no effect is carried out."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        """The recorded result."""
        return await self._answers.of(effects.own(label), args=args)


class LoggedFiles(Files):
    """The port `Files` with the results of a log."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """The recorded fingerprint."""
        args = effects.fingerprint_args(path, algorithms)
        return effects.fingerprint_from(await self._answers.of("fingerprint", args=args))


class LoggedWorkers(Workers):
    """The port `Workers` with the results of a log."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def at(self, url: str | None) -> Worker:
        """The worker at this address."""
        return _LoggedWorker(self._answers, url)

    def resolve(self, url: str | None) -> str:
        """The recorded address."""
        return str(self._answers.now("resolve"))


class _LoggedWorker(Worker):
    def __init__(self, answers: Answers, url: str | None) -> None:
        self._answers = answers
        self._url = url

    async def health(self) -> Health:
        return effects.health_from(await self._of("health", {}))

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        return dict(await self._of("check", effects.check_args(files)))

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        async for item in self._answers.items("upload", at=self._url, args=effects.upload_args(ref)):
            yield effects.sent_from(item)

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        return TaskReceipt(**await self._of("submit", effects.submit_args(video, audio)))

    async def report(self, task_id: str) -> TaskReport:
        return TaskReport(**await self._of("report", effects.task_args(task_id)))

    async def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        async for item in self._answers.items("download", at=self._url, args=effects.task_args(task_id)):
            yield effects.transfer_from(item)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        await self._of("cancel", effects.task_args(task_id))

    async def _of(self, label: str, args: Mapping[str, Any]) -> Any:
        return await self._answers.of(label, at=self._url, args=args)
