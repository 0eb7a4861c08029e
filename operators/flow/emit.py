"""Items now. (The library's `of`, `merge` and `start_with` emit a turn of the loop later: the moment may be over.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

T = TypeVar("T")


def emit(*items: T) -> Observable[T]:
    """The items, then completion, all within the subscription."""

    def subscribe(observer: abc.ObserverBase[T], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for item in items:
            observer.on_next(item)
        observer.on_completed()
        return Disposable()

    return Observable(subscribe)


def begin_with(*items: Any) -> Callable[[Observable[T]], Observable[T]]:
    """The items within the subscription, then the source."""

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            for item in items:
                observer.on_next(item)
            return source.subscribe(observer, scheduler=scheduler)

        return Observable(subscribe)

    return operator


def beside(other: Observable[Any]) -> Callable[[Observable[T]], Observable[T]]:
    """The source, and `other` subscribed along with it: its items and its end are of no interest, its error is."""

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            company = CompositeDisposable()
            company.add(source.subscribe(observer, scheduler=scheduler))
            company.add(other.subscribe(on_error=observer.on_error, scheduler=scheduler))
            return company

        return Observable(subscribe)

    return operator
