"""Run several observables at the same time; the first that completes wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase
from reactivex.disposable import CompositeDisposable

from wakestream.operators.model.user_code import require_observables
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable, ignore

T = TypeVar("T")


def first_success(*sources: Observable[T], dropped: Callable[[int, Exception], T | None] = ignore) -> Observable[T]:
    """Subscribe to all sources at once, pass all items on, and complete when the first of them completes.

    The other sources are disposed then. The last item is the winner's last item: it is repeated if another source
    emitted after it.

    Example:
        >>> first_success(render_at(a), render_at(b), dropped=lambda index, error: Note(f"{index} failed: {error}"))

    Args:
        sources: One or more observables. A source that fails is left out; the error of the last one left is passed on.
        dropped: Is called with the index (from 0) and the error of a source that failed while others still run. What
            it returns, unless None, is emitted.

    Returns:
        An observable with the items of all sources.

    Raises:
        ValueError: There is no source.
        TypeError: An argument is not an observable.
    """
    require_observables("first_success", *sources)

    def subscribe(observer: ObserverBase[T], scheduler: SchedulerBase | None = None) -> DisposableBase:
        race = _Race(len(sources), dropped)
        for index, source in enumerate(sources):
            if not race.over:  # a source may end within its own subscription
                race.running.add(source.subscribe(_Racer(observer, race, index), scheduler=scheduler))
        return race.running

    return LightObservable(subscribe)


@dataclass(slots=True, eq=False, repr=False)
class _Race:
    """What the sources of one subscription share."""

    left: int
    dropped: Callable[[int, Exception], Any]
    running: CompositeDisposable = field(default_factory=CompositeDisposable)
    latest: _Racer | None = None  # the source of the last item
    over: bool = False


@dataclass(slots=True, eq=False, repr=False)
class _Racer(ForwardingObserver[Any]):
    """The observer of one source."""

    race: _Race
    index: int
    last: tuple[Any, ...] = ()

    def on_next(self, value: Any) -> None:
        self.last, self.race.latest = (value,), self
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self.race.left -= 1
        if not self.race.left:
            self.race.over = True
            self.observer.on_error(error)
            return
        try:
            item = self.race.dropped(self.index, error)
        except Exception as fault:  # raised by `dropped`
            self.race.over = True
            self.observer.on_error(fault)
            return
        if item is not None:
            self.race.latest = None
            self.observer.on_next(item)

    def on_completed(self) -> None:
        self.race.over = True
        if self.race.latest is not self:
            for item in self.last:
                self.observer.on_next(item)
        self.observer.on_completed()
