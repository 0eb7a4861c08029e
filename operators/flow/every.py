"""The waiting line: a sign of life at a steady pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable

from wakestream.operators.flow.scheduler import clock, seconds_now

T = TypeVar("T")


def every(seconds: float, make: Callable[[float], T]) -> Observable[T]:
    """`make(elapsed)` each `seconds` from the subscription on, without drift and without end."""

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        time = clock(scheduler)
        start = seconds_now(time)
        timer = SerialDisposable()
        count = 0

        def tick(*_: Any) -> None:
            nonlocal count
            count += 1
            observer.on_next(make(count * seconds))
            later = start + (count + 1) * seconds - seconds_now(time)
            timer.disposable = time.schedule_relative(max(0.0, later), tick)

        timer.disposable = time.schedule_relative(seconds, tick)
        return timer

    return Observable(subscribe)
