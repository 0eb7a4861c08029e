"""The stages of a job, the standard pipeline made of them, and pipelines of your own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import update_wrapper
from pathlib import Path
from typing import Any, TypeVar

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.errors import DAMAGED
from wakestream.operators.model.events import (
    Algorithm,
    Cancelled,
    Checked,
    Delivered,
    Done,
    Failed,
    Fingerprint,
    Granted,
    Job,
    JobEvent,
    Queued,
    Rendered,
    TimedOut,
)
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Files, Hub, Output, TaskReport
from wakestream.operators.model.user_code import require_observable
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, subscribe_through
from wakestream.operators.rx.each import Operator, Stage
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import concat, never, throw
from wakestream.operators.rx.then import then
from wakestream.operators.stages.effect import effect
from wakestream.operators.stages.fingerprint import Fingerprints
from wakestream.operators.stages.note import note
from wakestream.streams.jobs.standard import Steps, standard, steps, submit, whole
from wakestream.streams.jobs.world import Build, Events, Parts, World
from wakestream.streams.protocol.depot_messages import MOST_FILES
from wakestream.streams.recording.secrets import REDACTED

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobStage:
    """One stage of a job: a function from the last event of the stage before it to its own events.

    It is made when it begins, so a job that waits holds none.
    """

    stages: Stages
    name: str
    around: Operator | None = None

    def __call__(self, before: Any) -> Events:
        """Return the events of the stage, after `before`."""
        made = self.stages.made
        if not made:
            made.append(steps(self.stages))
        stage: Stage[JobEvent] = getattr(made[0], self.name)
        if self.around is not None:
            stage = replace(stage, around=self.around)
        return self.stages.begin(self.name, stage, before)

    def each(self, *operators: Operator) -> JobStage:
        """Return this stage with other operators around each of its calls.

        Example:
            >>> then(stages.online, stages.dedupe, stages.upload.each(timeout(5.0, "transfer")))

        Args:
            operators: From the inside outwards, as in `pipe`.
        """
        return replace(self, around=lambda source: source.pipe(*operators))


@dataclass(frozen=True, slots=True)
class Stages(Parts):
    """The stages of one job, for use in a pipeline of your own.

    Each stage but `submit` takes the last event of the stage before it: list them in `then`, together with your own
    functions from an event to an observable of events. Around each of their calls are the operators of the standard
    pipeline (`steps`); `stages.upload.each(…)` is the same stage with others.

    Example:
        >>> stages.submit().pipe(then(stages.online, stages.dedupe, stages.upload, my_stage))
    """

    made: list[Steps] = field(default_factory=list, init=False, repr=False, compare=False)
    """The steps, once the first of them has begun."""

    def with_policy(self, policy: Policy) -> Stages:
        """Return the same stages with another policy.

        Example:
            >>> stages.with_policy(replace(stages.policy, poll_every=0.2)).follow

        Args:
            policy: The policy.
        """
        return replace(self, policy=policy)

    def standard(self) -> Events:
        """Run all stages in order, from `submit` to `download` or `fetch`; ends with `Done`."""
        return standard(self)

    def submit(self, depot: Callable[[Any], Events] | None = None) -> Events:
        """Ask the hub for a GPU and wait for it; ends with `Granted`.

        Args:
            depot: What is done with the files meanwhile: `stages.depot`, whose end `Stored` then ends the wait, too.
                An earlier run may have stored them, or even have the results there (`Delivered`). None, or no depot,
                or a job that cannot go that way: `Granted` only.
        """
        if self.world.depot is None:
            return submit(self)
        if depot is not None and may_be_stored(self.job):
            return submit(self, depot)
        said: list[JobEvent] = []

        def withdraw(event: JobEvent) -> None:
            if isinstance(event, Queued) and not said:  # else the hub waits for an offer of the files
                said.append(event)
                self.world.hub.depot(self.job, "withdraw")

        return submit(self).do_action(withdraw)

    @property
    def online(self) -> JobStage:
        """Wait until the worker is ready; from `Granted` to `Online`."""
        return JobStage(self, "online")

    @property
    def dedupe(self) -> JobStage:
        """Hash the files and ask the worker which it has; from `Online` to `Checked`."""
        return JobStage(self, "dedupe")

    @property
    def upload(self) -> JobStage:
        """Send the files that the worker does not have; from `Checked` to `Uploaded`."""
        return JobStage(self, "upload")

    @property
    def synthesize(self) -> JobStage:
        """Start the task; from `Uploaded` to `Submitted`."""
        return JobStage(self, "synthesize")

    @property
    def follow(self) -> JobStage:
        """Poll until it is rendered; from `Submitted` to `Rendered`."""
        return JobStage(self, "follow")

    @property
    def download(self) -> JobStage:
        """Download the results to `job.outputs`; from `Rendered` to `Done`."""
        return JobStage(self, "download")

    @property
    def depot(self) -> JobStage:
        """Put the files into the depot during `submit`; from `Fingerprinted` to `Stored`."""
        return JobStage(self, "depot")

    @property
    def delivered(self) -> JobStage:
        """Watch what the hub does with a stored job; from `Stored` to `Delivered`.

        It ends with `Granted` if the files must go the direct way after all.
        """
        return JobStage(self, "delivered")

    @property
    def fetch(self) -> JobStage:
        """Download the results from the depot to `job.outputs`; from `Delivered` to `Done`."""
        return JobStage(self, "fetch")

    def begin(self, name: str, stage: Stage[JobEvent], before: Any) -> Events:
        """Begin a stage; the daemon's jobs wait for their turn first."""
        return stage(before)

    def then_job(
        self, make: Callable[[Job], Job], rest: Callable[[Stages], Callable[[Rendered], Events]] | None = None
    ) -> Callable[[Rendered], Events]:
        """Run another job with the results of this one, at the same worker and under the same GPU grant.

        Results that are at the worker are not downloaded and sent again; if the worker does not have one any more, it
        is downloaded and sent. When the pipeline is repeated, the worker still has the results of the earlier jobs.

        Example:
            >>> speak = lambda job: Job(job.id, {"video": clip, "audio": job.outputs["audio"]}, {"video": film})
            >>> stages.submit().pipe(
            ...     then(stages.online, stages.dedupe, stages.upload, stages.synthesize, stages.follow,
            ...          stages.then_job(speak))
            ... )

        Args:
            make: Makes the next job from this one. Inputs that are paths of this job's outputs are its results.
            rest: What follows when the next job is rendered, from its stages; by default `download`. For a third job:
                `lambda stages: stages.then_job(make_third)`.

        Returns:
            The stage from `Rendered` to the end of `rest`, by default `Done` of the next job. It may raise what the
            stages raise.
        """
        return lambda rendered: _next_job(self, rendered, make(self.job), rest or (lambda stages: stages.download))

    def effect(self, label: str, args: Mapping[str, Any], do: Callable[[], Awaitable[T]]) -> Observable[T]:
        """Run an effect of your own: it is recorded, and retried as `policy.call` says.

        Example:
            >>> stages.effect("file", {"path": str(path)}, lambda: write(path)).map(lambda _: done)

        Args:
            label: The name of the effect.
            args: What it does, as JSON without secrets.
            do: The function that does it; its result must be JSON without secrets.

        Returns:
            A cold observable of what `do()` returns.
        """
        called = effect(label, args, do, self.world.effects)
        return called.pipe(retry_backoff(self.policy.call, self.world.random))


