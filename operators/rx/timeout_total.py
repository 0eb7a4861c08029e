"""A limit on the whole duration of a source. (The library's `timeout` starts again at every item.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import CompositeDisposable, operator_from, subscribe_through
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


def timeout_total(seconds: float, stage: str) -> Callable[[Observable[T]], Observable[T]]:
    """Fail with `StageTimeout` if the source has not ended `seconds` after the subscription.

    Example:
        >>> answer.pipe(timeout_total(30.0, "reply"))

    Args:
        seconds: The longest duration.
        stage: The name of the wait in the error.

    Returns:
        An operator function: the result has the source's items.
    """

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        timer = clock(scheduler).schedule_relative(seconds, _on_timeout, (observer, stage, seconds))
        return CompositeDisposable(timer, subscribe_through(source, observer, scheduler))

    return operator_from(subscribe)


def _on_timeout(_: SchedulerBase, state: tuple[ObserverBase[Any], str, float] | None) -> None:
    if state is not None:
        observer, stage, seconds = state
        observer.on_error(StageTimeout(stage, seconds))
