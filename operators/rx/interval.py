"""Emit at a steady pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import ObserverBase, SchedulerBase

from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import Timer, clock

T = TypeVar("T")


def interval(seconds: float, make: Callable[[float], T]) -> Observable[T]:
    """Emit `make(elapsed)` every `seconds` from the subscription on, without drift and without end.

    Items that were missed while the machine slept are left out.

    Example:
        >>> interval(10.0, lambda elapsed: Waking(elapsed))

    Args:
        seconds: The period.
        make: Makes an item from the seconds since the subscription. If it raises, the observable fails.

    Returns:
        A cold observable. Its first item comes after `seconds`.
    """
    return LightObservable(lambda observer, scheduler: _Interval(seconds, make, observer, clock(scheduler)))


class _Interval(Timer):
    """One subscription, and how many periods are over."""

    __slots__ = ("count", "make", "observer", "seconds", "start")

    def __init__(
        self, seconds: float, make: Callable[[float], Any], observer: ObserverBase[Any], time: SchedulerBase
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
        except Exception as error:
            self.observer.on_error(error)
            return
        if not self.disposed:  # set before emitting, so that an observer that raises does not stop the timer
            self.set(start + (count + 1) * seconds)
            self.observer.on_next(item)
