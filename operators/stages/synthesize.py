"""Start the task at the worker."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from reactivex import Observable

from wakestream.operators.model.events import Job, JobEvent, Submitted, Uploaded
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import TaskReceipt, Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff


def synthesize(
    job: Job, workers: Workers, policy: Policy, random: Random
) -> Callable[[Uploaded], Observable[JobEvent]]:
    """The stage from `Uploaded` to `Submitted`. For the same work, the worker returns its earlier task.

    Example:
        >>> uploaded.pipe(then(synthesize(job, world.workers, policy, world.random)))

    Args:
        job: The job.
        workers: The workers.
        policy: `call` says how the submit is retried.
        random: The source of jitter.

    Returns:
        The stage. It may raise `WorkerRefused`, `WorkerUnreachable`.
    """

    def stage(uploaded: Uploaded) -> Observable[JobEvent]:
        checked = uploaded.checked
        worker = workers.at(checked.worker.url)

        def to_event(receipt: TaskReceipt) -> JobEvent:
            return Submitted(checked.worker, receipt.task_id, receipt.cached, receipt.position)

        asked = from_async(lambda: worker.submit(job, checked.refs), "submit")
        return asked.pipe(retry_backoff(policy.call, random)).map(to_event)

    return stage
