"""A limit on silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.errors import Stalled
from wakestream.operators.flow.lean import Both, Lean, Serial
from wakestream.operators.flow.scheduler import clock, seconds_now

T = TypeVar("T")


def timeout_idle(seconds: float, stage: str) -> Callable[[Observable[T]], Observable[T]]:
    """`Stalled(stage)` when the source says nothing for `seconds`, from the subscription on.

    One timer stands for the whole subscription: an item only notes the time, the timer then waits for the rest.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            time = clock(scheduler)
            timer = Serial()
            heard = seconds_now(time)

            def on_next(item: T) -> None:
                nonlocal heard
                heard = seconds_now(time)
                observer.on_next(item)

            def look(*_: Any) -> None:
                left = round(heard + seconds - seconds_now(time), 6)  # schedulers tell microseconds apart, no less
                if left <= 0:
                    observer.on_error(Stalled(stage, seconds))
                else:
                    timer.hold(time.schedule_relative(left, look))

            timer.hold(time.schedule_relative(seconds, look))
            body = source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)
            return Both(timer, body)

        return Lean(subscribe)

    return operator
