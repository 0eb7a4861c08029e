"""The waiting line: a sign of life at a steady pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import Timer, clock

T = TypeVar("T")


def interval(seconds: float, make: Callable[[float], T]) -> Observable[T]:
    """`make(elapsed)` each `seconds` from the subscription on, without drift and without end.

    Beats missed while the machine slept are left out, not made up for. An error of `make` ends it.
    """

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return _Beats(seconds, make, observer, clock(scheduler))

    return LightObservable(subscribe)


class _Beats(Timer):
    """One line, and the beats so far."""

    __slots__ = ("count", "make", "observer", "seconds", "start")

    def __init__(
        self, seconds: float, make: Callable[[float], Any], observer: abc.ObserverBase[Any], time: abc.SchedulerBase
    ) -> None:
        super().__init__(time)
        self.seconds, self.make, self.observer = seconds, make, observer
        self.start = self.now()
        self.count = 0
        self.set(self.start + seconds)

    def on_fire(self, *_: Any) -> None:
        start, seconds = self.start, self.seconds
        self.count = count = max(self.count + 1, int((self.now() - start) / seconds))
        try:
            item = self.make(count * seconds)
        except Exception as error:  # a line that cannot be made
            self.observer.on_error(error)
            return
        if not self.disposed:  # set before the item is given, lest an observer that raises stop the clock
            self.set(start + (count + 1) * seconds)
            self.observer.on_next(item)
