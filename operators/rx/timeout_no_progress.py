"""A limit on standing still: what comes does not count, only that it is something else than before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.timeout_idle import IdleWatchdog

T = TypeVar("T")
_NOTHING = object()


def timeout_no_progress(
    place: Callable[[T], object], seconds: float, stage: str
) -> Callable[[Observable[T]], Observable[T]]:
    """`StageTimeout(stage)` if the source has not ended `seconds` after `place(item)` became what it is.

    Counted from the subscription while there is no item. What `place` raises ends it.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            limit = _Unchanged(observer, clock(scheduler), seconds, stage, place)
            return CompositeDisposable(limit.timer, source.subscribe(limit, scheduler=scheduler))

        return LightObservable(subscribe)

    return operator


class _Unchanged(IdleWatchdog):
    """Where the source stands."""

    __slots__ = ("last", "place")

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        time: abc.SchedulerBase,
        seconds: float,
        stage: str,
        place: Callable[[Any], object],
    ) -> None:
        super().__init__(observer, time, seconds, stage, StageTimeout)
        self.place = place
        self.last: object = _NOTHING

    def on_next(self, value: Any) -> None:
        try:
            before, self.last = self.last, self.place(value)
            changed = self.last != before
        except Exception as error:  # the rule is broken
            self.observer.on_error(error)
            return
        if changed:
            self.since = seconds_now(self.time)
        self.observer.on_next(value)