def may_be_stored(job: Job) -> bool:
    """Whether a job may go by way of the depot: it has few files, with usual endings, and no secret parameter."""
    usual = all(re.fullmatch(r"(?:\.[a-z0-9]{1,10})?", path.suffix.lower()) for path in job.inputs.values())
    hidden = (isinstance(value, str) and value.startswith(REDACTED) for value in job.params.values())
    return usual and len(job.inputs) <= MOST_FILES and not any(hidden)


def _next_job(
    stages: Stages, rendered: Rendered, job: Job, rest: Callable[[Stages], Callable[[Rendered], Events]]
) -> Events:
    """The stages of a job whose inputs are results of the job of `stages`; see `Stages.then_job`."""
    job, online = replace(job, id=stages.job.id), rendered.task.worker
    worker = stages.world.workers.at(online.url)
    asked = from_async(lambda: worker.report(rendered.task.task_id), "report")
    paths = stages.job.outputs
    used = [path for path in paths.values() if path in job.inputs.values()]

    def of_files(files: Files) -> Stages:
        return replace(stages, job=job, world=replace(stages.world, files=files), fingerprints=Fingerprints(job, files))

    def work(following: Stages, checked: Checked) -> Events:
        upload = following.upload(checked)
        return upload.pipe(then(following.synthesize, following.follow, rest(following)))

    def by_way_of_here() -> Events:
        """Download the results, and send what the worker does not have."""
        following = of_files(stages.world.files)
        progress = stages.download(rendered).filter(lambda event: not isinstance(event, Done))
        checked = rx.defer(lambda _: following.dedupe(online).pipe(then(lambda checked: work(following, checked))))
        return concat(progress, checked).finally_action(following.fingerprints.dispose)

    def begin(report: TaskReport) -> Events:
        made = {paths[output.name]: output for output in report.outputs if output.name in paths}
        if "blake3" not in online.features or any(path not in made for path in used):
            return by_way_of_here()
        following = of_files(ResultFiles(stages.world.files, made))

        def checked(checked: Checked) -> Events:
            gone = any(file.path in made for file in checked.missing)
            return by_way_of_here() if gone else work(following, checked)

        return following.dedupe(online).pipe(then(checked)).finally_action(following.fingerprints.dispose)

    known = asked.pipe(retry_backoff(stages.policy.call, stages.world.random), ops.flat_map(begin))
    return concat(note(f"the next job is {job.kind}"), known)


