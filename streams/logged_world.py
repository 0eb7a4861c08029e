"""The world as a log has it: each call of a job gets the next recorded outcome of its kind, at its recorded time."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from wakestream.operators.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.ports import Files, Health, TaskReceipt, TaskReport, Worker, Workers
from wakestream.streams import effects
from wakestream.streams.recording import Log, Row

Until = Callable[[float], Awaitable[None]]
"""Waits until so many seconds after the log's epoch."""


class Answers:
    """What `log` knows of the effects of `job`."""

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


class LoggedFiles(Files):
    """The port `Files`, answered by a log."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """As it was read then."""
        return effects.fingerprint_from(await self._answers.of("fingerprint"))


class LoggedWorkers(Workers):
    """The port `Workers`, answered by a log."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def at(self, url: str | None) -> Worker:
        """The worker, whichever it was."""
        return _LoggedWorker(self._answers)

    def resolve(self, url: str | None) -> str:
        """As it was resolved then."""
        return str(self._answers.now("resolve"))


class _LoggedWorker(Worker):
    def __init__(self, answers: Answers) -> None:
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
