"""A time limit: on the whole, between two items, or without progress. (The library's starts again at every item.)"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    FollowingObserver,
    ignore,
    operator_from,
    subscribe_through,
)
from wakestream.operators.rx.core.scheduler import clock, seconds_now

T = TypeVar("T")

Error = Callable[[str, float], Exception]

_AGAIN = 0.01
"""The shortest pause, in seconds, until the limit is looked at again while none of the time counts."""


def each_item(_: Any) -> object:
    """For `timeout(…, reset=each_item)`: every item is different from the one before, so every item resets the limit.

    Returns:
        A new object.
    """
    return object()


def timeout(
    seconds: float,
    stage: str,
    *,
    reset: Callable[[Any], object] | None = None,
    error: Error = StageTimeout,
    excused: Callable[[], float] | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Fail when the source takes longer than `seconds`, counted from the subscription or from the last reset.

    A subscription has one timer: a reset only stores the time, and the timer then waits for the rest.

    Example:
        >>> answer.pipe(timeout(30.0, "reply"))
        >>> bytes_sent.pipe(timeout(60.0, "transfer", reset=each_item, error=Stalled))
        >>> reports.pipe(timeout(3600.0, "execution", reset=lambda report: report.position))

    Args:
        seconds: The limit; none if infinite.
        stage: The name of the wait in the error.
        reset: The limit starts again when the value of this function changes. None: it never does. If it raises, the
            result fails with that error.
        error: Makes the error from `stage` and `seconds`.
        excused: Returns the seconds since the subscription that do not count. If it or `error` raises, the result fails
            with what it raised.

    Returns:
        An operator function: the result has the source's items.
    """

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        if seconds == math.inf:
            return subscribe_through(source, observer, scheduler)
        if reset is None and excused is None:  # most limits: a timer and nothing more
            timer = clock(scheduler).schedule_relative(seconds, _fail, (observer, error, stage, seconds))
            return CompositeDisposable(timer, subscribe_through(source, observer, scheduler))
        late = partial(_fail, state=(observer, error, stage, seconds))
        watchdog = _Watchdog(
            observer, scheduler, late, seconds, reset or ignore, excused or float, clock(scheduler)
        )  # float() is 0
        return CompositeDisposable(source.subscribe(watchdog, scheduler=scheduler), watchdog.followed)

    return operator_from(subscribe)


def _fail(
    _: Any = None, state: tuple[ObserverBase[Any], Callable[[str, float], Exception], str, float] | None = None
) -> None:
    if state is not None:
        observer, error, stage, seconds = state
        try:
            late = error(stage, seconds)
        except Exception as fault:  # raised by `error`
            late = fault
        observer.on_error(late)


@dataclass(slots=True, eq=False, repr=False)
class _Watchdog(FollowingObserver[Any]):
    """Fails when `since` is longer ago than the limit; an item with another `reset` than before sets `since` to now."""

    late: Callable[[], None]
    seconds: float
    reset: Callable[[Any], object]
    excused: Callable[[], float]
    time: SchedulerBase
    since: float = field(init=False)
    before: object = None

    def __post_init__(self) -> None:
        self.since = seconds_now(self.time)
        self.followed.disposable = self.time.schedule_relative(self.seconds, self.look)

    def on_next(self, value: Any) -> None:
        try:
            before, self.before = self.before, self.reset(value)
            changed = self.before != before
        except Exception as error:  # raised by `reset`
            self.observer.on_error(error)
            return
        if changed:
            self.since = seconds_now(self.time)
        self.observer.on_next(value)

    def look(self, *_: Any) -> None:
        """Fail if the time is over, else wait for the rest of it."""
        try:
            excused = self.excused()
        except Exception as error:  # raised by `excused`
            self.observer.on_error(error)
            return
        left = round(self.since + self.seconds + excused - seconds_now(self.time), 6)  # schedulers have microseconds
        if left <= 0:
            self.late()
        else:
            self.followed.disposable = self.time.schedule_relative(max(left, _AGAIN if excused else 0.0), self.look)
