"""The pipeline of a job in the daemon, the standard one or the user's: endless patience, turns, and a look back."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from reactivex import Observable

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import (
    DAMAGED,
    BootFailed,
    Corrupt,
    HubRefused,
    StageTimeout,
    TaskLost,
    WorkerRefused,
    is_retryable,
)
from wakestream.operators.model.events import Done, Job, JobEvent, Note, Running
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects
from wakestream.operators.rx.concat_unless import concat_unless
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.stages.follow import FINISHED
from wakestream.streams.jobs.effects import own
from wakestream.streams.jobs.gpu_backoff import gpu_backoff
from wakestream.streams.jobs.job import Build, World
from wakestream.streams.jobs.stages import Compose, Pipeline, Stages, job_pipeline, pipeline
from wakestream.streams.jobs.turn_stages import LaneLimits, Lanes, in_turns, lanes, turn
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import Log

MONTH: Final = 30 * 24 * 3600.0

PASSING_STAGES = frozenset({"reply", "ready"})
"""Waits whose end says that the hub or the worker is unwell, not the job."""

PASSING_REFUSALS = frozenset({
    "queue_full", "unauthorized", "forbidden", "kicked", "bad_address", "no_space", "too_fast",
})  # fmt: skip
"""Refusals of the hub that are not about the job: somebody will mend them, and the job waits for that."""

FULL_DISK: Final = "no_space"
"""A worker's refusal that somebody will mend as well; until then its GPU has nothing to do for this job."""

LANES: Final = "lanes"
"""Where the header of a daemon's log has its limits."""

OWN: Final = "pipeline"
"""Where it has the name of the pipeline of the user's own that its jobs went through."""

EARLIER: Final = "earlier"
EARLIER_ENDED: Final = "earlier_ended"
OURS = frozenset({own(EARLIER), own(EARLIER_ENDED)})
"""Effects of the daemon's own pipeline, as rows of a log name them."""

MAX_LOST_TASKS = 5
"""How often in a row a worker may lose or damage what one job has there, without working on it: the GPU is on."""

SELDOM: Final = Backoff(initial=30.0, max_delay=3600.0)
"""How long a pipeline waits between its tries, where nothing else lets the GPU go meanwhile."""

DURABLE: Final = Policy(
    hub=None,
    online=MONTH,
    total=MONTH,
    again=Backoff(max_retries=None, initial=1.0, max_delay=60.0, retry_on=is_retryable),
)
"""How long a job in the outbox waits: until hub, network and GPU are back."""


class Earlier(Protocol):
    """What was done before."""

    async def find(self, job: str) -> Mapping[str, Any] | None:
        """What is known of the same work: `{"job","path","size"}` when its result could be taken (it then lies at the
        job's output), `{"job"}` alone while it is under way, None when there is nothing to be had."""
        ...

    async def ended(self, job: str) -> None:
        """Returns when that job has ended."""
        ...


def durable_pipeline(shared: Lanes, earlier: Earlier, compose: Compose = Stages.standard) -> Build:
    """The pipeline of the daemon's jobs: what `compose` makes of the stages, in turns, after a look at what was done
    `earlier`."""

    @pipeline
    def stages(s: Stages) -> Observable[JobEvent]:
        asked = {"priority": shared.priority(s.job.id)}
        before = from_async(lambda: _before(s.job, s.world.effects, earlier, asked), f"look back for {s.job.id}")
        let_go = gpu_backoff(s.job, s.world, _is_no_progress, shared.starts)
        whole = in_turns(s, shared, compose)
        return before.pipe(concat_unless(_is_done, whole.pipe(turn(s.job, shared, shared.running, "to begin"), let_go)))

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        return stages(job, world, dataclasses.replace(policy, again=_patient(policy.again)), cancel)

    return build


