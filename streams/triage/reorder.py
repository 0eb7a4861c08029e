"""Reorder a log: the same messages and results, some later or earlier, in another possible order. Pure.

The frames of a connection keep their order. An answer comes after its question, even if the question is now later.
Results of calls of one kind keep their order. Commands of users (accept, cancel) may come at any time, calls may be
slower or faster, and a connection may stall, or break earlier or later.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from random import Random

from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.log_edit import log_as_replayed, with_rows
from wakestream.streams.recording.recording import TICK, Log, Row
from wakestream.streams.replay.report import JobEnd
from wakestream.streams.triage.replay_attempt import Trial

SPREAD = 2.0
"""The default limit in seconds by which a row is moved."""

_CALM = (0.2, 0.5, 0.8, 0.97)
"""Shares of rows that are not moved. One is drawn for each group, since a race needs one group that is faster."""


def reordered(log: Log, seed: int, spread: float = SPREAD) -> Log:
    """Move the inputs of `log` to other times.

    Args:
        log: The log of a daemon, a hub or a monitor.
        seed: The same seed moves the same rows.
        spread: About the most seconds by which a row is moved.
    """
    mover = _MOVERS[log.header.program](log, Random(f"{seed}/reorder"), min(spread, _longest_delay(log)))
    return with_rows(log, [mover.moved(row) for row in log.rows], {"reordered": {"seed": seed}})


def _longest_delay(log: Log) -> float:
    """A quarter of the program's shortest timeout: a longer delay would itself be a failure."""
    policy = log.header.config.get("policy", {})
    waits = (policy.get(name) for name in ("reply", "online", "ready", "lost", "transfer", "execution", "register"))
    return min([value / 4 for value in waits if isinstance(value, int | float)], default=SPREAD)


class _Mover(ABC):
    """Moves the rows of a log, in their order. Rows of one group keep their order."""

    def __init__(self, log: Log, random: Random, spread: float) -> None:
        self.random, self.spread = random, spread
        self.last: defaultdict[Hashable, float] = defaultdict(float)
        self.calm: defaultdict[Hashable, float] = defaultdict(lambda: random.choice(_CALM))

    def moved(self, row: Row) -> Row:
        """Return `row` with its new time."""
        return dataclasses.replace(row, t=round(max(0.0, self.time(row)), 6))

    @abstractmethod
    def time(self, row: Row) -> float:
        """The new time of `row`, in seconds since the log's epoch."""

    def draw(self, group: Hashable, *, sooner: bool = False) -> float:
        """Draw the seconds by which a row of `group` is moved."""
        if self.random.random() < self.calm[group]:
            return 0.0
        return self.random.uniform(-self.spread if sooner else 0.0, self.spread)

    def after(self, group: Hashable, t: float, *causes: float) -> float:
        """The earliest time from `t` on that is after the last row of `group` and after each of the causes."""
        self.last[group] = max(t, self.last[group] + TICK, *(cause + TICK for cause in causes))
        return self.last[group]


class _ClientMover(_Mover):
    """A client: its link is one group, and each kind of call of each job is one."""

    def __init__(self, log: Log, random: Random, spread: float) -> None:
        super().__init__(log, random, spread)
        self.accepted: dict[str, float] = {}
        self.late: defaultdict[str | None, float] = defaultdict(float)
        self.said: defaultdict[str, float] = defaultdict(float)

    def time(self, row: Row) -> float:
        match row.dir, row.label:
            case "out", _:
                return self.out(row)
            case "effect", _:
                return self.note(row, self.after((row.job, row.label), row.t + self.draw(row.job, sooner=True)))
            case _, "job.accept":
                self.accepted[str(row.job)] = row.t + self.draw("people")
                return self.note(row, self.accepted[str(row.job)])
            case _, "job.cancel" | "job.retry_now" | "job.move" | "job.order":
                return max(row.t + self.draw("people", sooner=True), self.accepted.get(str(row.job), 0.0) + TICK)
        question = self.said[row.job] if row.job in self.accepted else 0.0
        # A connection may also break earlier, but not before its frames have arrived.
        moved = self.draw("link", sooner=row.dir == "conn" and row.label == "down")
        return self.note(row, self.after("link", row.t + moved, question))

    def out(self, row: Row) -> float:
        """The earliest new time of an output: later by the largest delay of the inputs before it."""
        at = row.t + max(self.late[row.job], self.late[None])
        if row.job is not None and "event" not in row.data:
            self.said[row.job] = max(self.said[row.job], at)
        return at

    def note(self, row: Row, at: float) -> float:
        whose = row.job if row.job in self.accepted else None
        self.late[whose] = max(self.late[whose], at - row.t)
        return at


