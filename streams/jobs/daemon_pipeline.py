"""The pipeline of the daemon's jobs: waits for weeks, waits for turns, and reuses earlier results."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model import errors
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.events import Done, Granted, Job, JobEvent, Note, ResultFile, Running, Waking
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects
from wakestream.operators.rx.concat_unless import concat_unless
from wakestream.operators.rx.core.observable import LightObservable, subscribe_through
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.stages.follow import FINISHED
from wakestream.streams.jobs.effects import own
from wakestream.streams.jobs.gpu_backoff import gpu_backoff
from wakestream.streams.jobs.stages import Compose, Pipeline, Stages, job_pipeline, pipeline
from wakestream.streams.jobs.turn_stages import LaneLimits, Lanes, in_order, in_turns, wait_for_turn
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import Log

MONTH: Final = 30 * 24 * 3600.0

TEMPORARY_STAGES = frozenset({"reply", "ready"})
"""Timeouts that are caused by the hub or the worker, not by the job: the job is retried."""

TEMPORARY_REFUSALS = frozenset({
    "queue_full", "unauthorized", "forbidden", "kicked", "bad_address", "no_space", "too_fast", "expired", "no_secret",
    "unsupported",
})  # fmt: skip
"""Refusals of the hub that are not caused by the job: an operator can fix them, and the job is retried until then."""

CONFLICT: Final = "conflict"
"""The hub's refusal of a job that another license has. A job has a conflict with itself when its client has another
license than in an earlier run, until the hub gives up the job of the old one."""

NO_GPU = frozenset({"unknown_kind", "unmet"})
"""Refusals of a hub that knows no GPU that can do the job."""

OF_THE_JOB = frozenset({
    "refused", "bad_request", "wrong_input", "file_unusable", "too_large",
})  # fmt: skip
"""A worker's refusals that the job caused. Any other may pass, such as a full disk, a wrong secret, or a worker that
lost a kind or must be updated: the job waits until an operator has fixed it, and needs no GPU meanwhile."""

FULL_QUEUE: Final = "queue_full"
"""A worker's refusal that passes while it works, so the job keeps its GPU."""

LANES: Final = "lanes"
"""The key of the limits in the header of a daemon's log."""

OWN: Final = "pipeline"
"""The key of the name of the user's own pipeline there."""

ASKED: Final = "asked"
"""Says in a log that the hub was asked for the job in an earlier run."""

EARLIER: Final = "earlier"
EARLIER_ENDED: Final = "earlier_ended"
OURS = frozenset({own(EARLIER), own(EARLIER_ENDED)})
"""The labels of the effects of the daemon's pipeline in a log."""

MAX_LOST_TASKS = 5
"""How often in a row a worker may lose or damage a job's task without working on it: the GPU is on meanwhile. Also how
often the depot may lose a result."""

MAX_NO_GPU = 12
"""How often the hub is asked again, in about seven minutes, if it knows no GPU for a job that names its GPU, had one or
was asked for earlier, or if it was away: it may be new, and the GPU's monitor or worker may not be there yet."""

SELDOM: Final = Backoff(initial=30.0, max_delay=3600.0)
"""The delays between attempts of a pipeline that has no other pauses in which the GPU is released."""

DURABLE: Final = Policy(
    hub=None,
    online=MONTH,
    total=MONTH,
    again=Backoff(max_retries=None, initial=1.0, max_delay=60.0, retry_on=errors.is_retryable),
)
"""The times of a job in the outbox: it waits until hub, network and GPU are back."""


class Earlier(Protocol):
    """Finds results of earlier jobs with the same files."""

    async def find(self, job: str) -> Mapping[str, Any] | None:
        """Return what is known of the same work.

        Returns:
            `{"job", "path", "size"}` if its result was copied to the job's output, with `files` (`name`, `path` and
            `size` of each) if there are several; `{"job"}` while it is still running; else None.
        """

    async def ended(self, job: str, by: str) -> None:
        """Return when that job has ended and the job `by`, which waits for it, has to look again."""


