"""THE pipeline: a job from submit to result. Its stages are in operators/stages/, its verbs in operators/rx/."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import reactivex as rx
from reactivex import Observable, abc

from wakestream.operators.lifecycle.cancellable import cancellable
from wakestream.operators.lifecycle.outcome import outcome
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.events import Cancelled, Job, JobEvent, Retrying, TimedOut
from wakestream.operators.model.faults import require_observable
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects, Files, Hub, Workers
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, subscribe_through
from wakestream.operators.rx.from_async import require_awaitable
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import never
from wakestream.operators.rx.timeout_total import timeout_total
from wakestream.operators.stages.fingerprint import Fingerprints


class Direct(Effects):
    """Carries effects out, and no more."""

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        """See `Effects.call`."""
        return await require_awaitable(effect(), effect, label)


@dataclass(frozen=True, slots=True)
class World:
    """All that a job needs from outside: the hub, the workers, the files, and the seeded source of jitter.

    `effects` is for what your own stages do to the world besides; `retry_now` emits when somebody wants a job that
    pauses to be tried at once.
    """

    hub: Hub
    workers: Workers
    files: Files
    random: Random
    effects: Effects = field(default_factory=Direct)
    retry_now: Observable[Any] = field(default_factory=never)


Build = Callable[[Job, World, Policy, Observable[Any]], Observable[JobEvent]]
"""A pipeline: makes the events of a job; the last argument cancels the job when it emits."""


def guarded(
    stages: Callable[[Fingerprints], Observable[JobEvent]],
    job: Job,
    world: World,
    policy: Policy,
    cancel: Observable[Any] | None = None,
) -> Observable[JobEvent]:
    """What every job needs around its stages, the standard ones or yours.

    Mendable errors run the stages again after a backoff, `policy.total` bounds the whole, `cancel` stops it
    everywhere, errors become an outcome, and the hub is told at the end. The last stage ends with an outcome.
    """

    def subscribe(
        observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        readings, held = Fingerprints(job, world.files), _Held(job, world.hub)
        whole = _composed(stages, readings).pipe(
            retry_backoff(_announced(policy.again), world.random),
            timeout_total(policy.total, "total"),
            cancellable(cancel or never(), world.workers, job.id),
            outcome(lambda event: held.release(cancelled=isinstance(event, Cancelled | TimedOut))),
        )
        return CompositeDisposable(subscribe_through(whole, observer, scheduler), CompositeDisposable(readings, held))

    return LightObservable(subscribe)


def _composed(stages: Callable[[Fingerprints], Observable[JobEvent]], readings: Fingerprints) -> Observable[JobEvent]:
    """The stages; where they cannot be put together, what that raised, so that the job ends in an outcome."""
    try:
        return require_observable(stages(readings), stages, "pipeline")
    except Exception as error:
        return rx.throw(error)


class _Held(abc.DisposableBase):
    """What the hub holds for a job is given back once. Who disposes of a job before its end no longer wants it."""

    __slots__ = ("hub", "job", "released")

    def __init__(self, job: Job, hub: Hub) -> None:
        self.job, self.hub, self.released = job, hub, False

    def release(self, *, cancelled: bool) -> None:
        if not self.released:
            self.released = True
            self.hub.release(self.job, cancelled=cancelled)

    def dispose(self) -> None:
        self.release(cancelled=True)


def _announced(backoff: Backoff) -> Backoff:
    return dataclasses.replace(backoff, on_retry=lambda attempt, delay, error: Retrying(attempt, delay, str(error)))
