"""The ports of a replayed job: each call gets the next recorded result with its label, at its recorded time."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from wakestream.operators.model.events import JobEvent
from wakestream.operators.model.ports import Hub
from wakestream.streams.jobs.effects import (
    NUMBER,
    Calls,
    EqualCalls,
    Form,
    LoggedDepot,
    LoggedEffects,
    LoggedFiles,
    LoggedWorkers,
    Plain,
    call_row,
    error_from,
)
from wakestream.streams.jobs.world import World
from wakestream.streams.recording.recording import Log, Row, Tap, untapped

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
    rows_by_job: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in log.rows:
        if row.dir == "effect":
            rows_by_job[row.job].append(row)
    return rows_by_job


class Answers(Calls):
    """The recorded results of the calls of one job.

    A call gets the next row with its label, worker and arguments, so concurrent calls each get their own results. Equal
    calls that run at once have numbers, see `EqualCalls`; older logs do not have them. If no row has
    its arguments, it gets the next row of its label, and the replay diverges.

    Args:
        known: The rows of effects, from `effects_of`.
        job: The job.
        until: Waits for a time.
        watch: Collects requests, and calls without a result.
        tap: Where the answers are recorded, as `recorded` does.
    """

    def __init__(self, known: Known, job: str, until: Until, watch: Watch | None = None, tap: Tap = untapped) -> None:
        self._job, self._watch, self._tap = job, watch or Watch(), tap
        self._rows: dict[str, deque[Row]] = defaultdict(deque)  # a job may have polled a hundred thousand times
        for row in known.get(job, ()):
            self._rows[row.label].append(row)
        self._until = until
        self._equal = EqualCalls()

    def now(self, label: str, asked: Plain, effect: object = None) -> str:
        """The next result of a call that takes no time."""
        return str(self._result(self._rows[label].popleft(), asked, 0)["ok"])

    async def call(self, label: str, asked: Plain, effect: object, form: Form) -> Any:
        """The next result of a call, or its error."""
        with self._equal.number(label, asked) as number:
            return form.back((await self._next(label, asked, number)).get("ok"))

    async def items(self, label: str, asked: Plain, effect: object, form: Form) -> AsyncIterator[Any]:
        """The items of one streaming call, up to its end or its error."""
        with self._equal.number(label, asked) as number:
            while not (data := await self._next(label, asked, number)).get("end"):
                yield form.back(data["item"])

    async def _next(self, label: str, asked: Plain, number: int) -> Plain:
        self._watch.asks(self._job, label)
        row = self._take(self._rows[label], asked, number)
        if row is None:
            # The log has no result: the call was cancelled, or the log ends here. Wait until the replay is disposed.
            self._watch.unanswered.add((self._job, label))
            never: asyncio.Future[Plain] = asyncio.get_running_loop().create_future()
            return await never
        try:
            await self._until(row.t)
        except asyncio.CancelledError:
            # The call was cancelled before its result came: in the recorded run, the next call got this result.
            rows = self._rows[label]
            rows.insert(next((place for place, later in enumerate(rows) if later.seq > row.seq), len(rows)), row)
            raise
        return self._result(row, asked, number)

    def _result(self, row: Row, asked: Plain, number: int) -> Plain:
        data = row.data
        if data.get("args") != asked.get("args") or data.get("at") != asked.get("at") or data.get(NUMBER, 0) != number:
            data = call_row(asked, number, {name: data[name] for name in data if name in _OUTCOME})
        self._tap.row("effect", row.label, data, self._job)
        if "error" in data:
            raise error_from(data["error"])
        return data

    def _take(self, rows: deque[Row], asked: Plain, number: int) -> Row | None:
        at, args = asked.get("at"), asked.get("args")
        equal = turn = None
        for place, row in enumerate(rows):
            if row.data.get("at", at) != at:
                continue
            if row.data.get("args") == args:
                if row.data.get(NUMBER, 0) == number:
                    return _removed(rows, place)
                equal = place if equal is None else equal
            turn = place if turn is None else turn
        nearest = turn if equal is None else equal
        return None if nearest is None else _removed(rows, nearest)


def _removed(rows: deque[Row], place: int) -> Row:
    row = rows[place]
    del rows[place]
    return row


_OUTCOME = frozenset({"ok", "error", "item", "end"})
"""What a row says beside what was asked."""


def recorded_world(hub: Hub, answers: Answers, random: Random, *, depot: bool = False) -> World:
    """The world of a replayed job, with a depot or without: the log answers all calls but those to the hub."""
    stored = LoggedDepot(answers) if depot else None
    return World(hub, LoggedWorkers(answers), LoggedFiles(answers), random, LoggedEffects(answers), depot=stored)