class ResultFiles(Files):
    """The user's files, and results that are still at the worker, which has their hashes."""

    def __init__(self, files: Files, made: Mapping[Path, Output]) -> None:
        self._files, self._made = files, made

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """See `Files.fingerprint`. The hash of a result is BLAKE3 only."""
        made = self._made.get(path)
        if made is None:
            return await self._files.fingerprint(path, algorithms)
        return Fingerprint(path, made.size, 0, {"blake3": made.blake3})


def job_pipeline(job: Job, world: World, policy: Policy, cancel: Observable[Any] | None = None) -> Events:
    """The standard pipeline: one job's events, ending in exactly one of `Done`, `Failed`, `TimedOut`, `Cancelled`.

    Subscribe to run it. Running it again, after any end, is safe: every stage is idempotent by job id or by content
    hash.

    Example:
        >>> job_pipeline(job, world, Policy()).subscribe(print, scheduler=LoopScheduler())

    Args:
        job: The job.
        world: What it needs from outside.
        policy: How long it waits and how often it tries.
        cancel: Cancels the job when it emits.

    Returns:
        A cold observable. It does not fail: an error is an outcome.
    """
    return guarded(lambda read: Stages(job, world, policy, read).standard(), job, world, policy, cancel)


Compose = Callable[[Stages], Events]


class Pipeline:
    """A pipeline made of a function that chains a job's stages: see `pipeline`."""

    def __init__(self, compose: Compose) -> None:
        update_wrapper(self, compose)
        self._compose = compose

    def __call__(self, job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Events:
        """Return the job's events, see `Build`."""
        return guarded(lambda read: self.composed(Stages(job, world, policy, read)), job, world, policy, cancel)

    def composed(self, stages: Stages) -> Events:
        """Return what the function makes of the stages."""
        return require_observable(self._compose(stages), self._compose, "pipeline")


def pipeline(stages: Compose) -> Build:
    """Make a pipeline from a function that chains a job's stages; usually as a decorator.

    The stages are surrounded by what `guarded` gives every job: retries, limit, cancel, outcome, release of the GPU.

    Example:
        >>> @pipeline
        ... def mine(stages: Stages) -> Events:
        ...     return stages.submit().pipe(then(stages.online, lambda _: of(Done(stages.job.output, 0))))

    Args:
        stages: The function. Its last event must be an outcome (`download` ends with `Done`).

    Returns:
        A pipeline, for `run_job` and `Client`.
    """
    return Pipeline(stages)


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
        try:
            attempt = require_observable(stages(fingerprints), stages, "pipeline")
        except Exception as error:  # raised by the function that makes the stages
            attempt = throw(error)
        if world.depot is not None:
            attempt = attempt.do_action(lease.see)
        parts = Parts(job, world, policy, fingerprints)
        running = subscribe_through(whole(parts, attempt, cancel or never(), lease.end), observer, scheduler)
        return CompositeDisposable(running, CompositeDisposable(fingerprints, lease))

    return LightObservable(subscribe)


class _Lease(DisposableBase):
    """Releases the job's GPU at the hub, once. A job that is disposed before its end is cancelled.

    Results that are in the depot and could not be fetched stay there: the same job may fetch them later. Spoiled ones
    are given up, for else the depot would be taken to have them.
    """

    __slots__ = ("delivered", "hub", "job", "released")

    def __init__(self, job: Job, hub: Hub) -> None:
        self.job, self.hub, self.released = job, hub, False
        self.delivered = False

    def see(self, event: JobEvent) -> None:
        self.delivered = isinstance(event, Delivered) or (self.delivered and not isinstance(event, Queued | Granted))

    def end(self, outcome: JobEvent) -> None:
        spoiled = False
        if self.delivered and isinstance(outcome, Failed):
            spoiled = outcome.code == DAMAGED
            self.released = self.released or not spoiled
        self.release(cancelled=spoiled or isinstance(outcome, Cancelled | TimedOut))

    def release(self, *, cancelled: bool) -> None:
        if not self.released:
            self.released = True
            self.hub.release(self.job, cancelled=cancelled)

    def dispose(self) -> None:
        self.release(cancelled=True)
