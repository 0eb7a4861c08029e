"""The end of a race between workers: only the winner's task is still needed."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.lifecycle.cancellable import cancel_task
from wakestream.operators.model.events import Job, JobEvent, Note, Rendered, Submitted
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.core.observable import operator_from
from wakestream.operators.rx.sources import concat, of
from wakestream.operators.rx.then import then


def stop_others(job: Job, workers: Workers) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """When one of several workers has rendered, cancel the tasks at the others.

    A `Note` tells for each task whether the worker confirmed it. A worker that does not confirm does not fail the job.

    Example:
        >>> first_success(at(a), at(b)).pipe(stop_others(stages.job, stages.world.workers))

    Args:
        job: The job.
        workers: Where the tasks run: `stages.world.workers`.

    Returns:
        An operator function for a source that ends with `Rendered`; the result ends with it, too.
    """

    def subscribe(
        source: Observable[JobEvent], observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None
    ) -> DisposableBase:
        tasks: dict[str, Submitted] = {}

        def remember(event: JobEvent) -> None:
            if isinstance(event, Submitted):
                tasks[event.worker.url] = event

        def stop(won: Rendered) -> Observable[JobEvent]:
            others = [_stop(task, job, workers) for task in tasks.values() if task != won.task]
            return concat(*others, of(won))

        return source.do_action(remember).pipe(then(stop)).subscribe(observer, scheduler=scheduler)

    return operator_from(subscribe)


def _stop(task: Submitted, job: Job, workers: Workers) -> Observable[JobEvent]:
    url = task.worker.url
    cancelled: Observable[JobEvent] = cancel_task(task, workers, job.id).map(lambda _: Note(f"{url} was told to stop"))
    return cancelled.catch(lambda error, _: of(Note(f"{url} did not confirm the cancel: {error}")))
