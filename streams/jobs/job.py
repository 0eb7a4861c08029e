"""What surrounds the stages of every job: retry, limits, cancel, outcome, and the release of the GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.lifecycle.cancellable import cancellable
from wakestream.operators.lifecycle.outcome import outcome
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.events import Cancelled, Job, JobEvent, Retrying, TimedOut
from wakestream.operators.model.faults import require_observable
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects, Files, Hub, Workers
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, subscribe_through
from wakestream.operators.rx.from_async import require_awaitable
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import never, throw
from wakestream.operators.rx.timeout import timeout
from wakestream.operators.stages.fingerprint import Fingerprints
from wakestream.streams.jobs.job_order import Move, Order


class Direct(Effects):
    """Runs effects without recording them.

    Example:
        >>> World(hub, workers, files, Random(7), effects=Direct())
    """

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        """See `Effects.call`."""
        return await require_awaitable(effect(), effect, label)


@dataclass(frozen=True, slots=True)
class World:
    """All that a job needs from outside.

    Attributes:
        hub: Grants the GPU.
        workers: Render.
        files: Reads the user's files.
        random: The seeded source of jitter.
        effects: Runs and records the effects of your own stages.
        retry_now: Ends a pause of the job when it emits.
        moves: Changes the place of the job among those that wait when it emits.
    """

    hub: Hub
    workers: Workers
    files: Files
    random: Random
    effects: Effects = field(default_factory=Direct)
    retry_now: Observable[Any] = field(default_factory=never)
    moves: Observable[Move | Order] = field(default_factory=never)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages of one job are made of.

    Attributes:
        job: The job.
        world: What it needs from outside.
        policy: Its times and retries.
        fingerprints: The hashes of its files.
    """

    job: Job
    world: World
    policy: Policy
    fingerprints: Fingerprints


Build = Callable[[Job, World, Policy, Observable[Any]], Observable[JobEvent]]
"""A pipeline: makes the events of a job. The last argument cancels the job when it emits."""


def guarded(
    stages: Callable[[Fingerprints], Observable[JobEvent]],
    job: Job,
    world: World,
    policy: Policy,
    cancel: Observable[Any] | None = None,
) -> Observable[JobEvent]:
    """Surround the stages of a job with what every job needs.

    A retryable error runs the stages again after a backoff, `policy.total` limits the whole, `cancel` stops the job
    here and at its workers, an error becomes an outcome, and the GPU is released at the end.

    Example:
        >>> guarded(lambda read: Stages(job, world, policy, read).standard(), job, world, policy)

    Args:
        stages: Makes the stages from the job's fingerprints. The last stage ends with an outcome.
        job: The job.
        world: What it needs from outside.
        policy: `again` says how the job is retried, `total` how long it may take.
        cancel: Cancels the job when it emits.

    Returns:
        A cold observable that ends in exactly one outcome.
    """

    def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
        fingerprints, lease = Fingerprints(job, world.files), _Lease(job, world.hub)
        whole = _made(stages, fingerprints).pipe(
            retry_backoff(_announced(policy.again), world.random),
            timeout(policy.total, "total"),
            cancellable(cancel or never(), world.workers, job.id),
            outcome(lambda event: lease.release(cancelled=isinstance(event, Cancelled | TimedOut))),
        )
        running = subscribe_through(whole, observer, scheduler)
        return CompositeDisposable(running, CompositeDisposable(fingerprints, lease))

    return LightObservable(subscribe)


def _made(stages: Callable[[Fingerprints], Observable[JobEvent]], fingerprints: Fingerprints) -> Observable[JobEvent]:
    """The stages; if the function that makes them raises, the job fails with that error."""
    try:
        return require_observable(stages(fingerprints), stages, "pipeline")
    except Exception as error:
        return throw(error)


class _Lease(DisposableBase):
    """Releases the job's GPU at the hub, once. A job that is disposed before its end is cancelled."""

    __slots__ = ("hub", "job", "released")

    def __init__(self, job: Job, hub: Hub) -> None:
        self.job, self.hub, self.released = job, hub, False

    def release(self, *, cancelled: bool) -> None:
        if not self.released:
            self.released = True
            self.hub.release(self.job, cancelled=cancelled)

    def dispose(self) -> None:
        self.release(cancelled=True)


def _announced(backoff: Backoff) -> Backoff:
    return dataclasses.replace(backoff, on_retry=lambda attempt, delay, error: Retrying(attempt, delay, str(error)))
