"""Emit at a steady pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import LoopScheduler, clock, seconds_now

T = TypeVar("T")


def interval(seconds: float, make: Callable[[float], T]) -> Observable[T]:
    """Emit `make(elapsed)` every `seconds` from the subscription on, without drift and without end.

    Items that were missed while the machine slept are left out.

    Example:
        >>> interval(10.0, lambda elapsed: Waking(elapsed))

    Args:
        seconds: The period. If it is not above 0, the observable fails with `ValueError`.
        make: Makes an item from the seconds since the subscription. If it raises, the observable fails.

    Returns:
        A cold observable. Its first item comes after `seconds`.
    """
    return LightObservable(lambda observer, scheduler: _Interval(seconds, make, observer, clock(scheduler)))


class _Interval(DisposableBase):
    """One subscription, and how many periods are over.

    On a `LoopScheduler` it makes only a timer of the loop, because thousands of jobs have one that fires every few
    seconds.
    """

    __slots__ = ("cancel", "count", "loop", "make", "observer", "seconds", "start", "time")

    def __init__(
        self, seconds: float, make: Callable[[float], Any], observer: ObserverBase[Any], time: SchedulerBase
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"the period of an interval has to be above 0 seconds; it is {seconds}")
        self.seconds, self.make, self.observer, self.time = seconds, make, observer, time
        self.loop = time.loop if isinstance(time, LoopScheduler) else None
        self.start = self.now()
        self.count = 0
        self.cancel: Callable[[], object] | None
        self.set(self.start + seconds)

    def now(self) -> float:
        return seconds_now(self.time) if self.loop is None else self.loop.time()

    def set(self, when: float) -> None:
        if self.loop is None:
            self.cancel = self.time.schedule_relative(max(0.0, when - self.now()), self.on_fire).dispose
        else:
            self.cancel = self.loop.call_at(when, self.on_fire).cancel

    def dispose(self) -> None:
        cancel, self.cancel = self.cancel, None
        if cancel is not None:
            cancel()

    def on_fire(self, *_: Any) -> None:
        start, seconds = self.start, self.seconds
        self.count = count = max(self.count + 1, int((self.now() - start) / seconds))
        try:
            item = self.make(count * seconds)
        except Exception as error:
            self.observer.on_error(error)
            return
        if self.cancel is not None:  # set before emitting, so that an observer that raises does not stop the timer
            self.set(start + (count + 1) * seconds)
            self.observer.on_next(item)
