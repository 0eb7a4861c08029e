"""Stop a job everywhere, whatever stage it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from wakestream.operators.events import Cancelled, JobEvent, Submitted
from wakestream.operators.flow.from_async import from_async
from wakestream.operators.flow.timeout_total import timeout_total
from wakestream.operators.ports import Workers

GOODBYE = 5.0
"""Seconds that the worker gets to confirm; the job is cancelled here in any case."""


def cancellable(signal: Observable[Any], workers: Workers) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When `signal` emits: let go of the source, tell the worker if it has the task, and end with `Cancelled`."""

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            body = SerialDisposable()
            task: Submitted | None = None

            def on_next(event: JobEvent) -> None:
                nonlocal task
                task = event if isinstance(event, Submitted) else task
                observer.on_next(event)

            def stop(_: Any) -> None:
                body.disposable = _goodbye(task, workers).subscribe(observer, scheduler=scheduler)

            signalled = signal.take(1).subscribe(stop, scheduler=scheduler)
            body.disposable = source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)
            return CompositeDisposable(signalled, body)

        return Observable(subscribe)

    return operator


def _goodbye(task: Submitted | None, workers: Workers) -> Observable[JobEvent]:
    done: Observable[JobEvent] = rx.of(Cancelled())
    if task is None:
        return done
    worker, task_id = workers.at(task.worker.url), task.task_id
    telling = from_async(lambda: worker.cancel(task_id), "cancel").pipe(timeout_total(GOODBYE, "cancel"))
    told: Observable[JobEvent] = telling.filter(lambda _: False).catch(lambda _error, _source: rx.empty())
    return rx.concat(told, done)
