"""The order in which jobs get their turns: as they come, until the user moves one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import reactivex as rx
from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    Disposable,
    LightObservable,
    SerialDisposable,
    subscribe_through,
)

T = TypeVar("T")

LATE: Final = 2.0
"""Seconds that a job waits for the jobs before it that were granted a GPU at the same time: their checks of the worker
end, and their calls arrive there, in any order."""


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
        jobs = [other for other in self._ranks if other != job]
        jobs.insert(jobs.index(move.before) if move.before in self._ranks and move.before != job else len(jobs), job)
        self._ranks = {id_: rank for rank, id_ in enumerate(jobs)}
        self._next = len(jobs)
        self._moved[job] = move.priority
        self.by_hand = True

    def arrange(self, order: Order) -> None:
        """Set the order of all jobs; those that are not in it come first."""
        named = set(order.jobs)
        jobs = [job for job in self._ranks if job not in named]
        jobs += (job for job in order.jobs if job in self._ranks)
        self._ranks = {job: rank for rank, job in enumerate(jobs)}
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
        self._coming: set[str] = set()
        self._waiting: dict[str, Callable[[], None]] = {}  # those that came and wait for others; what lets them go on
        self._at_work = self._again = False

    def come(self, job: str) -> None:
        """A job was granted a GPU."""
        self._coming.add(job)

    def gone(self, job: str) -> None:
        """A job has its turn, waits for it, or has ended."""
        if job in self._coming:
            self._coming.discard(job)
            self.reorder()

    def reorder(self) -> None:
        """Let those go on before whom no other job is on its way."""
        self._again = True
        if self._at_work:  # a job that goes on may bring us here at once; to nest would end at the recursion limit
            return
        self._at_work = True
        try:
            while self._again:
                self._again = False
                for job in sorted(self._coming, key=self._order.key) if self._waiting else ():
                    go_on = self._waiting.pop(job, None)
                    if go_on is None:
                        break
                    go_on()
                    if job in self._coming:
                        break
        finally:
            self._at_work = False

    def _late(self, job: str) -> None:
        """The job has waited for long: those before it that are still on their way come after it."""
        key = self._order.key(job)
        self._coming -= {other for other in self._coming - self._waiting.keys() if self._order.key(other) < key}
        self.reorder()

    def in_order(self, job: str, source: Observable[T], *, answered: bool = False) -> Observable[T]:
        """Subscribe to the source when no job before this one is on its way, or after `LATE`.

        With `answered`, the job is on its way until the source, a call, has an answer: calls may overtake each other.
        """
        if answered:
            source = source.do_action(lambda _: self.gone(job))

        def subscribe(observer: ObserverBase[T], scheduler: SchedulerBase | None = None) -> DisposableBase:
            if answered:
                self.come(job)
            if job not in self._coming or not self._order.by_hand:
                if not answered:
                    self._coming.discard(job)
                return subscribe_through(source, observer, scheduler)
            held, clock = SerialDisposable(), SerialDisposable()

            def go_on() -> None:
                if not answered:
                    self._coming.discard(job)
                clock.dispose()
                held.disposable = subscribe_through(source, observer, scheduler)

            def leave() -> None:
                if self._waiting.get(job) is go_on:
                    del self._waiting[job]
                clock.dispose()

            self._waiting[job] = go_on
            clock.disposable = rx.interval(LATE).subscribe(lambda _: self._late(job), scheduler=scheduler)
            self.reorder()
            return CompositeDisposable(held, Disposable(leave))

        return LightObservable(subscribe)
