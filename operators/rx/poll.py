"""Ask repeatedly, each time after the last answer. (With `interval` and `flat_map`, slow calls would overlap.)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, SchedulerBase

from wakestream.operators.rx.core.observable import FollowingObserver, operator_from
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


def poll(every: float | Callable[[T], float], until: Callable[[T], bool]) -> Callable[[Observable[T]], Observable[T]]:
    """Subscribe to the source at once, then again `every` seconds after it completed, until an item satisfies `until`.

    Example:
        >>> from_async(worker.health).pipe(poll(1.0, until=lambda health: health.initialized))

    Args:
        every: Seconds between the end of a call and the start of the next one, or what gives them for the last item.
        until: The predicate that ends the polling. The item that satisfies it is the last one.

    Returns:
        An operator function for an observable that makes one call at each subscription: the result has the items of
        all calls. An error of a call, or one that `every` or `until` raises, ends it.
    """
    between = every if callable(every) else lambda _: every
    return operator_from(
        lambda source, observer, scheduler: _Poll(observer, scheduler, clock(scheduler), source, between, until).start()
    )


@dataclass(slots=True, eq=False, repr=False)
class _Poll(FollowingObserver[Any]):
    """One subscription. It follows a call, or the pause after it."""

    time: SchedulerBase
    source: Observable[Any]
    every: Callable[[Any], float]
    until: Callable[[Any], bool]
    done: bool = False
    last: Any = None

    def start(self) -> DisposableBase:
        self._ask()
        return self.followed

    def _ask(self, *_: Any) -> None:
        self.follow(self.source, self)

    def on_next(self, value: Any) -> None:
        if self.done:
            return
        try:
            self.done, self.last = self.until(value), value
        except Exception as error:  # raised by `until`
            self.done = True
            self.observer.on_error(error)
            return
        self.observer.on_next(value)
        if self.done:
            self.observer.on_completed()

    def on_completed(self) -> None:
        if self.done:
            return
        try:
            pause = self.every(self.last)
        except Exception as error:  # raised by `every`
            self.observer.on_error(error)
        else:
            self.followed.disposable = self.time.schedule_relative(pause, self._ask)
