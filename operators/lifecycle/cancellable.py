"""Stop a job everywhere, whatever stage it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reactivex as rx
from reactivex import Observable, abc

from wakestream.operators.model.events import Cancelled, Granted, JobEvent, Submitted
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    LightObservable,
    SerialDisposable,
)
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.timeout_total import timeout_total

GOODBYE = 5.0
"""Seconds that the worker gets to confirm; the job is cancelled here in any case."""


def cancellable(
    signal: Observable[Any], workers: Workers, job_id: str | None = None
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When `signal` emits: let go of the source, tell the workers that have the task, and end with `Cancelled`.

    `job_id` is the job's: the worker may have the task for other jobs too, and goes on for those.
    """

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            running = _Running(observer, workers, job_id, scheduler)
            signalled = signal.subscribe(running.stop, scheduler=scheduler)
            if not running.stopped:  # by a signal that was given before
                running.body.disposable = source.subscribe(running, scheduler=scheduler)
            return CompositeDisposable(signalled, running.body)

        return LightObservable(subscribe)

    return operator


class _Running(ForwardingObserver[JobEvent]):
    """Remembers the tasks of this grant, one for each worker: they must be told which to stop."""

    __slots__ = ("body", "job_id", "scheduler", "stopped", "tasks", "workers")

    def __init__(
        self,
        observer: abc.ObserverBase[JobEvent],
        workers: Workers,
        job_id: str | None,
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        super().__init__(observer)
        self.workers, self.job_id, self.scheduler = workers, job_id, scheduler
        self.body = SerialDisposable()
        self.tasks: tuple[Submitted, ...] = ()
        self.stopped = False

    def on_next(self, value: JobEvent) -> None:
        if isinstance(value, Submitted):
            self.tasks = (*(task for task in self.tasks if task.worker.url != value.worker.url), value)
        elif isinstance(value, Granted):
            self.tasks = ()  # begun anew: what was before has gone with its GPU
        self.observer.on_next(value)

    def stop(self, _: Any) -> None:
        if not self.stopped:
            self.stopped = True
            self.body.disposable = _goodbyes(self.tasks, self.workers, self.job_id).subscribe(
                self.observer, scheduler=self.scheduler
            )


def _goodbyes(tasks: tuple[Submitted, ...], workers: Workers, job_id: str | None) -> Observable[JobEvent]:
    return rx.concat(*(_goodbye(task, workers, job_id) for task in tasks), rx.of(Cancelled()))


def _goodbye(task: Submitted, workers: Workers, job_id: str | None) -> Observable[JobEvent]:
    worker, task_id = workers.at(task.worker.url), task.task_id
    telling = from_async(lambda: worker.cancel(task_id, job_id), "cancel").pipe(timeout_total(GOODBYE, "cancel"))
    told: Observable[JobEvent] = telling.filter(lambda _: False).catch(lambda _error, _source: rx.empty())
    return told
