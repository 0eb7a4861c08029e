"""Ask the worker of a granted GPU whether it is ready."""

from __future__ import annotations

from reactivex import Observable

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import WorkerUnreachable
from wakestream.operators.model.events import Granted, JobEvent, Online, Waking
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Health, Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async


def online(workers: Workers) -> Effect[JobEvent]:
    """The stage from `Granted` to `Online`: asks the worker for its health. A call is one question.

    Example:
        >>> each(online(world.workers), poll(1.0, until=is_ready), timeout(600.0, "ready"))

    Args:
        workers: The workers.

    Returns:
        The stage, for `each`. Its calls may raise `WorkerUnreachable`.
    """

    def stage(grant: Granted, around: Operator) -> Observable[JobEvent]:
        url = workers.resolve(grant.url)
        worker = workers.at(grant.url)

        def to_event(health: Health) -> JobEvent:
            if health.initialized:
                return Online(url, grant.gpu, health.features)
            return Waking(grant.waited, "initializing", grant.position)

        return around(from_async(worker.health, "health")).map(to_event).distinct_until_changed()

    return stage


def until_lost(policy: Policy) -> Backoff:
    """How a worker that does not answer is asked again, until it counts as lost."""
    return Backoff(
        initial=policy.health_every, factor=1.0, max_elapsed=policy.lost,
        retry_on=lambda error: isinstance(error, WorkerUnreachable),
    )  # fmt: skip


def is_ready(health: Health) -> bool:
    """Whether the worker's engine can work."""
    return health.initialized
