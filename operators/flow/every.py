"""The waiting line: a sign of life at a steady pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.flow.lean import Lean, Serial
from wakestream.operators.flow.scheduler import clock, seconds_now

T = TypeVar("T")


def every(seconds: float, make: Callable[[float], T]) -> Observable[T]:
    """`make(elapsed)` each `seconds` from the subscription on, without drift and without end.

    Beats missed while the machine slept are left out, not made up for. An error of `make` ends it.
    """

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        time = clock(scheduler)
        start = seconds_now(time)
        timer = Serial()
        count = 0

        def tick(*_: Any) -> None:
            nonlocal count
            count = max(count + 1, int((seconds_now(time) - start) / seconds))
            try:
                item = make(count * seconds)
            except Exception as error:  # a line that cannot be made
                observer.on_error(error)
                return
            later = start + (count + 1) * seconds - seconds_now(time)
            # armed before the item is given, lest an observer that raises stop the clock
            timer.hold(time.schedule_relative(max(0.0, later), tick))
            observer.on_next(item)

        timer.hold(time.schedule_relative(seconds, tick))
        return timer

    return Lean(subscribe)
