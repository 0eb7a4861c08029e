"""The client's program: many jobs on one hub link, each a pipeline of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.events import Job, JobEvent
from wakestream.operators.flow.retry_backoff import Backoff
from wakestream.operators.policy import Policy
from wakestream.streams.effects import recorded
from wakestream.streams.event_json import kind, plain_event
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


def plain_policy(policy: Policy) -> dict[str, Any]:
    """A policy as an object, for the header of a log; of a backoff only its numbers."""
    return {"policy": {name: _plain(value) for name, value in _fields(policy).items()}}


def policy_from(config: Mapping[str, Any]) -> Policy:
    """The policy that a log was recorded under; what its header does not name is as it is today."""
    given = dict(config.get("policy", {}))
    today = Policy()
    for name in ("again", "call"):
        given[name] = dataclasses.replace(getattr(today, name), **given.get(name, {}))
    return dataclasses.replace(today, **given)


def _plain(value: Any) -> Any:
    if isinstance(value, Backoff):
        return {name: number for name, number in _fields(value).items() if not callable(number)}
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def job_random(seed: int, job: Job) -> Random:
    """The job's own source of jitter: the same for the same seed and id, whatever other jobs draw."""
    return Random(f"{seed}/{job.id}")


def plain_job(job: Job) -> dict[str, str]:
    """A job as an object of a log."""
    return {"video": str(job.video), "audio": str(job.audio), "output": str(job.output), "task_type": job.task_type}
