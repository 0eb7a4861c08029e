"""Each job ends in exactly one outcome, and never with an error."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass

from reactivex import Observable

from wakestream.operators.model.errors import StageTimeout, WakestreamError
from wakestream.operators.model.events import Failed, JobEvent, Outcome, TimedOut
from wakestream.operators.model.user_code import describe_error
from wakestream.operators.rx.core.observable import ForwardingObserver, ignore, operator_from

_NO_OUTCOME = Failed("the pipeline ended without an outcome", "internal")
OUTCOMES: tuple[type, ...] = typing.get_args(Outcome)


def is_outcome(event: JobEvent) -> typing.TypeGuard[Outcome]:
    """Whether `event` is the last one of its job.

    Example:
        >>> is_outcome(Failed("the engine failed", "task_failed"))
        True

    Args:
        event: Any event.

    Returns:
        True for `Done`, `Failed`, `TimedOut` and `Cancelled`.
    """
    return isinstance(event, OUTCOMES)


def outcome(on_end: Callable[[JobEvent], None] = ignore) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """End with exactly one outcome: the last one that the source emitted, or the one for its error.

    An outcome is held back until the source completes, because a later stage may replace it.

    Example:
        >>> stages.standard().pipe(outcome())

    Args:
        on_end: Is called once with the outcome, before it is emitted. If it raises, the error becomes the outcome.

    Returns:
        An operator function: the result does not fail.
    """
    return operator_from(
        lambda source, observer, scheduler: source.subscribe(_Ending(observer, on_end), scheduler=scheduler)
    )


@dataclass(slots=True, eq=False, repr=False)
class _Ending(ForwardingObserver[JobEvent]):
    """Holds the last outcome back until the end."""

    on_end: Callable[[JobEvent], None]
    last: JobEvent = _NO_OUTCOME

    def on_next(self, value: JobEvent) -> None:
        if is_outcome(value):
            self.last = value
        else:
            self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self.last = outcome_of(error)
        self.on_completed()

    def on_completed(self) -> None:
        try:
            self.on_end(self.last)
        except Exception as error:  # or the job would never end
            self.last = outcome_of(error)
        self.observer.on_next(self.last)
        self.observer.on_completed()


def outcome_of(error: Exception) -> Outcome:
    """Return the outcome for an error.

    Example:
        >>> outcome_of(TaskLost("the worker has no such task")).code
        'task_lost'

    Args:
        error: What a pipeline raised. For an unexpected error, the outcome has its type, file and line.

    Returns:
        `TimedOut` for a `StageTimeout`, else `Failed`.
    """
    if isinstance(error, StageTimeout):
        return TimedOut(error.stage, error.seconds, str(error))
    if isinstance(error, WakestreamError):
        return Failed(str(error), error.code)
    return Failed(describe_error(error), "internal")
