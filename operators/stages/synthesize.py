"""Start the task at the worker."""

from __future__ import annotations

from reactivex import Observable

from wakestream.operators.model.events import Job, JobEvent, Submitted, Uploaded
from wakestream.operators.model.ports import TaskReceipt, Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async


def synthesize(job: Job, workers: Workers) -> Effect[JobEvent]:
    """The stage from `Uploaded` to `Submitted`. For the same work, the worker returns its earlier task.

    Example:
        >>> each(synthesize(job, world.workers), retry_backoff(policy.call, world.random))

    Args:
        job: The job.
        workers: The workers.

    Returns:
        The stage, for `each`. Its call may raise `WorkerRefused`, `WorkerUnreachable`.
    """

    def stage(uploaded: Uploaded, around: Operator) -> Observable[JobEvent]:
        checked = uploaded.checked
        worker = workers.at(checked.worker.url)

        def to_event(receipt: TaskReceipt) -> JobEvent:
            return Submitted(checked.worker, receipt.task_id, receipt.cached, receipt.position)

        return around(from_async(lambda: worker.submit(job, checked.refs), "submit")).map(to_event)

    return stage
