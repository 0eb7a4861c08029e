"""Chaos: the same messages and outcomes, some later or sooner, in an order that could have been just as well. Pure.

What holds in every such log: a connection's frames keep their order; an answer comes after its question, also when that
is asked later now; outcomes of calls of one kind keep theirs. What a person does (accept, cancel) may come at any time,
calls may be slower or faster, the wire may stall, and break sooner or later.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from random import Random

from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.log_edit import told_again, with_rows
from wakestream.streams.recording.recording import TICK, Log, Row
from wakestream.streams.replay.report import Outcome
from wakestream.streams.triage.replay_attempt import Trial

SPREAD = 2.0
"""Seconds by which a row is moved at most, unless told."""

_CALM = (0.2, 0.5, 0.8, 0.97)
"""The share of a lane's rows that are not moved by themselves; drawn for each lane, as races need one that is ahead."""


def reordered(log: Log, seed: int, spread: float = SPREAD) -> Log:
    """`log` with its inputs at other times, by at most about `spread` seconds; the same for the same seed."""
    mover = _MOVERS[log.header.program](log, Random(f"{seed}/reorder"), min(spread, _patience(log)))
    return with_rows(log, [mover.moved(row) for row in log.rows], {"reordered": {"seed": seed}})


def _patience(log: Log) -> float:
    """A quarter of the shortest wait that the program was set to: a delay beyond it would be a failure of its own."""
    policy = log.header.config.get("policy", {})
    waits = (policy.get(name) for name in ("reply", "online", "ready", "lost", "transfer", "execution", "register"))
    return min([value / 4 for value in waits if isinstance(value, int | float)], default=SPREAD)


class _Mover(ABC):
    """Gives rows their new times, in the order of the log."""

    def __init__(self, log: Log, random: Random, spread: float) -> None:
        self.random, self.spread = random, spread
        self.last: defaultdict[Hashable, float] = defaultdict(float)
        self.calm: defaultdict[Hashable, float] = defaultdict(lambda: random.choice(_CALM))

    def moved(self, row: Row) -> Row:
        """`row` at its new time."""
        return dataclasses.replace(row, t=round(max(0.0, self.time(row)), 6))

    @abstractmethod
    def time(self, row: Row) -> float:
        """Seconds since the log's epoch at which `row` happens now."""

    def draw(self, lane: Hashable, *, sooner: bool = False) -> float:
        """Seconds to move a row of `lane` by."""
        if self.random.random() < self.calm[lane]:
            return 0.0
        return self.random.uniform(-self.spread if sooner else 0.0, self.spread)

    def after(self, lane: Hashable, t: float, *causes: float) -> float:
        """The time nearest to `t` that comes after what was last in `lane`, and after each of the causes."""
        self.last[lane] = max(t, self.last[lane] + TICK, *(cause + TICK for cause in causes))
        return self.last[lane]


class _ClientMover(_Mover):
    """A client: its link is one lane, each kind of call of each job another."""

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
            case _, "job.cancel" | "job.retry_now":
                return max(row.t + self.draw("people", sooner=True), self.accepted.get(str(row.job), 0.0) + TICK)
        question = self.said[row.job] if row.job in self.accepted else 0.0
        # A connection may also break sooner, once all is in that came over it.
        moved = self.draw("link", sooner=row.dir == "conn" and row.label == "down")
        return self.note(row, self.after("link", row.t + moved, question))

    def out(self, row: Row) -> float:
        """No sooner than this is it said now: all that the job waited for until then came so much later, at most."""
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
    """A hub: each client's connection is a lane; monitors and workers share one, as the one makes the others come."""

    def __init__(self, log: Log, random: Random, spread: float) -> None:
        super().__init__(log, random, spread)
        self.gpu_side = {row.data.get("fd") for row in log.rows if _role(row) in _GPU_SIDE}
        self.told: defaultdict[Hashable, float] = defaultdict(float)
        self.trigger = 0.0

    def moved(self, row: Row) -> Row:
        at = super().moved(row)
        now = row.data.get("now")
        if isinstance(now, int | float):
            return dataclasses.replace(at, data={**row.data, "now": now + at.t - row.t})
        return at

    def time(self, row: Row) -> float:
        if row.dir == "out":
            self.tell(row)
            return self.trigger
        fd = row.data.get("fd")
        if fd is None:
            self.trigger = self.after("clock", row.t)
        elif fd in self.gpu_side:
            self.trigger = self.after("gpu side", row.t + self.draw("gpu side"), self.told["gpu side"])
        else:
            self.trigger = self.after(fd, row.t + self.draw(fd), self.told[fd], self.told[fd, row.job])
        return self.trigger

    def tell(self, row: Row) -> None:
        """What was sent may be the question to which the next of its receiver is the answer."""
        for fd in row.data.get("to", ()):
            for heard in self.hearers(fd, row):
                self.told[heard] = max(self.told[heard], self.trigger)

    def hearers(self, fd: int, row: Row) -> Iterator[Hashable]:
        if fd in self.gpu_side or row.label == "ack":
            yield "gpu side"  # a worker speaks of a job's work only once its client was told to go there
        if row.label in ("connected", "registered"):
            yield fd
        elif row.job is not None:
            yield fd, row.job


def _role(row: Row) -> object:
    return row.data.get("frame", {}).get("role") if row.dir == "in" and row.label == "register" else None


class _MonitorMover(_Mover):
    """A monitor: ticks stay; frames come later; an outcome comes after all before it, any of which may have asked."""

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
    """A job that ended well enough, and not so in another order."""

    job: str
    then: Outcome
    now: Outcome


def worse(before: Trial, after: Trial) -> tuple[Worse, ...]:
    """The jobs that ended worse in `after`. One that asked what its log has no answer for proves nothing."""
    if before.report is None or after.report is None:
        return ()
    excused = {job for job, _ in after.unanswered - before.unanswered}
    gone = Outcome("gone")
    found = (
        Worse(job, was.outcome, after.report.now[job].outcome if job in after.report.now else gone)
        for job, was in before.report.now.items()
        if job not in excused
    )
    return tuple(each for each in found if each.now.worse_than(each.then))


def failing(perturbed: Log, before: Trial, after: Trial) -> Log:
    """`perturbed` as a log that fails when it is replayed: it expects the outcomes that there should have been."""
    if after.replayed is None or perturbed.header.program != "daemon":
        return perturbed
    minded = {each.job for each in worse(before, after)}
    ends = {row.job: row for row in perturbed.rows if row.dir == "out" and row.label in OUTCOME_KINDS}

    def expected(row: Row) -> Row:
        if row.dir == "out" and row.job in minded and row.label in OUTCOME_KINDS and row.job in ends:
            return dataclasses.replace(ends[row.job], t=row.t, seq=row.seq)
        return row

    told = told_again(perturbed, after.replayed.again)
    return dataclasses.replace(told, rows=tuple(map(expected, told.rows)))
