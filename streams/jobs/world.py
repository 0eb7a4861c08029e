"""What a job is made of: the job, what it needs from outside, and its times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.depot import Depot
from wakestream.operators.model.events import Job, JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects, Files, Hub, Workers
from wakestream.operators.rx.core.observable import LightObservable, subscribe_through
from wakestream.operators.rx.core.scheduler import clock
from wakestream.operators.rx.each import Operator
from wakestream.operators.rx.from_async import require_awaitable
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import never
from wakestream.operators.stages.fingerprint import Fingerprints
from wakestream.operators.stages.submit import Wait
from wakestream.streams.jobs.job_order import Move, Order

Events = Observable[JobEvent]
"""The type of a pipeline's result, and of each stage's."""


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
        depot: Moves files between here and the depot; None: all jobs go the direct way.
    """

    hub: Hub
    workers: Workers
    files: Files
    random: Random
    effects: Effects = field(default_factory=Direct)
    retry_now: Observable[Any] = field(default_factory=never)
    moves: Observable[Move | Order] = field(default_factory=never)
    depot: Depot | None = None


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

    def retry(self, backoff: Backoff, progress: Callable[[Any], float] | None = None) -> Operator:
        """Retry with backoff; see `retry_backoff`."""
        return retry_backoff(backoff, self.world.random, progress)


def waiting(s: Parts, make: Callable[[Wait], Events]) -> Events:
    """Begin a `Wait` at each subscription, and subscribe to what `make` makes of it."""

    def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
        wait = Wait(s.job, s.world.hub, s.fingerprints, s.policy, s.world.workers, clock(scheduler))
        return subscribe_through(make(wait), observer, scheduler)

    return LightObservable(subscribe)


Build = Callable[[Job, World, Policy, Observable[Any]], Observable[JobEvent]]
"""A pipeline: makes the events of a job. The last argument cancels the job when it emits."""
