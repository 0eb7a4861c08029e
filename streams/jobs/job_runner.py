"""Runs many jobs on one hub connection, each in a pipeline of its own, and records them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar, cast

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.lifecycle.outcome import outcome_of
from wakestream.operators.model.events import Failed, Job, JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.user_code import require_observable, wrong_pipeline
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable, subscribe_through
from wakestream.operators.rx.sources import of
from wakestream.streams.jobs.effects import recorded
from wakestream.streams.jobs.job_order import Move, Order
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.recording.event_json import plain_event, plain_job
from wakestream.streams.recording.recording import Tap, untapped

T = TypeVar("T")

RETRY_NOW = "job.retry_now"
"""The label of the row for a request to retry a job at once."""

MOVE = "job.move"
"""The label of the row for a job that the user moved among those that wait."""

ORDER = "job.order"
"""The label of the row for the order of all jobs."""


class Daemon:
    """Runs jobs.

    Example:
        >>> Daemon(lambda job: world, Policy()).events(job).subscribe(print, scheduler=LoopScheduler())

    Args:
        world: Makes the world of a job.
        policy: The times and retries of all jobs.
        tap: Where the jobs are recorded.
        build: The pipeline of each job.
    """

    def __init__(
        self, world: Callable[[Job], World], policy: Policy, *, tap: Tap = untapped, build: Build = job_pipeline
    ) -> None:
        self._world = world
        self._policy = policy
        self._tap = tap
        self._build = build
        self._cancels: KeyedSubject[None] = KeyedSubject(_fault)
        self._retries: KeyedSubject[None] = KeyedSubject(_fault)
        self._moves: KeyedSubject[Move | Order] = KeyedSubject(_fault)

    def events(self, job: Job) -> Observable[JobEvent]:
        """Run a job and record it.

        Args:
            job: The job.

        Returns:
            A cold observable that ends in exactly one outcome: `Failed` with code `already_running` while a job with
            the same id runs.
        """

        def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
            if self._cancels.reaches(job.id):  # they would share a lease and the rows of the log
                why = f"job {job.id} is already running; wait for its end, or use another id"
                return subscribe_through(of(Failed(why, "already_running")), observer, scheduler)
            self._tap.row("in", "job.accept", plain_job(job), job.id)
            world = dataclasses.replace(
                self._world(job), retry_now=self._retries.by_key(job.id), moves=self._moves.by_key(job.id)
            )
            seen = recorded(world, self._tap, job)
            pipeline = self._built(job, seen)
            return pipeline.subscribe(_Noted(observer, self._tap, job.id), scheduler=scheduler)

        return LightObservable(subscribe)

    def _built(self, job: Job, seen: World) -> Observable[JobEvent]:
        try:
            made = self._build(job, seen, self._policy, self._cancels.by_key(job.id))
            return require_observable(made, self._build, "pipeline")
        except Exception as error:  # raised by the function that makes the pipeline
            return of(outcome_of(wrong_pipeline(self._build, error)))

    def cancel(self, job_id: str) -> bool:
        """Cancel a running job. Returns False if no job with that id runs."""
        return self._request(self._cancels, "job.cancel", job_id, None)

    def retry_now(self, job_id: str) -> bool:
        """End the pause of a job. Returns False if no job with that id pauses."""
        return self._request(self._retries, RETRY_NOW, job_id, None)

    def move(self, job_id: str, before: str, priority: int) -> bool:
        """Move a job among those that wait, see `Move`. Returns False if no job with that id can be moved."""
        move = Move(before, priority)
        return self._request(self._moves, MOVE, job_id, move, move._asdict())

    def arrange(self, order: Order) -> bool:
        """Set the order of all jobs. Returns False if none of them can be moved."""
        last = next((job for job in reversed(order.jobs) if self._moves.reaches(job)), "")
        # Texts, since secrets are looked for in each of a row's.
        row = {"jobs": " ".join(order.jobs), "priorities": " ".join(map(str, order.priorities))}
        return self._request(self._moves, ORDER, last, order, row)

    def _request(
        self, jobs: KeyedSubject[T], label: str, job_id: str, item: T, row: Mapping[str, Any] | None = None
    ) -> bool:
        reached = jobs.reaches(job_id)
        if reached:
            self._tap.row("in", label, row or {}, job_id)
            jobs.feed(item, job_id)
        return reached


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class _Noted(ForwardingObserver[JobEvent]):
    """Records a job's events."""

    tap: Tap
    job: str

    def on_next(self, value: JobEvent) -> None:
        if self.tap is not untapped:
            plain = plain_event(value)
            self.tap.row("out", plain["event"], plain, self.job)
        self.observer.on_next(value)


def _fault(error: Exception, _: object) -> None:
    raise error


def job_random(seed: int, job: Job) -> Random:
    """Make the job's own source of jitter. It depends on the seed and the id only, not on other jobs.

    Example:
        >>> job_random(7, job).random() == job_random(7, job).random()
        True

    Args:
        seed: The program's seed.
        job: The job.

    Returns:
        A source of random numbers.
    """
    return cast("Random", _LateRandom(f"{seed}/{job.id}"))


class _LateRandom:
    """A `Random` that is made at its first use: it takes 3 kB, and most jobs need none."""

    __slots__ = ("made", "seed")

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.made: Random | None = None

    def __getattr__(self, name: str) -> Any:
        self.made = self.made or Random(self.seed)
        return getattr(self.made, name)