def own_pipeline(shared: Lanes, build: Build) -> Build:
    """A pipeline of the user's own, as durable as the daemon's.

    All of its stages are gone through for each job, whatever was done earlier. Where it was not made by `@pipeline`,
    only its patience is the daemon's: it waits for no turn, and tries again more seldom as nothing else makes it pause.
    """
    if isinstance(build, Pipeline):
        return durable_pipeline(shared, _Nothing(), build.composed)

    def patient(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        again = dataclasses.replace(policy.again, initial=SELDOM.initial, max_delay=SELDOM.max_delay)
        return build(job, world, dataclasses.replace(policy, again=_patient(again)), cancel)

    return patient


def pipeline_of(log: Log, build: Build) -> Build:
    """What the jobs of a log go through again: `build`, or what a daemon made of it."""
    config = log.header.config
    standard = build is job_pipeline
    if LANES not in config or not (standard or OWN in config):
        return build
    asked = (row for row in log.rows if row.dir == "effect" and row.label == own(EARLIER))
    priorities = {str(row.job): int(row.data.get("args", {}).get("priority", 0)) for row in asked}
    shared = lanes(config_from(LaneLimits(), config[LANES]), lambda job: priorities.get(job, 0))
    return durable_pipeline(shared, _Nothing()) if standard else own_pipeline(shared, build)


def own_effects(log: Log) -> tuple[str, ...]:
    """The labels of what a client's jobs did beside the stages: a pipeline of the user's own had these effects."""
    labels = dict.fromkeys(row.label for row in log.rows if row.dir == "effect" and row.label not in OURS)
    return tuple(label.removeprefix(own("")) for label in labels if label.startswith(own("")))


class _Nothing(Earlier):
    """There was nothing; in a replay the log answers."""

    async def find(self, job: str) -> Mapping[str, Any] | None:
        return None

    async def ended(self, job: str) -> None:
        """At once."""


async def _before(job: Job, effects: Effects, earlier: Earlier, asked: Mapping[str, Any]) -> AsyncIterator[JobEvent]:
    """Ends with `Done` when the result was to be had without any work."""
    while (found := await effects.call(EARLIER, asked, lambda: earlier.find(job.id))) is not None:
        same = str(found["job"])
        if "path" in found:
            if same == job.id:
                yield Note("the result was brought home before the program ended")
            else:
                yield Note(f"the same work was done before, as job {same}: its result is taken", {"same_as": same})
            yield Done(Path(found["path"]), int(found["size"]))
            return
        yield Note(f"the same work is under way as job {same}: its result will be taken", {"same_as": same})
        await effects.call(EARLIER_ENDED, {"job": same}, lambda: earlier.ended(same))  # noqa: B023 - awaited here


def _is_done(event: JobEvent) -> bool:
    return isinstance(event, Done)


def _is_no_progress(error: Exception) -> bool:
    return is_retryable(error) or _waits_passed(error) or (isinstance(error, WorkerRefused) and error.code == FULL_DISK)


def _waits_passed(error: Exception) -> bool:
    return isinstance(error, StageTimeout) and error.stage in PASSING_STAGES


def _patient(again: Backoff) -> Backoff:
    """`again`, and also after what is no fault of the job's; made anew for each job, as it counts what is in vain."""
    patience = _RetryRules(again)
    return dataclasses.replace(again, retry_on=patience.passes, reset_on_success=patience.succeeds)


class _RetryRules:
    """What one job is begun again after."""

    def __init__(self, again: Backoff) -> None:
        self.again = again
        self.vain = 0

    def passes(self, error: Exception) -> bool:
        if isinstance(error, BootFailed):
            return True
        if isinstance(error, TaskLost) or (isinstance(error, Corrupt) and error.code == DAMAGED):
            self.vain += 1
            return self.vain < MAX_LOST_TASKS and self.again.retry_on(error)
        return self._passing(error) or self.again.retry_on(error)

    def _passing(self, error: Exception) -> bool:
        match error:
            case HubRefused():
                return error.code in PASSING_REFUSALS
            case WorkerRefused():
                return error.code in ("queue_full", FULL_DISK)
        return _waits_passed(error)

    def succeeds(self, event: JobEvent) -> bool:
        if isinstance(event, Note) and "rests" in event.data:
            return True  # that was the pause: the next try comes right after it
        if isinstance(event, Running) and event.status not in FINISHED:  # there is work, which may be interrupted
            self.vain = 0
        return self.again.reset_on_success is not None and self.again.reset_on_success(event)
