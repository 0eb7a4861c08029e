"""A limit on the time between two items."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import ObserverBase, SchedulerBase

from wakestream.operators.model.errors import Stalled
from wakestream.operators.rx.core.observable import FollowingObserver, operator_with
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

    return operator_with(partial(IdleWatchdog, partial(Stalled, stage, seconds), seconds))


class IdleWatchdog(FollowingObserver[Any]):
    """Fails with `error()` when `since` is `seconds` ago; each item sets `since` to now."""

    __slots__ = ("error", "seconds", "since", "time")

    def __init__(
        self,
        error: Callable[[], Exception],
        seconds: float,
        observer: ObserverBase[Any],
        scheduler: SchedulerBase | None,
    ) -> None:
        super().__init__(observer, scheduler)
        self.time, self.seconds, self.error = clock(scheduler), seconds, error
        self.since = seconds_now(self.time)
        self.followed.disposable = self.time.schedule_relative(seconds, self.check)

    def on_next(self, value: Any) -> None:
        self.since = seconds_now(self.time)
        self.observer.on_next(value)

    def check(self, *_: Any) -> None:
        """Fail if the time is over, else wait for the rest of it."""
        left = round(self.since + self.seconds - seconds_now(self.time), 6)  # schedulers have microseconds
        if left <= 0:
            self.observer.on_error(self.error())
        else:
            self.followed.disposable = self.time.schedule_relative(left, self.check)
