"""The end of a race between workers: only one of them is still needed."""

from __future__ import annotations

from collections.abc import Callable

import reactivex as rx
from reactivex import Observable, abc

from wakestream.operators.lifecycle.cancellable import GOODBYE
from wakestream.operators.model.events import Job, JobEvent, Note, Rendered, Submitted
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import of
from wakestream.operators.rx.then import then
from wakestream.operators.rx.timeout_total import timeout_total


def stop_others(job: Job, workers: Workers) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When the source, whose tasks run at several workers, ends with the `Rendered` of one: tell the others to stop.

    A `Note` says of each whether it was told; one that cannot be told spoils nothing. Ends with that `Rendered`.
    """

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            tasks: dict[str, Submitted] = {}

            def remember(event: JobEvent) -> None:
                if isinstance(event, Submitted):
                    tasks[event.worker.url] = event

            def stop(won: Rendered) -> Observable[JobEvent]:
                others = [_stop(task, job, workers) for task in tasks.values() if task != won.task]
                return rx.concat(*others, of(won))

            return source.do_action(remember).pipe(then(stop)).subscribe(observer, scheduler=scheduler)

        return LightObservable(subscribe)

    return operator


def _stop(task: Submitted, job: Job, workers: Workers) -> Observable[JobEvent]:
    url, worker = task.worker.url, workers.at(task.worker.url)
    telling = from_async(lambda: worker.cancel(task.task_id, job.id), "cancel").pipe(timeout_total(GOODBYE, "cancel"))
    told: Observable[JobEvent] = telling.map(lambda _: Note(f"{url} was told to stop"))
    return told.catch(lambda error, _: of(Note(f"{url} could not be told to stop: {error}")))
