"""Every job ends in exactly one outcome; errors never leave it."""

from __future__ import annotations

import typing
from collections.abc import Callable

from reactivex import Observable, abc

from wakestream.operators.errors import StageTimeout, WakestreamError
from wakestream.operators.events import Failed, JobEvent, Outcome, TimedOut

OUTCOMES: tuple[type, ...] = typing.get_args(Outcome)


def is_outcome(event: JobEvent) -> bool:
    """Whether `event` is the last of its job."""
    return isinstance(event, OUTCOMES)


def outcome() -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """Turn an error into `Failed` or `TimedOut`, and complete after the first outcome."""

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(event: JobEvent) -> None:
                observer.on_next(event)
                if is_outcome(event):
                    observer.on_completed()

            def on_completed() -> None:
                on_next(Failed("the pipeline ended without an outcome", "internal"))

            return source.subscribe(
                on_next, lambda error: on_next(outcome_of(error)), on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


def outcome_of(error: Exception) -> Outcome:
    """The outcome that an error stands for."""
    if isinstance(error, StageTimeout):
        return TimedOut(error.stage, error.seconds, str(error))
    if isinstance(error, WakestreamError):
        return Failed(str(error), error.code)
    return Failed(f"{type(error).__name__}: {error}", "internal")
