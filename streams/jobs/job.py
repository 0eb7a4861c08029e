"""What surrounds the stages of every job: retry, limits, cancel, outcome, and the release of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.events import Cancelled, Job, JobEvent, TimedOut
from wakestream.operators.model.faults import require_observable
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Hub
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, subscribe_through
from wakestream.operators.rx.sources import never, throw
from wakestream.operators.stages.fingerprint import Fingerprints
from wakestream.streams.jobs.standard import whole
from wakestream.streams.jobs.world import Parts, World


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
        parts, attempt = Parts(job, world, policy, fingerprints), _made(stages, fingerprints)
        running = subscribe_through(whole(parts, attempt, cancel or never(), lease.end), observer, scheduler)
        return CompositeDisposable(running, CompositeDisposable(fingerprints, lease))

    return LightObservable(subscribe)


def _made(stages: Callable[[Fingerprints], Observable[JobEvent]], fingerprints: Fingerprints) -> Observable[JobEvent]:
    """The stages; if the function that makes them raises, the job fails with that error."""
    try:
        return require_observable(stages(fingerprints), stages, "pipeline")
    except Exception as error:
        return throw(error)


class _Lease(DisposableBase):
    """Releases the job's GPU at the hub, once. A job that is disposed before its end is cancelled."""

    __slots__ = ("hub", "job", "released")

    def __init__(self, job: Job, hub: Hub) -> None:
        self.job, self.hub, self.released = job, hub, False

    def end(self, outcome: JobEvent) -> None:
        self.release(cancelled=isinstance(outcome, Cancelled | TimedOut))

    def release(self, *, cancelled: bool) -> None:
        if not self.released:
            self.released = True
            self.hub.release(self.job, cancelled=cancelled)

    def dispose(self) -> None:
        self.release(cancelled=True)
