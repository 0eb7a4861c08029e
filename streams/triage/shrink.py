"""Find the smallest log that still fails by delta debugging: by job first, then by row. Pure.

The algorithm is `ddmin` in A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE
28(2), 2002, with complements only. In the end no single job and no single row can be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from wakestream.streams.recording.log_edit import with_rows
from wakestream.streams.recording.recording import Log, Row, UnusableLog, jobs_of
from wakestream.streams.triage.failure_predicate import Condition
from wakestream.streams.triage.replay_attempt import Trial

T = TypeVar("T")
Fails = Callable[[Log], bool]
MayGo = Callable[[Row], bool]


def ddmin(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """Reduce `items` to a part that still fails and of which no single item can be removed.

    Args:
        items: The items, for which `fails` is true.
        fails: Whether a part still fails.

    Returns:
        The part, in the same order.

    Example:
        >>> ddmin([1, 2, 3, 4], lambda part: 2 in part)
        [2]
    """
    left, parts = list(items), 2
    while left:
        smaller = _without_a_part(left, parts, fails)
        if smaller is not None:
            left, parts = smaller, max(2, parts - 1)
        elif parts >= len(left):
            break
        else:
            parts = min(len(left), parts * 2)
    return left


def _without_a_part(left: list[T], parts: int, fails: Callable[[Sequence[T]], bool]) -> list[T] | None:
    size = -(-len(left) // parts)
    for start in reversed(range(0, len(left), size)):  # the last items are the ones most often not needed
        smaller = left[:start] + left[start + size :]
        if fails(smaller):
            return smaller
    return None


def shrink(log: Log, fails: Fails, may_go: MayGo = lambda row: row.dir != "out") -> Log:
    """Reduce `log` to a part that still fails. Rows keep their times and get new numbers.

    Args:
        log: The log, for which `fails` is true.
        fails: Whether a part still fails.
        may_go: Whether a row may be removed by itself; by default all inputs, since outputs cause nothing.
    """
    jobs = list(jobs_of(log))

    def of(some: Sequence[str]) -> Log:
        gone = set(jobs) - set(some)
        return with_rows(log, [row for row in log.rows if row.job not in gone])

    of_jobs = of(ddmin(jobs, lambda some: fails(of(some))))
    stays = [row for row in of_jobs.rows if not may_go(row)]
    goes = [row for row in of_jobs.rows if may_go(row)]
    return with_rows(log, [*stays, *ddmin(goes, lambda some: fails(with_rows(log, [*stays, *some])))])


class Search:
    """Decides whether a shrunk log still fails in the same way.

    A divergence must stay the same. A job that waits for a result that was removed has not failed.

    Args:
        first: The replay of the whole log, for which `condition` is true.
        condition: When a replay counts as failed.
        run: Replays a log.
        limit: The most replays.
    """

    def __init__(self, first: Trial, condition: Condition, run: Callable[[Log], Trial], limit: int) -> None:
        self._first, self._condition, self._run, self._limit = first, condition, run, limit
        self.tries = 0

    @property
    def used_up(self) -> bool:
        """Whether the limit was reached."""
        return self.tries >= self._limit

    def fails(self, log: Log) -> bool:
        """Whether a part of the log fails in the same way; False after the last replay."""
        if self.used_up:
            return False
        self.tries += 1
        try:
            trial = self._run(log)
        except UnusableLog:
            return False
        excused = {job for job, _ in trial.unanswered - self._first.unanswered} if self._condition.of_end else set()
        return trial.without(excused).meets(self._condition) and self._same_divergence(trial)

    def _same_divergence(self, trial: Trial) -> bool:
        if "diverged" not in self._condition.of_log:
            return True
        was, now = self._first.divergences[0], trial.divergences[0]
        return (was.stream, was.lines()) == (now.stream, now.lines())

    def may_go(self, row: Row) -> bool:
        """Whether a row may be removed: outputs only for a divergence, where they are part of the failure."""
        return row.dir != "out" or "diverged" in self._condition.of_log
