"""How one replay went, whether it came to an end or not. Pure; adapters/testing/replay_runner.py makes them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.recorded_ports import Ask
from wakestream.streams.replay.replay import Replayed
from wakestream.streams.replay.report import Report
from wakestream.streams.triage.failure_predicate import Condition

Trouble = Literal["crashed", "deadlock"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A replay and its report; or, where there is none, the `trouble`: why the program came to no end.

    `waiting` are the jobs that had not ended then, `unanswered` the calls, as (job, label), that the log has no
    outcome for: what a job does after such a call is the log's doing. `asked` is all that its jobs asked.
    """

    replayed: Replayed | None = None
    report: Report | None = None
    trouble: Trouble | None = None
    why: str = ""
    waiting: tuple[str, ...] = ()
    unanswered: frozenset[tuple[str, str]] = frozenset()
    asked: tuple[Ask, ...] = ()

    @property
    def result(self) -> str:
        """`same`, `diverged`, `crashed` or `deadlock`."""
        if self.trouble is not None:
            return self.trouble
        return "diverged" if self.divergences else "same"

    @property
    def divergences(self) -> tuple[Divergence, ...]:
        """The first divergence of each stream, earliest first."""
        return self.replayed.divergences if self.replayed is not None else ()

    @property
    def crashes(self) -> Mapping[str, str]:
        """The jobs whose pipeline breaks now and did not then, and why."""
        return self.replayed.crashes if self.replayed is not None else {}

    def meets(self, condition: Condition) -> bool:
        """Whether it fails as `condition` says."""
        if self.report is None:
            return self.trouble in condition.of_log
        return condition.of_log <= {self.result} and condition.holds(self.report.now.values())

    def without(self, jobs: Collection[str]) -> Trial:
        """The same, where nothing is said of how `jobs` ended by waiting."""
        if self.report is None:
            return self
        now = {job: each for job, each in self.report.now.items() if job not in jobs or not each.outcome.waited}
        return dataclasses.replace(self, report=dataclasses.replace(self.report, now=now))


SOONER = 0.001
"""Seconds by which a question may move without another answer being due."""


def asks_otherwise(before: Trial, after: Trial) -> Ask | None:
    """The first question of `after` that its job did not ask then in `before`: the log answers it as if it had.

    Questions that are not asked any more change no answer.
    """
    then, now = _by_job(before.asked), _by_job(after.asked)
    found = (_first_new(then[job], asked) for job, asked in now.items())
    return min((ask for ask in found if ask is not None), key=lambda ask: ask.t, default=None)


def _by_job(asked: Iterable[Ask]) -> defaultdict[str, list[Ask]]:
    jobs: defaultdict[str, list[Ask]] = defaultdict(list)
    for ask in asked:
        jobs[ask.job].append(ask)
    return jobs


def _first_new(then: Sequence[Ask], now: Sequence[Ask]) -> Ask | None:
    for place, ask in enumerate(now):
        same = then[place] if place < len(then) else None
        if same is None or same.label != ask.label or abs(same.t - ask.t) > SOONER:
            return ask
    return None