def durable_pipeline(shared: Lanes, earlier: Earlier, compose: Compose = Stages.standard) -> Build:
    """Make the pipeline of the daemon's jobs: look for an `earlier` result, else run the stages in turns.

    Args:
        shared: The limiters that all jobs share.
        earlier: Finds earlier results.
        compose: Chains the stages.
    """

    @pipeline
    def stages(s: Stages) -> Observable[JobEvent]:
        args = {"priority": shared.priority(s.job.id)} | ({ASKED: True} if shared.asked(s.job.id) else {})
        before = from_async(lambda: _before(s.job, s.world.effects, earlier, args), f"earlier results for {s.job.id}")
        pauses = gpu_backoff(s.job, s.world, _is_no_progress, shared.starts)
        whole = _Whole(s, shared, compose)
        begins = wait_for_turn(s.job, shared, shared.running, "to begin", whole.release, whole.gives_way)
        return before.pipe(concat_unless(_is_done, whole.pipe(begins, pauses)))

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        events = stages(job, world, dataclasses.replace(policy, again=_durable(policy.again, job, shared)), cancel)
        return in_order(job, shared, world.moves, world.hub, events)

    return build


def own_pipeline(shared: Lanes, build: Build) -> Build:
    """Make the user's own pipeline as durable as the daemon's.

    It runs all of its stages for each job, also if the same work was done before. If it was not made by `@pipeline`, it
    waits for no turns, and its retries have longer delays because it has no other pauses.

    Args:
        shared: The limiters that all jobs share.
        build: The user's pipeline.
    """
    if isinstance(build, Pipeline):
        return durable_pipeline(shared, _Nothing(), build.composed)

    def durable(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        again = dataclasses.replace(policy.again, initial=SELDOM.initial, max_delay=SELDOM.max_delay)
        return build(job, world, dataclasses.replace(policy, again=_durable(again, job, shared)), cancel)

    return durable


def pipeline_of(log: Log, build: Build) -> Build:
    """The pipeline for the jobs of a log: `build`, or what a daemon makes of it."""
    config = log.header.config
    standard = build is job_pipeline
    if LANES not in config or not (standard or OWN in config):
        return build
    asked = [row for row in log.rows if row.dir == "effect" and row.label == own(EARLIER)]
    priorities = {str(row.job): int(row.data.get("args", {}).get("priority", 0)) for row in asked}
    earlier = {str(row.job) for row in asked if row.data.get("args", {}).get(ASKED)}
    shared = Lanes(
        config_from(LaneLimits(), config[LANES]), lambda job: priorities.get(job, 0), lambda job: job in earlier
    )
    return durable_pipeline(shared, _Nothing()) if standard else own_pipeline(shared, build)


def own_effects(log: Log) -> tuple[str, ...]:
    """The labels of the effects in a client's log that a pipeline of the user's own had."""
    labels = dict.fromkeys(row.label for row in log.rows if row.dir == "effect" and row.label not in OURS)
    return tuple(label.removeprefix(own("")) for label in labels if label.startswith(own("")))


class _Whole(LightObservable[JobEvent]):
    """All stages of a job. They are made when it first begins: the jobs that wait for that hold none."""

    __slots__ = ("compose", "granted", "made", "shared", "stages")

    def __init__(self, stages: Stages, shared: Lanes, compose: Compose) -> None:
        super().__init__(self._run)
        self.stages, self.shared, self.compose = stages, shared, compose
        self.made: Observable[JobEvent] | None = None
        self.granted = False

    def _run(self, observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None) -> DisposableBase:
        if self.made is None:
            self.made = in_turns(self.stages, self.shared, self.compose).do_action(self.note)
        return subscribe_through(self.made, observer, scheduler)

    def note(self, event: JobEvent) -> None:
        self.granted = self.granted or isinstance(event, Granted)

    def release(self, _: int) -> None:
        """Release the GPU when it must wait again: the jobs whose turn it is wait for that one."""
        if self.granted:
            self.granted = False
            self.stages.world.hub.release(self.stages.job)

    def gives_way(self) -> bool:
        """Whether the job waits for a GPU. It asks for none until its turn comes again, so no GPU is kept on for it."""
        if self.stages.job.id not in self.shared.asking:
            return False
        self.stages.world.hub.release(self.stages.job)
        return True


def _is_done(event: JobEvent) -> bool:
    return isinstance(event, Done)


class _Nothing(Earlier):
    """Finds nothing. In a replay, the log answers."""

    async def find(self, job: str) -> Mapping[str, Any] | None:
        return None

    async def ended(self, job: str, by: str) -> None:
        """At once."""


async def _before(job: Job, effects: Effects, earlier: Earlier, args: Mapping[str, Any]) -> AsyncIterator[JobEvent]:
    """Ends with `Done` if there was a result to reuse."""
    while (result := await effects.call(EARLIER, args, lambda: earlier.find(job.id))) is not None:
        same = str(result["job"])
        if "path" in result:
            if same == job.id:
                yield Note("the result was downloaded before the program ended")
            else:
                yield Note(f"the same work was done before, as job {same}: its result is used", {"same_as": same})
            for note in result.get("notes", ()):
                yield Note(note)
            more = result.get("files", ())
            files = tuple(ResultFile(file["name"], Path(file["path"]), file["size"]) for file in more)
            yield Done(Path(result["path"]), int(result["size"]), files)
            return
        yield Note(f"the same work is running as job {same}: its result will be used", {"same_as": same})
        await effects.call(EARLIER_ENDED, {"job": same}, lambda: earlier.ended(same, job.id))  # noqa: B023 - awaited here


def _is_no_progress(error: Exception) -> bool:
    return getattr(error, "code", "") != FULL_QUEUE and (errors.is_retryable(error) or _may_pass(error))


def _may_pass(error: Exception) -> bool:
    """Whether neither the job nor the hub caused this error."""
    match error:
        case errors.WorkerRefused():
            return error.code not in OF_THE_JOB
        case errors.StageTimeout():
            return error.stage in TEMPORARY_STAGES
    return isinstance(error, errors.NoSpace)


def _durable(again: Backoff, job: Job, shared: Lanes) -> Backoff:
    """`again`, but also after errors that the job did not cause. Made for each job, because it counts lost tasks."""
    rules = _RetryRules(again, asked=shared.asked(job.id), named=bool(job.gpus))
    return dataclasses.replace(again, retry_on=rules.is_retryable, reset_on_success=rules.is_success)


class _RetryRules:
    """Which errors one job is retried after. `asked`: by an earlier run; `named`: it names its GPU."""

    def __init__(self, again: Backoff, *, asked: bool, named: bool) -> None:
        self.again, self.asked = again, asked
        # How often the hub is asked again that knows no GPU for the job.
        self.asks = MAX_NO_GPU if asked or named else 0
        self.lost = 0

    def is_retryable(self, error: Exception) -> bool:
        if isinstance(error, errors.BootFailed):
            return True
        gone = isinstance(error, errors.TaskFailed) and error.code == d.LOST
        damaged = isinstance(error, errors.Corrupt) and error.code == errors.DAMAGED
        if gone or damaged or isinstance(error, errors.TaskLost):
            self.lost += 1
            return self.lost < MAX_LOST_TASKS and (gone or self.again.retry_on(error))
        if isinstance(error, errors.HubRefused):
            self.asks -= error.code in NO_GPU
            passes = error.code in TEMPORARY_REFUSALS or (error.code == CONFLICT and self.asked)
            return passes or (error.code in NO_GPU and self.asks >= 0)
        return _may_pass(error) or self.again.retry_on(error)

    def is_success(self, event: JobEvent) -> bool:
        if isinstance(event, Note) and "rests" in event.data:
            return True  # the pause is over: the next attempt follows
        if isinstance(event, Running) and event.status not in FINISHED:  # the worker works on the task
            self.lost = 0
        if isinstance(event, Granted) or (isinstance(event, Waking) and event.phase == "hub_lost"):
            self.asks = MAX_NO_GPU
        return self.again.reset_on_success is not None and self.again.reset_on_success(event)
