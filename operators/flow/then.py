"""One stage after another, in one observable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

T = TypeVar("T")
_NOTHING = object()


def then(following: Callable[[Any], Observable[T]]) -> Callable[[Observable[T]], Observable[T]]:
    """Pass every item on; when the source completes, go on with what `following` makes of its last item.

    A stage's progress and its result thus travel together: its last item is its result. An empty source stays empty.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            stage = SerialDisposable()
            last: Any = _NOTHING

            def on_next(item: T) -> None:
                nonlocal last
                last = item
                observer.on_next(item)

            def on_completed() -> None:
                if last is _NOTHING:
                    observer.on_completed()
                    return
                try:
                    after = following(last)
                except Exception as error:  # a stage that cannot even be built fails like one that ran
                    observer.on_error(error)
                else:
                    stage.disposable = after.subscribe(observer, scheduler=scheduler)

            first = source.subscribe(on_next, observer.on_error, on_completed, scheduler=scheduler)
            return CompositeDisposable(first, stage)

        return Observable(subscribe)

    return operator
