"""A limit on the whole duration of a source. (The library's `timeout` starts again at every item.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    SerialDisposable,
    operator_from,
    subscribe_through,
)
from wakestream.operators.rx.core.scheduler import clock, seconds_now

T = TypeVar("T")

_DUE = 1e-6
"""Seconds that are left when the time is over, since times are inexact."""

_AGAIN = 0.01
"""The least time after which it looks again while nothing counts."""


def timeout_total(
    seconds: float, stage: str, excused: Callable[[], float] | None = None
) -> Callable[[Observable[T]], Observable[T]]:
    """Fail with `StageTimeout` if the source has not ended `seconds` after the subscription.

    Example:
        >>> answer.pipe(timeout_total(30.0, "reply"))

    Args:
        seconds: The longest duration.
        stage: The name of the wait in the error.
        excused: Returns the seconds since the subscription that do not count.

    Returns:
        An operator function: the result has the source's items.
    """

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        if excused is None:
            timer = clock(scheduler).schedule_relative(seconds, _on_timeout, (observer, stage, seconds))
            return CompositeDisposable(timer, subscribe_through(source, observer, scheduler))
        return CompositeDisposable(
            _timer(clock(scheduler), (observer, stage, seconds), excused),
            subscribe_through(source, observer, scheduler),
        )

    return operator_from(subscribe)


def _timer(
    time: SchedulerBase, state: tuple[ObserverBase[T], str, float], excused: Callable[[], float]
) -> DisposableBase:
    """A timer that goes on for as long as was excused."""
    timer, began = SerialDisposable(), seconds_now(time)

    def look(*_: Any) -> None:
        left = state[2] + excused() - (seconds_now(time) - began)
        if left > _DUE:
            timer.disposable = time.schedule_relative(max(left, _AGAIN), look)
        else:
            _on_timeout(time, state)

    timer.disposable = time.schedule_relative(state[2], look)
    return timer


def _on_timeout(_: SchedulerBase, state: tuple[ObserverBase[Any], str, float] | None) -> None:
    if state is not None:
        observer, stage, seconds = state
        observer.on_error(StageTimeout(stage, seconds))
