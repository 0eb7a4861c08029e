"""Many go through together: when enough of them wait, or when one has waited long enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from reactivex import Observable, abc

from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, SerialDisposable
from wakestream.operators.rx.core.scheduler import clock


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where a batch is: `count` of `size` are together.

    `state` is `held` while they wait; they go because the batch is `full`, or `due` as its time is up. Who comes by
    again after that has `passed`.
    """

    count: int
    size: int
    state: Literal["held", "full", "due", "passed"]


class Barrier:
    """Lets through together: when `size` wait, or `within` seconds after the first of them came. Shared by all.

    `ValueError` unless `size` is at least 1.
    """

    def __init__(self, size: int, within: float) -> None:
        if size < 1:
            raise ValueError("a batch has a size of at least 1")
        self.size, self.within = size, within
        self._members: dict[_Member, None] = {}

    def wait(self) -> Observable[BatchState]:
        """A place in the batch: `held` unless this one fills it, then `full` or `due`, and completion.

        Whoever is disposed leaves. Subscribed again after it went (the job is retried, say) it only says `passed`.
        """
        ticket = _Ticket()

        def subscribe(
            observer: abc.ObserverBase[BatchState], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            if ticket.went:
                return _say(observer, BatchState(self.size, self.size, "passed"))
            return self._enter(_Member(observer, clock(scheduler), ticket))

        return LightObservable(subscribe)

    def _enter(self, member: _Member) -> abc.DisposableBase:
        count = len(self._members) + 1
        if count < self.size:
            member.observer.on_next(BatchState(count, self.size, "held"))
            member.timer.disposable = member.time.schedule_relative(self.within, lambda *_: self._go("due"))
        members = self._members
        members[member] = None
        if count >= self.size:
            self._go("full")
        return CompositeDisposable(member.timer, _Leave(members, member))

    def _go(self, state: Literal["full", "due"]) -> None:
        together, self._members = self._members, {}
        news = BatchState(len(together), self.size, state)
        for member in together:  # each in a turn of its own: one that raises holds nobody up
            member.go(news)


class _Ticket:
    """Whether one has gone; it outlives the subscription."""

    __slots__ = ("went",)

    def __init__(self) -> None:
        self.went = False


class _Member:
    """One who waits."""

    __slots__ = ("observer", "ticket", "time", "timer")

    def __init__(self, observer: abc.ObserverBase[BatchState], time: abc.SchedulerBase, ticket: _Ticket) -> None:
        self.observer, self.time, self.ticket = observer, time, ticket
        self.timer = SerialDisposable()

    def go(self, news: BatchState) -> None:
        self.ticket.went = True
        self.timer.disposable = self.time.schedule(lambda *_: _say(self.observer, news))


class _Leave(abc.DisposableBase):
    """Takes one out of the batch, if it still waits."""

    __slots__ = ("member", "members")

    def __init__(self, members: dict[_Member, None], member: _Member) -> None:
        self.members, self.member = members, member

    def dispose(self) -> None:
        self.members.pop(self.member, None)


def _say(observer: abc.ObserverBase[Any], news: BatchState) -> abc.DisposableBase:
    observer.on_next(news)
    observer.on_completed()
    return SerialDisposable()