_GPU_SIDE = frozenset({"worker", "gpu_monitor"})


class _HubMover(_Mover):
    """A hub: each client's connection is a group; monitors and workers are one, since they affect each other."""

    def __init__(self, log: Log, random: Random, spread: float) -> None:
        super().__init__(log, random, spread)
        self.gpu_side = {row.data.get("fd") for row in log.rows if _role(row) in _GPU_SIDE}
        self.asked_at: defaultdict[Hashable, float] = defaultdict(float)
        self.trigger = 0.0

    def moved(self, row: Row) -> Row:
        at = super().moved(row)
        now = row.data.get("now")
        if isinstance(now, int | float):
            return dataclasses.replace(at, data={**row.data, "now": now + at.t - row.t})
        return at

    def time(self, row: Row) -> float:
        if row.dir == "out":
            self.note_sent(row)
            return self.trigger
        fd = row.data.get("fd")
        if fd is None:
            self.trigger = self.after("clock", row.t)
        elif fd in self.gpu_side:
            self.trigger = self.after("gpu side", row.t + self.draw("gpu side"), self.asked_at["gpu side"])
        else:
            self.trigger = self.after(fd, row.t + self.draw(fd), self.asked_at[fd], self.asked_at[fd, row.job])
        return self.trigger

    def note_sent(self, row: Row) -> None:
        """Note that the receiver's next frame may be the answer to this one."""
        for fd in row.data.get("to", ()):
            for group in self.groups_of(fd, row):
                self.asked_at[group] = max(self.asked_at[group], self.trigger)

    def groups_of(self, fd: int, row: Row) -> Iterator[Hashable]:
        if fd in self.gpu_side or row.label == "ack":
            yield "gpu side"  # a worker has work for a job only after its client was sent there
        if row.label in ("connected", "registered"):
            yield fd
        elif row.job is not None:
            yield fd, row.job


def _role(row: Row) -> object:
    return row.data.get("frame", {}).get("role") if row.dir == "in" and row.label == "register" else None


class _MonitorMover(_Mover):
    """A monitor: ticks are not moved, frames are delayed, and a result comes after all rows that may have caused it."""

    def time(self, row: Row) -> float:
        if row.label == "tick":
            return row.t
        if row.dir == "out":
            return max(row.t, self.last["all"])
        return self.after("all", row.t + self.draw("all"))


_MOVERS: Mapping[str, Callable[[Log, Random, float], _Mover]] = {
    "daemon": _ClientMover,
    "hub": _HubMover,
    "monitor": _MonitorMover,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Worse:
    """A job that ended worse in another order."""

    job: str
    then: JobEnd
    now: JobEnd


def worse(before: Trial, after: Trial) -> tuple[Worse, ...]:
    """The jobs that ended worse in `after`, without those that made a call that has no result in the log."""
    if before.report is None or after.report is None:
        return ()
    excused = {job for job, _ in after.unanswered - before.unanswered}
    gone = JobEnd("gone")
    compared = (
        Worse(job, was.outcome, after.report.now[job].outcome if job in after.report.now else gone)
        for job, was in before.report.now.items()
        if job not in excused
    )
    return tuple(change for change in compared if change.now.worse_than(change.then))


def failing(perturbed: Log, before: Trial, after: Trial) -> Log:
    """A log that fails when it is replayed: `perturbed`, with the better outcomes as the expected ones."""
    if after.replayed is None or perturbed.header.program != "daemon":
        return perturbed
    worsened = {change.job for change in worse(before, after)}
    ends = {row.job: row for row in perturbed.rows if row.dir == "out" and row.label in OUTCOME_KINDS}

    def expected(row: Row) -> Row:
        if row.dir == "out" and row.job in worsened and row.label in OUTCOME_KINDS and row.job in ends:
            return dataclasses.replace(ends[row.job], t=row.t, seq=row.seq)
        return row

    replayed = log_as_replayed(perturbed, after.replayed.again)
    return dataclasses.replace(replayed, rows=tuple(map(expected, replayed.rows)))
