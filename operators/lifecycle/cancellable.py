"""Cancel a job, here and at its workers, whatever stage it is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.events import Cancelled, Granted, JobEvent, Submitted
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.core.observable import CompositeDisposable, FollowingObserver, operator_from
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import concat, of
from wakestream.operators.rx.timeout import timeout

CANCEL_WITHIN = 5.0
"""Seconds that a worker has to confirm a cancel; the job is cancelled here in any case."""


def cancellable(
    signal: Observable[Any], workers: Workers, job_id: str | None = None
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When `signal` emits: dispose the source, cancel the job's tasks at the workers, and end with `Cancelled`.

    Example:
        >>> stages.pipe(cancellable(cancel_clicked, world.workers, job.id))

    Args:
        signal: Cancels the job when it emits, also if it emits before the source is subscribed.
        workers: Where the tasks run.
        job_id: The job's id: a worker continues a task that other jobs need, too.

    Returns:
        An operator function.
    """

    def subscribe(
        source: Observable[JobEvent], observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None
    ) -> DisposableBase:
        running = _Running(observer, scheduler, workers, job_id)
        signalled = signal.subscribe(running.cancel, scheduler=scheduler)
        if not running.cancelled:
            running.follow(source, running)
        return CompositeDisposable(signalled, running.followed)

    return operator_from(subscribe)


@dataclass(slots=True, eq=False, repr=False)
class _Running(FollowingObserver[JobEvent]):
    """Remembers the tasks of the present grant, one for each worker."""

    workers: Workers
    job_id: str | None
    tasks: tuple[Submitted, ...] = ()
    cancelled: bool = False

    def on_next(self, value: JobEvent) -> None:
        if isinstance(value, Submitted):
            self.tasks = (*(task for task in self.tasks if task.worker.url != value.worker.url), value)
        elif isinstance(value, Granted):
            self.tasks = ()  # the job started again: the earlier tasks are gone with their GPU
        self.observer.on_next(value)

    def cancel(self, _: Any) -> None:
        if self.cancelled:
            return
        self.cancelled = True
        confirmed = (
            cancel_task(task, self.workers, self.job_id).filter(lambda _: False).catch(lambda *_: of())
            for task in self.tasks
        )
        ending: Observable[JobEvent] = concat(*confirmed, of(Cancelled()))
        self.follow(ending, self.observer)


def cancel_task(task: Submitted, workers: Workers, job_id: str | None) -> Observable[Any]:
    """Cancel a task at its worker; one item when the worker confirmed it, an error if it did not in time."""
    worker, task_id = workers.at(task.worker.url), task.task_id
    return from_async(lambda: worker.cancel(task_id, job_id), "cancel").pipe(timeout(CANCEL_WITHIN, "cancel"))
