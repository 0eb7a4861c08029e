"""A limit on the time between two items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.errors import Stalled
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    SerialDisposable,
    operator_from,
)
from wakestream.operators.rx.core.scheduler import clock, seconds_now

T = TypeVar("T")


def timeout_idle(seconds: float, stage: str) -> Callable[[Observable[T]], Observable[T]]:
    """Fail with `Stalled` when no item comes for `seconds`, counted from the subscription or the last item.

    A subscription has one timer: an item only stores the time, and the timer then waits for the rest.

    Example:
        >>> bytes_sent.pipe(timeout_idle(60.0, "transfer"))

    Args:
        seconds: The longest time without an item.
        stage: The name of the wait in the error.

    Returns:
        An operator function: the result has the source's items.
    """

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        watchdog = IdleWatchdog(observer, clock(scheduler), seconds, stage, Stalled)
        return CompositeDisposable(watchdog.timer, source.subscribe(watchdog, scheduler=scheduler))

    return operator_from(subscribe)


class IdleWatchdog(ForwardingObserver[Any]):
    """Fails with `error(stage, seconds)` when `since` is `seconds` ago; each item sets `since` to now."""

    __slots__ = ("error", "seconds", "since", "stage", "time", "timer")

    def __init__(
        self,
        observer: ObserverBase[Any],
        time: SchedulerBase,
        seconds: float,
        stage: str,
        error: Callable[[str, float], Exception],
    ) -> None:
        super().__init__(observer)
        self.time, self.seconds, self.stage, self.error = time, seconds, stage, error
        self.since = seconds_now(time)
        self.timer = SerialDisposable()
        self.timer.disposable = time.schedule_relative(seconds, self.check)

    def on_next(self, value: Any) -> None:
        self.since = seconds_now(self.time)
        self.observer.on_next(value)

    def check(self, *_: Any) -> None:
        """Fail if the time is over, else wait for the rest of it."""
        left = round(self.since + self.seconds - seconds_now(self.time), 6)  # schedulers have microseconds
        if left <= 0:
            self.observer.on_error(self.error(self.stage, self.seconds))
        else:
            self.timer.disposable = self.time.schedule_relative(left, self.check)
