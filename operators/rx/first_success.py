"""Several ways to one answer, tried side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from wakestream.operators.model.faults import require_observables
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable

T = TypeVar("T")


def _silently(_: int, __: Exception) -> None:
    """Nobody wants to know."""


def first_success(*lanes: Observable[T], dropped: Callable[[int, Exception], T | None] = _silently) -> Observable[T]:
    """All lanes at once, with whatever they emit; the first that completes ends the whole, the others are let go of.

    The last item is the winner's. A lane that fails drops out, and what `dropped(its place from 0, its error)` returns,
    unless None, is emitted; the error of the last lane that is left passes. `ValueError` without a lane.
    """
    if not lanes:
        raise ValueError("first_success needs at least one lane")
    require_observables("first_success", *lanes)

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        race = _Race(observer, len(lanes), dropped)
        for place, lane in enumerate(lanes):
            if not race.over:  # one that ends within its subscription has won before the next begins
                race.running.add(lane.subscribe(_Lane(race, place), scheduler=scheduler))
        return race.running

    return LightObservable(subscribe)


class _Race:
    """What the lanes of one subscription share."""

    __slots__ = ("dropped", "leader", "left", "observer", "over", "running")

    def __init__(self, observer: abc.ObserverBase[Any], left: int, dropped: Callable[[int, Exception], Any]) -> None:
        self.observer, self.left, self.dropped = observer, left, dropped
        self.running = CompositeDisposable()
        self.leader: _Lane | None = None  # whose item was the last
        self.over = False


class _Lane(ForwardingObserver[Any]):
    """One lane's observer."""

    __slots__ = ("last", "place", "race")

    def __init__(self, race: _Race, place: int) -> None:
        super().__init__(race.observer)
        self.race, self.place = race, place
        self.last: tuple[Any, ...] = ()

    def on_next(self, value: Any) -> None:
        self.last, self.race.leader = (value,), self
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self.race.left -= 1
        if not self.race.left:
            self.race.over = True
            self.observer.on_error(error)
            return
        try:
            item = self.race.dropped(self.place, error)
        except Exception as fault:  # the rule is broken
            self.observer.on_error(fault)
            return
        if item is not None:
            self.race.leader = None
            self.observer.on_next(item)

    def on_completed(self) -> None:
        self.race.over = True
        if self.race.leader is not self:
            for item in self.last:  # another lane spoke since
                self.observer.on_next(item)
        self.observer.on_completed()
