"""The last thing that a job does, however it ended."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import JobEvent, Note, Outcome
from wakestream.operators.model.faults import describe_error, require_observable
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    LightObservable,
    SerialDisposable,
)


def before_outcome(
    last: Callable[[Outcome], Observable[JobEvent]],
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When a whole job ends: first what `last(outcome)` emits, then the outcome, which nothing can change any more.

    An error of `last` is told as a `Note`. It is part of no limit and no cancel of the job: bound it yourself.
    """

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            job = _Job(observer, last, scheduler)
            return CompositeDisposable(source.subscribe(job, scheduler=scheduler), job.ending)

        return LightObservable(subscribe)

    return operator


class _Job(ForwardingObserver[JobEvent]):
    """Passes everything on until the outcome, which it holds back."""

    __slots__ = ("ending", "last", "outcome", "scheduler")

    def __init__(
        self,
        observer: abc.ObserverBase[JobEvent],
        last: Callable[[Outcome], Observable[JobEvent]],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        super().__init__(observer)
        self.last, self.scheduler = last, scheduler
        self.ending = SerialDisposable()
        self.outcome: JobEvent | None = None

    def on_next(self, value: JobEvent) -> None:
        if is_outcome(value):
            self.outcome = value
        else:
            self.observer.on_next(value)

    def on_completed(self) -> None:
        if self.outcome is None:
            self.observer.on_completed()
            return
        ending: Observable[JobEvent] = LightObservable(
            lambda observer, scheduler: self._last().subscribe(observer, scheduler=scheduler)
        )
        self.ending.disposable = ending.subscribe(
            self.observer.on_next, self._failed, self._over, scheduler=self.scheduler
        )

    def _last(self) -> Observable[JobEvent]:
        made = self.last(self.outcome)  # type: ignore[arg-type]  # what is_outcome let through
        return require_observable(made, self.last, "before_outcome")

    def _failed(self, error: Exception) -> None:
        self.observer.on_next(Note(str(error) if isinstance(error, WakestreamError) else describe_error(error)))
        self._over()

    def _over(self) -> None:
        assert self.outcome is not None  # noqa: S101 - it began the end
        self.observer.on_next(self.outcome)
        self.observer.on_completed()
