"""Let jobs through together: when there are enough of them, or when the first has waited long enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.rx.core.observable import CompositeDisposable, Disposable, LightObservable, SerialDisposable
from wakestream.operators.rx.core.scheduler import clock
from wakestream.operators.rx.sources import of


@dataclass(frozen=True, slots=True)
class BatchState:
    """The state of a batch.

    Attributes:
        count: How many members it has.
        size: How many it waits for.
        state: `held` while the members wait; `full` or `due` (the time is over) when they go on together; `passed` for
            a member that subscribes again later.
    """

    count: int
    size: int
    state: Literal["held", "full", "due", "passed"]


class Barrier:
    """Lets its members through together: when `size` of them wait, or `within` seconds after the first one came.

    All jobs share one barrier. After it opened, it collects the next batch.

    Example:
        >>> barrier = Barrier(size=5, within=600.0)
        >>> barrier.wait().pipe(then(lambda _: stages.standard()))

    Args:
        size: How many members open it.
        within: Seconds after which it opens with fewer.

    Raises:
        ValueError: `size` is less than 1.
    """

    def __init__(self, size: int, within: float) -> None:
        if size < 1:
            raise ValueError("the size of a batch must be at least 1")
        self.size, self.within = size, within
        self._members: dict[_Member, None] = {}

    def wait(self) -> Observable[BatchState]:
        """Join the batch at the subscription, and complete when it opens. Disposing leaves it.

        Returns:
            An observable that emits `held` (unless this member fills the batch), then `full` or `due`. If it is
            subscribed again after that, for example by a retry, it emits `passed`.
        """
        passed: list[BatchState] = []  # outlives the subscriptions of this member

        def subscribe(observer: ObserverBase[BatchState], scheduler: SchedulerBase | None = None) -> DisposableBase:
            if passed:
                return of(BatchState(self.size, self.size, "passed")).subscribe(observer)
            return self._enter(_Member(observer, clock(scheduler), passed))

        return LightObservable(subscribe)

    def _enter(self, member: _Member) -> DisposableBase:
        count = len(self._members) + 1
        if count < self.size:
            member.observer.on_next(BatchState(count, self.size, "held"))
            member.timer.disposable = member.time.schedule_relative(self.within, lambda *_: self._open("due"))
        members = self._members
        members[member] = None
        if count >= self.size:
            self._open("full")
        return CompositeDisposable(member.timer, Disposable(lambda: members.pop(member, None)))

    def _open(self, state: Literal["full", "due"]) -> None:
        together, self._members = self._members, {}
        for member in together:
            member.go_on(BatchState(len(together), self.size, state))


class _Member:
    """One subscription that waits."""

    __slots__ = ("observer", "passed", "time", "timer")

    def __init__(self, observer: ObserverBase[BatchState], time: SchedulerBase, passed: list[BatchState]) -> None:
        self.observer, self.passed, self.time = observer, passed, time
        self.timer = SerialDisposable()

    def go_on(self, state: BatchState) -> None:
        # In a turn of the loop of its own, so that a member that raises does not stop the others.
        self.passed.append(state)
        self.timer.disposable = self.time.schedule(lambda *_: self._finish(state))

    def _finish(self, state: BatchState) -> None:
        self.observer.on_next(state)
        self.observer.on_completed()
