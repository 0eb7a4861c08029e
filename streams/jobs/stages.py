"""A pipeline of your own in a few lines: the standard stages, ready for one job, and what stands around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, TypeVar

from reactivex import Observable

from wakestream.operators.model.events import Checked, Granted, Job, JobEvent, Online, Rendered, Submitted, Uploaded
from wakestream.operators.model.faults import require_observable
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.then import then
from wakestream.operators.stages.dedupe import dedupe
from wakestream.operators.stages.download import download
from wakestream.operators.stages.effect import effect
from wakestream.operators.stages.fingerprint import Fingerprints
from wakestream.operators.stages.follow import follow
from wakestream.operators.stages.online import online
from wakestream.operators.stages.submit import submit
from wakestream.operators.stages.synthesize import synthesize
from wakestream.operators.stages.upload import upload
from wakestream.streams.jobs.job import Build, World, guarded

T = TypeVar("T")
Events = Observable[JobEvent]
"""What a pipeline and each of its stages is."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one job. Each but `submit` takes the last event of the one before it: list them in `then`.

    Mix in your own: functions from an event to an observable of events.
    """

    job: Job
    world: World
    policy: Policy
    readings: Fingerprints

    def with_policy(self, policy: Policy) -> Stages:
        """The same stages under another policy: `stages.with_policy(replace(stages.policy, poll_every=0.2)).follow`."""
        return replace(self, policy=policy)

    def standard(self) -> Events:
        """All of them in their order, from `submit` to `download`; ends with `Done`."""
        return self.submit().pipe(
            then(self.online, self.dedupe, self.upload, self.synthesize, self.follow, self.download)
        )

    def submit(self) -> Events:
        """Ask the hub for a GPU and wait for it; ends with `Granted`."""
        return submit(self.job, self.world.hub, self.readings, self.policy, self.world.workers)

    def online(self, grant: Granted) -> Events:
        """Wait until the worker is ready; ends with `Online`."""
        return online(self.world.workers, self.policy, self.world.random)(grant)

    def dedupe(self, worker: Online) -> Events:
        """Hash the files and ask the worker what it has; ends with `Checked`."""
        return dedupe(self.world.workers, self.readings, self.policy, self.world.random)(worker)

    def upload(self, checked: Checked) -> Events:
        """Send what the worker lacks; ends with `Uploaded`."""
        return upload(self.world.workers, self.policy, self.world.random)(checked)

    def synthesize(self, uploaded: Uploaded) -> Events:
        """Start the work; ends with `Submitted`."""
        return synthesize(self.job, self.world.workers, self.policy, self.world.random)(uploaded)

    def follow(self, task: Submitted) -> Events:
        """Poll until it is rendered; ends with `Rendered`."""
        return follow(self.world.workers, self.policy, self.world.random)(task)

    def download(self, rendered: Rendered) -> Events:
        """Bring the result home to `job.output`; ends with `Done`."""
        return download(self.job.output, self.world.workers, self.policy, self.world.random)(rendered)

    def effect(self, label: str, args: Mapping[str, Any], do: Callable[[], Awaitable[T]]) -> Observable[T]:
        """An effect of your own, on the record and tried again as the policy says: see `operators.effect`."""
        return effect(label, args, do, self.world.effects, self.policy, self.world.random)


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
    """A pipeline made of a function that composes a job's stages: see `pipeline`."""

    def __init__(self, compose: Compose) -> None:
        update_wrapper(self, compose)
        self._compose = compose

    def __call__(self, job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Events:
        """The job's events, see `Build`."""
        return guarded(lambda read: self.composed(Stages(job, world, policy, read)), job, world, policy, cancel)

    def composed(self, stages: Stages) -> Events:
        """What the function makes of the stages."""
        return require_observable(self._compose(stages), self._compose, "pipeline")


def pipeline(stages: Compose) -> Build:
    """Make a pipeline of a function that composes a job's stages, as a decorator or a call.

    Around them stands what `guarded` gives every job: retry from the start, the total limit, cancel, the outcome, the
    hub's release. The last stage ends with an outcome (`download` with `Done`).
    """
    return Pipeline(stages)
