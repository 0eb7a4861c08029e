"""Several things to be done for one answer, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from wakestream.operators.model.faults import require_observables
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable

T = TypeVar("T")


def _first(*results: Any) -> Any:
    return results[0]


def all_done(*lanes: Observable[T], join: Callable[..., T | None] = _first) -> Observable[T]:
    """All lanes at once, with whatever they emit, until each has completed.

    A lane that fails ends the whole with its error, and the others are let go of. At the end `join` is given the last
    item of each lane, in the order of the lanes (None for one without items); what it returns, unless None, is the last
    item. Unless given, that is the first lane's; it is not emitted again where no other came after it. `ValueError`
    without a lane.
    """
    if not lanes:
        raise ValueError("all_done needs at least one lane")
    require_observables("all_done", *lanes)

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        work = _Work(observer, len(lanes), join)
        for place, lane in enumerate(lanes):
            if not work.over:  # one that fails within its subscription: the next does not begin
                work.running.add(lane.subscribe(_Lane(work, place), scheduler=scheduler))
        return work.running

    return LightObservable(subscribe)


class _Work:
    """What the lanes of one subscription share."""

    __slots__ = ("join", "last", "left", "observer", "over", "results", "running")

    def __init__(self, observer: abc.ObserverBase[Any], lanes: int, join: Callable[..., Any]) -> None:
        self.observer, self.left, self.join = observer, lanes, join
        self.results: list[Any] = [None] * lanes
        self.last: Any = None
        self.running = CompositeDisposable()
        self.over = False

    def fail(self, error: Exception) -> None:
        self.over = True
        self.observer.on_error(error)

    def finish(self) -> None:
        try:
            result = self.join(*self.results)
        except Exception as error:  # what cannot be joined
            self.fail(error)
            return
        if result is not None and result is not self.last:
            self.observer.on_next(result)
        self.observer.on_completed()


class _Lane(ForwardingObserver[Any]):
    """One lane's observer."""

    __slots__ = ("place", "work")

    def __init__(self, work: _Work, place: int) -> None:
        super().__init__(work.observer)
        self.work, self.place = work, place

    def on_next(self, value: Any) -> None:
        self.work.last = self.work.results[self.place] = value
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self.work.fail(error)

    def on_completed(self) -> None:
        self.work.left -= 1
        if not self.work.left:
            self.work.finish()
