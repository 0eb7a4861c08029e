"""The client's program: many jobs on one hub link, each a pipeline of its own."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.events import Job, JobEvent
from wakestream.operators.policy import Policy
from wakestream.streams.effects import recorded
from wakestream.streams.event_json import kind, plain_event, plain_text
from wakestream.streams.job import World, job_pipeline
from wakestream.streams.recording import Tap, untapped

Build = Callable[[Job, World, Policy, Observable[Any]], Observable[JobEvent]]


class Daemon:
    """Runs jobs. `world(job)` is what a job sees of the world, `build` the pipeline that each goes through."""

    def __init__(
        self, world: Callable[[Job], World], policy: Policy, *, tap: Tap = untapped, build: Build = job_pipeline
    ) -> None:
        self._world = world
        self._policy = policy
        self._tap = tap
        self._build = build
        self._cancels: dict[str, Subject[None]] = {}

    def events(self, job: Job) -> Observable[JobEvent]:
        """The job's pipeline, on the record; cold, ends in exactly one outcome."""
        cancel: Subject[None] = Subject()
        self._cancels[job.id] = cancel
        self._tap.row("in", "job.accept", plain_job(job), job.id)
        pipeline = self._build(job, recorded(self._world(job), self._tap, job), self._policy, cancel)
        noted = pipeline.do_action(lambda event: self._tap.row("out", kind(event), plain_event(event), job.id))
        return noted.finally_action(lambda: self._forget(job.id))

    def cancel(self, job_id: str) -> bool:
        """Stop a running job; False when there is none of that id."""
        cancel = self._cancels.get(job_id)
        if cancel is None:
            return False
        self._tap.row("in", "job.cancel", {}, job_id)
        cancel.on_next(None)
        return True

    def _forget(self, job_id: str) -> None:
        self._cancels.pop(job_id, None)


def job_random(seed: int, job: Job) -> Random:
    """The job's own source of jitter: the same for the same seed and id, whatever other jobs draw."""
    return Random(f"{seed}/{job.id}")


def plain_job(job: Job) -> dict[str, str]:
    """A job as an object of a log."""
    files = {"video": plain_text(job.video), "audio": plain_text(job.audio), "output": plain_text(job.output)}
    return {**files, "task_type": job.task_type}
