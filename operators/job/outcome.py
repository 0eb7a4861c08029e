"""Every job ends in exactly one outcome; errors never leave it."""

from __future__ import annotations

import typing
from collections.abc import Callable

import reactivex as rx
from reactivex import Observable

from wakestream.operators.errors import StageTimeout, WakestreamError
from wakestream.operators.events import Failed, JobEvent, Outcome, TimedOut

OUTCOMES: tuple[type, ...] = typing.get_args(Outcome)


def is_outcome(event: JobEvent) -> bool:
    """Whether `event` is the last of its job."""
    return isinstance(event, OUTCOMES)


def outcome() -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """Turn an error into `Failed` or `TimedOut`, and complete after the first outcome."""

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        silent: Observable[JobEvent] = rx.of(Failed("the pipeline ended without an outcome", "internal"))
        whole = rx.concat(source, silent).catch(lambda error, _: rx.of(outcome_of(error)))
        return whole.take_while(lambda event: not is_outcome(event), inclusive=True)

    return operator


def outcome_of(error: Exception) -> Outcome:
    """The outcome that an error stands for."""
    if isinstance(error, StageTimeout):
        return TimedOut(error.stage, error.seconds, str(error))
    if isinstance(error, WakestreamError):
        return Failed(str(error), error.code)
    return Failed(f"{type(error).__name__}: {error}", "internal")
