"""A limit on the whole, however lively the source is. (The library's `timeout` starts again at every item.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, subscribe_through
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


def timeout_total(seconds: float, stage: str) -> Callable[[Observable[T]], Observable[T]]:
    """`StageTimeout(stage)` if the source has not ended `seconds` after the subscription."""

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            timer = clock(scheduler).schedule_relative(seconds, _too_late, (observer, stage, seconds))
            return CompositeDisposable(timer, subscribe_through(source, observer, scheduler))

        return LightObservable(subscribe)

    return operator


def _too_late(_: abc.SchedulerBase, state: tuple[abc.ObserverBase[Any], str, float] | None) -> None:
    if state is not None:
        observer, stage, seconds = state
        observer.on_error(StageTimeout(stage, seconds))
