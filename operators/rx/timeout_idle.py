"""A limit on silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.errors import Stalled
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    LightObservable,
    SerialDisposable,
)
from wakestream.operators.rx.core.scheduler import clock, seconds_now

T = TypeVar("T")


def timeout_idle(seconds: float, stage: str) -> Callable[[Observable[T]], Observable[T]]:
    """`Stalled(stage)` when the source says nothing for `seconds`, from the subscription on.

    One timer stands for the whole subscription: an item only notes the time, the timer then waits for the rest.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            silence = IdleWatchdog(observer, clock(scheduler), seconds, stage, Stalled)
            return CompositeDisposable(silence.timer, source.subscribe(silence, scheduler=scheduler))

        return LightObservable(subscribe)

    return operator


class IdleWatchdog(ForwardingObserver[Any]):
    """Since when nothing has happened; after `seconds` of that, `fault(stage, seconds)` is the end."""

    __slots__ = ("fault", "seconds", "since", "stage", "time", "timer")

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        time: abc.SchedulerBase,
        seconds: float,
        stage: str,
        fault: Callable[[str, float], Exception],
    ) -> None:
        super().__init__(observer)
        self.time, self.seconds, self.stage, self.fault = time, seconds, stage, fault
        self.since = seconds_now(time)
        self.timer = SerialDisposable()
        self.timer.disposable = time.schedule_relative(seconds, self.look)

    def on_next(self, value: Any) -> None:
        self.since = seconds_now(self.time)
        self.observer.on_next(value)

    def look(self, *_: Any) -> None:
        """Whether it is over; else the timer waits for the rest."""
        # Schedulers tell microseconds apart, no less.
        left = round(self.since + self.seconds - seconds_now(self.time), 6)
        if left <= 0:
            self.observer.on_error(self.fault(self.stage, self.seconds))
        else:
            self.timer.disposable = self.time.schedule_relative(left, self.look)
