"""The result of one replay, even if it did not end. Pure; adapters/testing/replay_runner.py makes them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.recorded_ports import EffectCall
from wakestream.streams.replay.replay import Replayed
from wakestream.streams.replay.report import Report
from wakestream.streams.triage.failure_predicate import Condition

Trouble = Literal["crashed", "deadlock"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A replay and its report; or, if it did not end, the `trouble` that prevented it.

    Args:
        waiting: The jobs that had not ended.
        unanswered: The calls without a result in the log, as (job, label). What a job does after such a call says
            nothing about the program.
        asked: All requests of the jobs.
    """

    replayed: Replayed | None = None
    report: Report | None = None
    trouble: Trouble | None = None
    why: str = ""
    waiting: tuple[str, ...] = ()
    unanswered: frozenset[tuple[str, str]] = frozenset()
    asked: tuple[EffectCall, ...] = ()

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
        """The jobs whose pipeline crashes in the replay only, with the text of the error."""
        return self.replayed.crashes if self.replayed is not None else {}

    def meets(self, condition: Condition) -> bool:
        """Whether the replay fails by `condition`."""
        if self.report is None:
            return self.trouble in condition.of_log
        return condition.of_log <= {self.result} and condition.holds(self.report.now.values())

    def without(self, jobs: Collection[str]) -> Trial:
        """The same without those of `jobs` that ended by waiting."""
        if self.report is None:
            return self
        now = {job: end for job, end in self.report.now.items() if job not in jobs or not end.outcome.waited}
        return dataclasses.replace(self, report=dataclasses.replace(self.report, now=now))


SAME_TIME = 0.001
"""Seconds by which a request may move and still get the same result."""


def asks_otherwise(before: Trial, after: Trial) -> EffectCall | None:
    """The first request in `after` that its job did not make at that time in `before`.

    The log's result for it may be wrong. Requests that are no longer made do not matter.
    """
    then, now = _by_job(before.asked), _by_job(after.asked)
    new_requests = (_first_new(then[job], asked) for job, asked in now.items())
    return min((ask for ask in new_requests if ask is not None), key=lambda ask: ask.t, default=None)


def _by_job(asked: Iterable[EffectCall]) -> defaultdict[str, list[EffectCall]]:
    jobs: defaultdict[str, list[EffectCall]] = defaultdict(list)
    for ask in asked:
        jobs[ask.job].append(ask)
    return jobs


def _first_new(then: Sequence[EffectCall], now: Sequence[EffectCall]) -> EffectCall | None:
    for place, ask in enumerate(now):
        same = then[place] if place < len(then) else None
        if same is None or same.label != ask.label or abs(same.t - ask.t) > SAME_TIME:
            return ask
    return None
