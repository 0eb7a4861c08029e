"""The client's program: many jobs on one hub link, each a pipeline of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

from reactivex import Observable, abc

from wakestream.operators.lifecycle.outcome import outcome_of
from wakestream.operators.model.events import Failed, Job, JobEvent
from wakestream.operators.model.faults import require_observable
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable, subscribe_through
from wakestream.operators.rx.sources import of
from wakestream.streams.jobs.effects import recorded
from wakestream.streams.jobs.job import Build, World
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.recording.event_json import plain_event, plain_text
from wakestream.streams.recording.recording import Tap, untapped

RETRY_NOW = "job.retry_now"
"""The row of a log that says that somebody wanted a job to be tried at once."""


class Daemon:
    """Runs jobs. `world(job)` is what a job sees of the world, `build` the pipeline that each goes through."""

    def __init__(
        self, world: Callable[[Job], World], policy: Policy, *, tap: Tap = untapped, build: Build = job_pipeline
    ) -> None:
        self._world = world
        self._policy = policy
        self._tap = tap
        self._build = build
        self._cancels: KeyedSubject[None] = KeyedSubject(_fault)
        self._retries: KeyedSubject[None] = KeyedSubject(_fault)

    def events(self, job: Job) -> Observable[JobEvent]:
        """The job's pipeline, on the record; cold, ends in exactly one outcome.

        While a job of its id runs, that is `Failed` with code `already_running`, and the running one is not disturbed.
        """

        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            if self._cancels.reaches(job.id):  # one lease and one place in the log: two could not be told apart
                return subscribe_through(of(_already_running(job)), observer, scheduler)
            self._tap.row("in", "job.accept", plain_job(job), job.id)
            world = dataclasses.replace(self._world(job), retry_now=self._retries.by_key(job.id))
            seen = recorded(world, self._tap, job)
            pipeline = self._built(job, seen)
            return pipeline.subscribe(_Noted(observer, self._tap, job.id), scheduler=scheduler)

        return LightObservable(subscribe)

    def _built(self, job: Job, seen: World) -> Observable[JobEvent]:
        try:
            made = self._build(job, seen, self._policy, self._cancels.by_key(job.id))
            return require_observable(made, self._build, "pipeline")
        except Exception as error:  # a pipeline that cannot be put together is a job that failed
            return of(outcome_of(error))

    def cancel(self, job_id: str) -> bool:
        """Stop a running job; False when there is none of that id."""
        if not self._cancels.reaches(job_id):
            return False
        self._tap.row("in", "job.cancel", {}, job_id)
        self._cancels.feed(None, job_id)
        return True

    def retry_now(self, job_id: str) -> bool:
        """Try a job that pauses at once; False when there is none of that id, or it does not pause."""
        if not self._retries.reaches(job_id):
            return False
        self._tap.row("in", RETRY_NOW, {}, job_id)
        self._retries.feed(None, job_id)
        return True


def _already_running(job: Job) -> JobEvent:
    why = f"job {job.id} is already running; wait for its end, or run this one under an id of its own"
    return Failed(why, "already_running")


class _Noted(ForwardingObserver[JobEvent]):
    """Puts a job's events on the record as they pass."""

    __slots__ = ("job", "tap")

    def __init__(self, observer: abc.ObserverBase[JobEvent], tap: Tap, job: str) -> None:
        super().__init__(observer)
        self.tap, self.job = tap, job

    def on_next(self, value: JobEvent) -> None:
        if self.tap is not untapped:
            plain = plain_event(value)
            self.tap.row("out", plain["event"], plain, self.job)
        self.observer.on_next(value)


def _fault(error: Exception, _: None) -> None:
    raise error


def job_random(seed: int, job: Job) -> Random:
    """The job's own source of jitter: the same for the same seed and id, whatever other jobs draw."""
    return Random(f"{seed}/{job.id}")


def plain_job(job: Job) -> dict[str, str]:
    """A job as an object of a log."""
    files = {"video": plain_text(job.video), "audio": plain_text(job.audio), "output": plain_text(job.output)}
    return {**files, "task_type": job.task_type}
