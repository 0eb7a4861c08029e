"""A fork in the road, by the kind of what arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable, SingleAssignmentDisposable

U = TypeVar("U")
Cases = Mapping[type, Callable[[Any], Observable[U] | None]]


def branch(cases: Cases[U]) -> Callable[[Observable[Any]], Observable[U]]:
    """Follow the branch that belongs to the kind of the newest item.

    Each item's type is looked up in `cases`; what the case returns replaces the branch followed until then, and None
    leaves it. Items of other types pass unnoticed. When the branch followed completes, the whole completes and lets go
    of the source, which may thus be hot and endless.
    """

    def operator(source: Observable[Any]) -> Observable[U]:
        def subscribe(observer: abc.ObserverBase[U], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            fork = _Fork(cases, observer, scheduler)
            outer = source.subscribe(fork.on_next, observer.on_error, fork.on_completed, scheduler=scheduler)
            return CompositeDisposable(outer, fork.followed)

        return Observable(subscribe)

    return operator


class _Fork:
    """Which branch is followed, in one subscription."""

    def __init__(self, cases: Cases[Any], observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None) -> None:
        self.cases, self.observer, self.scheduler = cases, observer, scheduler
        self.followed = SerialDisposable()
        self.taken = 0

    def on_next(self, item: Any) -> None:
        case = self.cases.get(type(item))
        if case is None:
            return
        try:
            road = case(item)
        except Exception as error:  # a case that raises is a branch that failed
            self._end()
            self.observer.on_error(error)
        else:
            if road is not None:
                self._follow(road)

    def _follow(self, road: Observable[Any]) -> None:
        self.taken += 1
        number = self.taken
        here = SingleAssignmentDisposable()
        self.followed.disposable = here  # lets go of the branch before, and stands first if this one re-enters

        def on_next(item: Any) -> None:
            if number == self.taken:
                self.observer.on_next(item)

        def on_error(error: Exception) -> None:
            if number == self.taken:
                self._end()
                self.observer.on_error(error)

        def arrived() -> None:
            if number == self.taken:
                self._end()
                self.observer.on_completed()

        here.disposable = road.subscribe(on_next, on_error, arrived, scheduler=self.scheduler)

    def _end(self) -> None:
        """Take no road any more: a source that emits while it is being subscribed cannot be let go of yet."""
        self.cases = {}

    def on_completed(self) -> None:
        if self.taken == 0:
            self.observer.on_completed()
