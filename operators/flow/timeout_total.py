"""A limit on the whole, however lively the source is. (The library's `timeout` starts again at every item.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from wakestream.operators.errors import StageTimeout
from wakestream.operators.flow.scheduler import clock

T = TypeVar("T")


def timeout_total(seconds: float, stage: str) -> Callable[[Observable[T]], Observable[T]]:
    """`StageTimeout(stage)` if the source has not ended `seconds` after the subscription."""

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            def too_late(*_: object) -> None:
                observer.on_error(StageTimeout(stage, seconds))

            timer = clock(scheduler).schedule_relative(seconds, too_late)
            return CompositeDisposable(timer, source.subscribe(observer, scheduler=scheduler))

        return Observable(subscribe)

    return operator
