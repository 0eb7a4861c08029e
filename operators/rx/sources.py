"""`of`, `throw`, `never`, `concat`, `start_with` and `merge_errors`, which emit within the subscription.

The library's `of`, `throw`, `concat`, `merge` and `start_with` go on in a later turn of the event loop. Then the order
of what jobs do depends on what else happens in these turns, and a replay does not know that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.user_code import require_observables
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    FollowingObserver,
    LightObservable,
    SerialDisposable,
    operator_from,
    subscribe_through,
)

T = TypeVar("T")


def of(*items: T) -> Observable[T]:
    """Emit the items, then complete, all within the subscription.

    Example:
        >>> of(Done(path, size))

    Args:
        items: The items, in order.

    Returns:
        A cold observable.
    """

    def subscribe(observer: ObserverBase[T], _: SchedulerBase | None = None) -> DisposableBase:
        for item in items:
            observer.on_next(item)
        observer.on_completed()
        return SerialDisposable()

    return LightObservable(subscribe)


def throw(error: Exception) -> Observable[Any]:
    """Fail with `error` within the subscription.

    Example:
        >>> throw(HubUnreachable("no answer"))

    Args:
        error: The error.

    Returns:
        A cold observable.
    """

    def subscribe(observer: ObserverBase[Any], _: SchedulerBase | None = None) -> DisposableBase:
        observer.on_error(error)
        return SerialDisposable()

    return LightObservable(subscribe)


def concat(*sources: Observable[T]) -> Observable[T]:
    """Subscribe to one source after the other, each at the moment when the one before it completes.

    Example:
        >>> concat(note("the upload begins"), upload)

    Args:
        sources: The observables, in order.

    Returns:
        An observable with the items of all sources.
    """
    return LightObservable(lambda observer, scheduler: _Concat(observer, scheduler, iter(sources)).start())


@dataclass(slots=True, eq=False, repr=False)
class _Concat(FollowingObserver[Any]):
    """One subscription: follows one source at a time."""

    left: Iterator[Observable[Any]]

    def start(self) -> DisposableBase:
        self.on_completed()
        return self.followed

    def on_completed(self) -> None:
        source = next(self.left, None)
        if source is None:
            self.observer.on_completed()
        else:
            self.follow(source, self)


def never() -> Observable[Any]:
    """An observable without items and without end."""
    return _NEVER


_NEVER: Observable[Any] = LightObservable(lambda observer, scheduler: SerialDisposable())


def start_with(*items: Any) -> Callable[[Observable[T]], Observable[T]]:
    """Emit the items within the subscription, then those of the source.

    Example:
        >>> progress.pipe(start_with(Note("rendering")))

    Args:
        items: The items that come first, in order.

    Returns:
        An operator function.
    """

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        for item in items:
            observer.on_next(item)
        return subscribe_through(source, observer, scheduler)

    return operator_from(subscribe)


def merge_errors(other: Observable[Any]) -> Callable[[Observable[T]], Observable[T]]:
    """Subscribe to `other` together with the source, and fail if it fails. Its items and its end are ignored.

    Example:
        >>> waiting.pipe(merge_errors(check_the_files))

    Args:
        other: The observable whose error ends the result.

    Returns:
        An operator function: the result has the source's items.

    Raises:
        TypeError: `other` is not an observable.
    """
    require_observables("merge_errors", other)

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        first = subscribe_through(source, observer, scheduler)
        return CompositeDisposable(first, other.subscribe(on_error=observer.on_error, scheduler=scheduler))

    return operator_from(subscribe)
