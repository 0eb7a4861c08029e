"""Run several observables at the same time, and combine their last items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase
from reactivex.disposable import CompositeDisposable

from wakestream.operators.model.user_code import require_observables
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable

T = TypeVar("T")


def _first(*results: Any) -> Any:
    return results[0]


def all_done(*sources: Observable[T], join: Callable[..., T | None] = _first) -> Observable[T]:
    """Subscribe to all sources at once, pass all items on, and complete when all have completed.

    Example:
        >>> all_done(render(left), render(right), join=lambda left, right: merge_plan(left, right))

    Args:
        sources: One or more observables. If one fails, the others are disposed and its error is passed on.
        join: Is called at the end with the last item of each source, in the order of `sources` (None for a source
            without items). Unless None, the result is the last item. Default: the last item of the first
            source, which is not repeated if it was the last one emitted.

    Returns:
        An observable with the items of all sources.

    Raises:
        ValueError: There is no source.
        TypeError: An argument is not an observable.
    """
    require_observables("all_done", *sources)

    def subscribe(observer: ObserverBase[T], scheduler: SchedulerBase | None = None) -> DisposableBase:
        state = _State(observer, len(sources), join)
        for index, source in enumerate(sources):
            if not state.failed:  # a source may fail within its own subscription
                state.running.add(source.subscribe(_Inner(observer, state, index), scheduler=scheduler))
        return state.running

    return LightObservable(subscribe)


class _State:
    """What the sources of one subscription share."""

    __slots__ = ("failed", "join", "last", "left", "observer", "results", "running")

    def __init__(self, observer: ObserverBase[Any], count: int, join: Callable[..., Any]) -> None:
        self.observer, self.left, self.join = observer, count, join
        self.results: list[Any] = [None] * count
        self.last: Any = None
        self.running = CompositeDisposable()
        self.failed = False

    def fail(self, error: Exception) -> None:
        self.failed = True
        self.observer.on_error(error)

    def finish(self) -> None:
        try:
            result = self.join(*self.results)
        except Exception as error:  # raised by `join`
            self.fail(error)
            return
        if result is not None and result is not self.last:
            self.observer.on_next(result)
        self.observer.on_completed()


@dataclass(slots=True, eq=False, repr=False)
class _Inner(ForwardingObserver[Any]):
    """The observer of one source."""

    state: _State
    index: int

    def on_next(self, value: Any) -> None:
        self.state.last = self.state.results[self.index] = value
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self.state.fail(error)

    def on_completed(self) -> None:
        self.state.left -= 1
        if not self.state.left:
            self.state.finish()
