"""A limit on standing still: what comes does not count, only that it is something else than before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.errors import StageTimeout
from wakestream.operators.flow.lean import Both, Lean, Passing, Serial
from wakestream.operators.flow.scheduler import clock, seconds_now

T = TypeVar("T")
_NOTHING = object()


def timeout_unchanged(
    place: Callable[[T], object], seconds: float, stage: str
) -> Callable[[Observable[T]], Observable[T]]:
    """`StageTimeout(stage)` if the source has not ended `seconds` after `place(item)` became what it is.

    Counted from the subscription while there is no item.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            limit = _Limit(observer, clock(scheduler), place, seconds, stage)
            return Both(limit.timer, source.subscribe(limit, scheduler=scheduler))

        return Lean(subscribe)

    return operator


class _Limit(Passing[Any]):
    """Where it stands, and since when; one timer stands for the whole subscription, as in `timeout_idle`."""

    __slots__ = ("last", "place", "seconds", "since", "stage", "time", "timer")

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        time: abc.SchedulerBase,
        place: Callable[[Any], object],
        seconds: float,
        stage: str,
    ) -> None:
        super().__init__(observer)
        self.time, self.place, self.seconds, self.stage = time, place, seconds, stage
        self.last: object = _NOTHING
        self.since = seconds_now(time)
        self.timer = Serial()
        self.timer.hold(time.schedule_relative(seconds, self.look))

    def on_next(self, value: Any) -> None:
        before, self.last = self.last, self.place(value)
        if self.last != before:
            self.since = seconds_now(self.time)
        self.observer.on_next(value)

    def look(self, *_: Any) -> None:
        left = round(self.since + self.seconds - seconds_now(self.time), 6)
        if left <= 0:
            self.observer.on_error(StageTimeout(self.stage, self.seconds))
        else:
            self.timer.hold(self.time.schedule_relative(left, self.look))
