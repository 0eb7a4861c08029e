"""A fork in the road, by the kind of what arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.faults import require_observable
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    LightObservable,
    SerialDisposable,
)

U = TypeVar("U")
U_co = TypeVar("U_co", covariant=True)


class Cases(Protocol[U_co]):
    """Which branch belongs to which kind of item; a dict of functions by type is one."""

    def get(self, kind: type, /) -> Callable[[Any], Observable[U_co] | None] | None:
        """The function that makes the branch for an item of `kind`, or None."""
        ...


def switch_by_type(cases: Cases[U]) -> Callable[[Observable[Any]], Observable[U]]:
    """Follow the branch that belongs to the kind of the newest item.

    Each item's type is looked up in `cases`; what the case returns replaces the branch followed until then, and None
    leaves it. Items of other types pass unnoticed. When the branch followed completes, the whole completes and lets go
    of the source, which may thus be hot and endless.
    """

    def operator(source: Observable[Any]) -> Observable[U]:
        def subscribe(observer: abc.ObserverBase[U], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            fork = _Fork(cases, observer, scheduler)
            return CompositeDisposable(source.subscribe(fork, scheduler=scheduler), fork.followed)

        return LightObservable(subscribe)

    return operator


class _Fork(ForwardingObserver[Any]):
    """Which branch is followed, in one subscription."""

    __slots__ = ("cases", "followed", "scheduler", "taken")

    def __init__(self, cases: Cases[Any], observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None) -> None:
        super().__init__(observer)
        self.cases, self.scheduler = cases, scheduler
        self.followed = SerialDisposable()
        self.taken = 0

    def on_next(self, value: Any) -> None:
        case = self.cases.get(type(value))
        if case is None:
            return
        try:
            made = case(value)
            road = None if made is None else require_observable(made, case, "switch_by_type")
        except Exception as error:  # a case that raises is a branch that failed
            self.end()
            self.observer.on_error(error)
        else:
            if road is not None:
                self._follow(road)

    def _follow(self, road: Observable[Any]) -> None:
        self.taken += 1
        here = SerialDisposable()
        self.followed.disposable = here  # lets go of the branch before, and stands first if this one re-enters
        here.disposable = road.subscribe(_Road(self), scheduler=self.scheduler)

    def end(self) -> None:
        """Take no road any more: a source that emits while it is being subscribed cannot be let go of yet."""
        self.cases = {}

    def on_completed(self) -> None:
        if self.taken == 0:
            self.observer.on_completed()


class _Road(ForwardingObserver[Any]):
    """One branch; it is heard for as long as it is the newest."""

    __slots__ = ("fork", "number")

    def __init__(self, fork: _Fork) -> None:
        super().__init__(fork.observer)
        self.fork, self.number = fork, fork.taken

    def on_next(self, value: Any) -> None:
        if self.number == self.fork.taken:
            self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        if self.number == self.fork.taken:
            self.fork.end()
            self.observer.on_error(error)

    def on_completed(self) -> None:
        if self.number == self.fork.taken:
            self.fork.end()
            self.observer.on_completed()
