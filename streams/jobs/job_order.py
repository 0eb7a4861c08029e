"""The order in which jobs get their turns: as they come, until the user moves one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.subject import Subject

T = TypeVar("T")

LATE: Final = 2.0
"""Seconds that a job waits for the jobs before it that were granted a GPU at the same time: their checks of the worker
end in any order."""


class Move(NamedTuple):
    """A job is moved before the job `before`, or to the end if that is empty, and has this priority from now on."""

    before: str
    priority: int


class Order(NamedTuple):
    """All jobs in their order, with their priorities from now on."""

    jobs: tuple[str, ...]
    priorities: tuple[int, ...]


class JobOrder:
    """The jobs in their order. Until the first move they are equal, and each limiter takes them as they come.

    Args:
        priority: The priority of a job, by its id. Higher ones come first.
    """

    def __init__(self, priority: Callable[[str], int]) -> None:
        self.by_hand = False
        self._priority = priority
        self._moved: dict[str, int] = {}  # the priorities of moved jobs
        self._ranks: dict[str, int] = {}  # in their order
        self._next = 0

    def add(self, job: str) -> None:
        """A job comes after all others."""
        self._ranks[job] = self._next
        self._next += 1

    def remove(self, job: str) -> None:
        """A job has ended."""
        self._ranks.pop(job, None)
        self._moved.pop(job, None)

    def move(self, job: str, move: Move) -> None:
        """Move a job; before an unknown job is the end."""
        jobs = [each for each in self._ranks if each != job]
        jobs.insert(jobs.index(move.before) if move.before in self._ranks and move.before != job else len(jobs), job)
        self._ranks = {each: rank for rank, each in enumerate(jobs)}
        self._next = len(jobs)
        self._moved[job] = move.priority
        self.by_hand = True

    def arrange(self, order: Order) -> None:
        """Set the order of all jobs; those that are not in it come first."""
        named = set(order.jobs)
        jobs = [each for each in self._ranks if each not in named]
        jobs += (each for each in order.jobs if each in self._ranks)
        self._ranks = {each: rank for rank, each in enumerate(jobs)}
        self._next = len(jobs)
        priorities = zip(order.jobs, order.priorities, strict=True)
        self._moved |= {job: priority for job, priority in priorities if job in self._ranks}
        self.by_hand = True

    def key(self, job: str) -> tuple[int, int]:
        """The least key comes first."""
        priority = self._moved[job] if job in self._moved else self._priority(job)
        return -priority, self._ranks.get(job, self._next) if self.by_hand else 0


class Arrivals:
    """Jobs on their way from the grant of a GPU to their first turn. Those that were moved arrive in order.

    When a GPU wakes, all waiting jobs are granted it at once, and check the worker side by side.

    Args:
        order: The order of the jobs.
    """

    def __init__(self, order: JobOrder) -> None:
        self._order = order
        self._coming: dict[str, None] = {}
        self._firsts: Subject[tuple[int, int]] = Subject()

    def come(self, job: str) -> None:
        """A job was granted a GPU."""
        self._coming[job] = None

    def gone(self, job: str) -> None:
        """A job has its turn, waits for it, or has ended."""
        if job in self._coming:
            del self._coming[job]
            self.reorder()

    def reorder(self) -> None:
        """Let the first one go on: it may be another than before."""
        if self._coming and self._order.by_hand:
            self._firsts.on_next(self._first())

    def _first(self) -> tuple[int, int]:
        return min(map(self._order.key, self._coming))

    def in_order(self, job: str, source: Observable[T]) -> Observable[T]:
        """Subscribe to the source when no job before this one is on its way, or after `LATE`.

        The job has arrived when the source emits.
        """

        def begin(_: Any) -> Observable[T]:
            if job not in self._coming or not self._order.by_hand or self._order.key(job) == self._first():
                return arriving
            first: Observable[Any] = self._firsts.filter(lambda key: self._order.key(job) <= key)
            return rx.timer(LATE).pipe(ops.amb(first), ops.take(1), ops.flat_map(lambda _: arriving))

        arriving = source.do_action(lambda _: self.gone(job))
        return rx.defer(begin)
