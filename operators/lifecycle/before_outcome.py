"""Do something at the end of a job, whatever its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reactivex import Observable

from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import JobEvent, Note, Outcome
from wakestream.operators.model.user_code import describe_error, require_observable
from wakestream.operators.rx.core.observable import FollowingObserver, LightObservable, operator_with


def before_outcome(
    last: Callable[[Outcome], Observable[JobEvent]],
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When a whole job ends, emit first what `last(outcome)` emits, then the outcome.

    `last` cannot change the outcome: an error of it is emitted as a `Note`. The job's limits and its cancel do not
    apply to it, so give it a limit of its own.

    Example:
        >>> job_pipeline(job, world, policy, cancel).pipe(before_outcome(lambda outcome: call_webhook(outcome)))

    Args:
        last: A function from the outcome to an observable of events.

    Returns:
        An operator function for a pipeline that ends with an outcome.
    """

    return operator_with(_Job, last)


@dataclass(slots=True, eq=False, repr=False)
class _Job(FollowingObserver[JobEvent]):
    """Passes everything on until the outcome, which it holds back."""

    last: Callable[[Outcome], Observable[JobEvent]]
    outcome: Outcome | None = None

    def on_next(self, value: JobEvent) -> None:
        if is_outcome(value):
            self.outcome = value
        else:
            self.observer.on_next(value)

    def on_completed(self) -> None:
        if self.outcome is None:
            self.observer.on_completed()
            return
        outcome = self.outcome

        def finish() -> None:
            self.observer.on_next(outcome)
            self.observer.on_completed()

        def on_error(error: Exception) -> None:
            self.observer.on_next(Note(str(error) if isinstance(error, WakestreamError) else describe_error(error)))
            finish()

        ending: Observable[JobEvent] = LightObservable(
            lambda observer, scheduler: require_observable(self.last(outcome), self.last, "before_outcome").subscribe(
                observer, scheduler=scheduler
            )
        )
        self.followed.disposable = ending.subscribe(self.observer.on_next, on_error, finish, scheduler=self.scheduler)
