"""Ask repeatedly, each time after the last answer. (With `interval` and `flat_map`, slow calls would overlap.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.faults import require_observable
from wakestream.operators.rx.core.observable import FollowingObserver, LightObservable
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


def poll(ask: Callable[[], Observable[T]], every: float, until: Callable[[T], bool]) -> Observable[T]:
    """Subscribe to `ask()` at once, then again `every` seconds after it completed, until an item satisfies `until`.

    Example:
        >>> poll(lambda: from_async(worker.health), 1.0, lambda health: health.initialized)

    Args:
        ask: Makes the observable of one call.
        every: Seconds between the end of a call and the start of the next one.
        until: The predicate that ends the polling. The item that satisfies it is the last one.

    Returns:
        A cold observable with the items of all calls. An error of a call, or one that `ask` or `until` raises, ends it.
    """
    return LightObservable(lambda observer, scheduler: _Poll(ask, every, until, observer, clock(scheduler)).start())


class _Poll(FollowingObserver[Any]):
    """One subscription. It follows a call, or the pause after it."""

    __slots__ = ("ask", "done", "every", "time", "until")

    def __init__(
        self,
        ask: Callable[[], Observable[Any]],
        every: float,
        until: Callable[[Any], bool],
        observer: ObserverBase[Any],
        time: SchedulerBase,
    ) -> None:
        super().__init__(observer, time)
        self.ask, self.every, self.until, self.time = ask, every, until, time
        self.done = False

    def start(self) -> DisposableBase:
        self._ask()
        return self.followed

    def _ask(self, *_: Any) -> None:
        try:
            answer = require_observable(self.ask(), self.ask, "poll")
        except Exception as error:  # raised by `ask`
            self.observer.on_error(error)
        else:
            self.follow(answer, self)

    def on_next(self, value: Any) -> None:
        if self.done:
            return
        try:
            self.done = self.until(value)
        except Exception as error:  # raised by `until`
            self.done = True
            self.observer.on_error(error)
            return
        self.observer.on_next(value)
        if self.done:
            self.observer.on_completed()

    def on_completed(self) -> None:
        if not self.done:
            self.followed.disposable = self.time.schedule_relative(self.every, self._ask)
