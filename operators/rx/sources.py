"""Items now. (The library's `of`, `merge` and `start_with` emit a turn of the loop later: the moment may be over.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.faults import require_observables
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    LightObservable,
    SerialDisposable,
    subscribe_through,
)

T = TypeVar("T")


def of(*items: T) -> Observable[T]:
    """The items, then completion, all within the subscription."""

    def subscribe(observer: abc.ObserverBase[T], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for item in items:
            observer.on_next(item)
        observer.on_completed()
        return SerialDisposable()

    return LightObservable(subscribe)


def never() -> Observable[Any]:
    """Nothing, for ever."""
    return _SILENCE


_SILENCE: Observable[Any] = LightObservable(lambda observer, scheduler: SerialDisposable())


def start_with(*items: Any) -> Callable[[Observable[T]], Observable[T]]:
    """The items within the subscription, then the source."""

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            for item in items:
                observer.on_next(item)
            return subscribe_through(source, observer, scheduler)

        return LightObservable(subscribe)

    return operator


def merge_errors(other: Observable[Any]) -> Callable[[Observable[T]], Observable[T]]:
    """The source, and `other` subscribed along with it: its items and its end are of no interest, its error is."""
    require_observables("merge_errors", other)

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            first = subscribe_through(source, observer, scheduler)
            return CompositeDisposable(first, other.subscribe(on_error=observer.on_error, scheduler=scheduler))

        return LightObservable(subscribe)

    return operator
