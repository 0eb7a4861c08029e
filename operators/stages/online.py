"""Wait until the worker of a granted GPU is ready."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from reactivex import Observable

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import WorkerUnreachable
from wakestream.operators.model.events import Granted, JobEvent, Online, Waking
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Health, Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.timeout_total import timeout_total


def online(workers: Workers, policy: Policy, random: Random) -> Callable[[Granted], Observable[JobEvent]]:
    """The stage from `Granted` to `Online`: asks the worker for its health until it is `initialized`.

    Example:
        >>> granted.pipe(then(online(world.workers, policy, world.random)))

    Args:
        workers: The workers.
        policy: `health_every` is the pause between two questions, `lost` the longest time without an answer, `ready`
            the longest time uninitialized.
        random: The source of jitter.

    Returns:
        The stage. It may raise `WorkerUnreachable`, `StageTimeout` (`ready`).
    """
    until_lost = Backoff(
        initial=policy.health_every,
        factor=1.0,
        max_elapsed=policy.lost,
        retry_on=lambda e: isinstance(e, WorkerUnreachable),
    )

    def stage(grant: Granted) -> Observable[JobEvent]:
        url = workers.resolve(grant.url)
        worker = workers.at(grant.url)

        def to_event(health: Health) -> JobEvent:
            if health.initialized:
                return Online(url, grant.gpu, health.features)
            return Waking(grant.waited, "initializing", grant.position)

        def ask() -> Observable[JobEvent]:
            return from_async(worker.health, "health").pipe(retry_backoff(until_lost, random)).map(to_event)

        answers = poll(ask, policy.health_every, lambda event: isinstance(event, Online))
        return answers.distinct_until_changed().pipe(timeout_total(policy.ready, "ready"))

    return stage
