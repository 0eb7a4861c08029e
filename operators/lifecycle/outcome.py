"""Every job ends in exactly one outcome; errors never leave it."""

from __future__ import annotations

import typing
from collections.abc import Callable

from reactivex import Observable, abc

from wakestream.operators.model.errors import StageTimeout, WakestreamError
from wakestream.operators.model.events import Failed, JobEvent, Outcome, TimedOut
from wakestream.operators.model.faults import describe_error
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable

_SILENT = Failed("the pipeline ended without an outcome", "internal")
OUTCOMES: tuple[type, ...] = typing.get_args(Outcome)


def is_outcome(event: JobEvent) -> bool:
    """Whether `event` is the last of its job."""
    return isinstance(event, OUTCOMES)


def _nothing(_: JobEvent) -> None:
    """Nobody wants to know."""


def outcome(on_end: Callable[[JobEvent], None] = _nothing) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """End with exactly one outcome: the last that the stages gave, or what their error stands for.

    An outcome is held back until the source completes, as a stage may follow the one that gave it. `on_end` is called
    with it, once, before it is given; what that raises is the outcome instead.
    """

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        return LightObservable(
            lambda observer, scheduler: source.subscribe(_Ending(observer, on_end), scheduler=scheduler)
        )

    return operator


class _Ending(ForwardingObserver[JobEvent]):
    """Holds the last outcome back until the end."""

    __slots__ = ("last", "on_end")

    def __init__(self, observer: abc.ObserverBase[JobEvent], on_end: Callable[[JobEvent], None]) -> None:
        super().__init__(observer)
        self.on_end = on_end
        self.last: JobEvent = _SILENT

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
    """The outcome that an error stands for; one that no operator raises on purpose tells its type, file and line."""
    if isinstance(error, StageTimeout):
        return TimedOut(error.stage, error.seconds, str(error))
    if isinstance(error, WakestreamError):
        return Failed(str(error), error.code)
    return Failed(describe_error(error), "internal")
