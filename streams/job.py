"""THE pipeline: a job from submit to result. Its stages are in operators/job/, its verbs in operators/flow/."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import reactivex as rx
from reactivex import Observable, abc

from wakestream.operators.events import Cancelled, Job, JobEvent, Retrying
from wakestream.operators.flow.retry_backoff import Backoff, retry_backoff
from wakestream.operators.flow.then import then
from wakestream.operators.flow.timeout_total import timeout_total
from wakestream.operators.job.cancellable import cancellable
from wakestream.operators.job.dedupe import dedupe
from wakestream.operators.job.download import download
from wakestream.operators.job.fingerprint import Readings
from wakestream.operators.job.follow import follow
from wakestream.operators.job.online import online
from wakestream.operators.job.outcome import is_outcome, outcome
from wakestream.operators.job.submit import submit
from wakestream.operators.job.synthesize import synthesize
from wakestream.operators.job.upload import upload
from wakestream.operators.policy import Policy
from wakestream.operators.ports import Files, Hub, Workers


@dataclass(frozen=True, slots=True)
class World:
    """All that a job needs from outside: the hub, the workers, the files, and the seeded source of jitter."""

    hub: Hub
    workers: Workers
    files: Files
    random: Random


def job_pipeline(job: Job, world: World, policy: Policy, cancel: Observable[Any] | None = None) -> Observable[JobEvent]:
    """One job's events, ending in exactly one of `Done`, `Failed`, `TimedOut`, `Cancelled`. Cold: subscribe to run it.

    Running it again, after any end, is safe: every stage is idempotent by job id or by content hash. `cancel` stops
    the job when it emits.
    """
    hub, workers, random = world.hub, world.workers, world.random

    def stages(readings: Readings) -> Observable[JobEvent]:
        return submit(job, hub, readings, policy).pipe(
            then(online(workers, policy, random)),
            then(dedupe(workers, readings, policy, random)),
            then(upload(workers, policy, random)),
            then(synthesize(job, workers, policy, random)),
            then(follow(workers, policy, random)),
            then(download(job.output, workers, policy, random)),
        )

    return guarded(stages, job, world, policy, cancel)


def guarded(
    stages: Callable[[Readings], Observable[JobEvent]],
    job: Job,
    world: World,
    policy: Policy,
    cancel: Observable[Any] | None = None,
) -> Observable[JobEvent]:
    """What every job needs around its stages, the standard ones or yours.

    Mendable errors run the stages again after a backoff, `policy.total` bounds the whole, `cancel` stops it
    everywhere, errors become an outcome, and the hub is told at the end. The last stage ends with an outcome.
    """

    def begin(_: abc.SchedulerBase) -> Observable[JobEvent]:
        readings = Readings(job, world.files)
        whole = stages(readings).pipe(
            retry_backoff(_announced(policy.again), world.random),
            timeout_total(policy.total, "total"),
            cancellable(cancel or rx.never(), world.workers),
            outcome(),
        )
        return whole.do_action(lambda event: _release(job, world.hub, event)).finally_action(readings.dispose)

    return rx.defer(begin)


def _announced(backoff: Backoff) -> Backoff:
    return dataclasses.replace(backoff, on_retry=lambda attempt, delay, error: Retrying(attempt, delay, str(error)))


def _release(job: Job, hub: Hub, event: JobEvent) -> None:
    if is_outcome(event):
        hub.release(job, cancelled=isinstance(event, Cancelled))
