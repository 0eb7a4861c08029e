"""A limit on the time without progress: items that show the same progress do not count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from reactivex import Observable

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import operator_with
from wakestream.operators.rx.core.scheduler import seconds_now
from wakestream.operators.rx.timeout_idle import IdleWatchdog

T = TypeVar("T")
_NOTHING = object()


def timeout_no_progress(
    progress: Callable[[T], object], seconds: float, stage: str
) -> Callable[[Observable[T]], Observable[T]]:
    """Fail with `StageTimeout` when `progress(item)` has not changed for `seconds` and the source has not ended.

    Example:
        >>> reports.pipe(timeout_no_progress(lambda report: report.position, 3600.0, "execution"))

    Args:
        progress: What to compare; it is counted from the subscription until there is an item. If it raises, the
            result fails.
        seconds: The longest time without a change.
        stage: The name of the wait in the error.

    Returns:
        An operator function: the result has the source's items.
    """

    return operator_with(partial(_ProgressWatchdog, progress, partial(StageTimeout, stage, seconds), seconds))


class _ProgressWatchdog(IdleWatchdog):
    """Counts only items that show other progress than the one before."""

    __slots__ = ("last", "progress")

    def __init__(self, progress: Callable[[Any], object], *watched: Any) -> None:
        super().__init__(*watched)
        self.progress = progress
        self.last: object = _NOTHING

    def on_next(self, value: Any) -> None:
        try:
            before, self.last = self.last, self.progress(value)
            changed = self.last != before
        except Exception as error:  # raised by `progress`
            self.observer.on_error(error)
            return
        if changed:
            self.since = seconds_now(self.time)
        self.observer.on_next(value)
