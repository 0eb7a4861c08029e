"""Pauses between the attempts of a job: after a failed start of the GPU, and after attempts without progress.

A GPU that is on costs money, so the job releases it during the pause; each start costs money, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import BootFailed
from wakestream.operators.model.events import (
    Checked,
    Downloading,
    Granted,
    Job,
    JobEvent,
    Note,
    Online,
    Rendered,
    Running,
    Submitted,
    Uploaded,
    Uploading,
)
from wakestream.operators.model.ports import LinkUp, PowerNotice, Reply
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    SerialDisposable,
    operator_from,
)
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.sources import start_with
from wakestream.streams.jobs.job import World
from wakestream.streams.jobs.starts import Starts

MAX_NO_PROGRESS: Final = 10
"""How many attempts in a row may have a GPU and make no progress."""

RESTS: Final = Backoff(initial=300.0, max_delay=4 * 3600.0)
"""The pause after those attempts, and after each further one: 5 min, 10 min … 4 h, less jitter."""

_STAGES: Mapping[type, int] = {
    kind: number
    for number, kind in enumerate(
        (Online, Checked, Uploading, Uploaded, Submitted, Running, Rendered, Downloading), start=1
    )
}


def gpu_backoff(
    job: Job, world: World, no_progress: Callable[[Exception], bool], starts: Starts
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """Pause before an error that calls for it is passed on. During the pause, the GPU is released and may stop.

    After a failed start, all jobs pause until the same time, or until one of them is granted a GPU or the machine has
    booted after all.

    An attempt makes no progress if it had a GPU and failed before the job got further than in any earlier attempt; for
    example, clients cannot reach the worker, or a proxy blocks them. After `MAX_NO_PROGRESS` of them the job pauses.
    This pause ends early when the connection to the hub is back, because the network may have been the cause. If that
    did not help, the next pauses last at least half of their time.

    Each pause ends at once when `world.retry_now` emits.

    Args:
        job: The job.
        world: Its world.
        no_progress: Which errors count as an attempt without progress.
        starts: The failed starts, shared by all jobs.

    Returns:
        An operator function for the stages of one attempt; a retry subscribes it again.
    """
    pauses = _Pauses(job, world, _Attempts(no_progress, starts), starts)

    def subscribe(
        source: Observable[JobEvent], observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        one = _Attempt(observer, pauses, clock(scheduler))
        return CompositeDisposable(source.subscribe(one, scheduler=scheduler), one.pause)

    return operator_from(subscribe)


@dataclass(frozen=True, slots=True)
class _Pauses:
    """One job's pauses: which error calls for one, how long it lasts, and what ends it early."""

    job: Job
    world: World
    attempts: _Attempts
    starts: Starts

    def after(self, error: Exception, *, granted: bool, now: float) -> Observable[JobEvent] | None:
        """The pause after a failed attempt, which was `granted` a GPU or not; None if there is no pause."""
        if isinstance(error, BootFailed):
            return self._after_start(error, now)
        return self._without_progress(error) if granted and self.attempts.too_many(error) else None

    def _after_start(self, error: Exception, now: float) -> Observable[JobEvent]:
        seconds = self.starts.failed(now, self.world.random)
        booted = self._replies(lambda reply: isinstance(reply, PowerNotice) and reply.phase == "booted")
        why = f"the GPU did not start ({error}); the next try is in {seconds:.0f} s"
        data = {"rests": round(seconds, 3), "starts": self.starts.count, "why": str(error)}
        return self._pause(seconds, rx.merge(self.starts.granted, booted), Note(why, data), error)

    def _without_progress(self, error: Exception) -> Observable[JobEvent]:
        attempts = self.attempts
        seconds = RESTS.delay(attempts.count - MAX_NO_PROGRESS + 1, self.world.random)
        up, earliest = (
            self._replies(lambda reply: isinstance(reply, LinkUp)),
            seconds / 2 if attempts.shortened else 0.0,
        )
        again = up.pipe(ops.combine_latest(rx.timer(earliest)), ops.do_action(attempts.shorten))
        why = f"{attempts.count} attempts with a GPU made no progress ({error}); the next try comes later"
        data = {"rests": round(seconds, 3), "tries": attempts.count, "why": str(error)}
        return self._pause(seconds, again, Note(why, data), error)

    def _replies(self, wanted: Callable[[Reply], bool]) -> Observable[Any]:
        return self.world.hub.replies(self.job).pipe(ops.skip(1), ops.filter(wanted))

    def _pause(self, seconds: float, early: Observable[Any], note: Note, error: Exception) -> Observable[JobEvent]:
        self.world.hub.release(self.job)
        over = rx.timer(seconds).pipe(ops.amb(rx.merge(early, self.world.retry_now)), ops.take(1))
        return over.pipe(ops.flat_map(lambda _: rx.throw(error)), start_with(note))


class _Attempts:
    """How far the job got, how many attempts in a row got no further, and whether a pause was shortened since."""

    __slots__ = ("best", "count", "no_progress", "shortened", "starts")

    def __init__(self, no_progress: Callable[[Exception], bool], starts: Starts) -> None:
        self.no_progress, self.starts = no_progress, starts
        self.best: tuple[int, float] = (0, 0.0)
        self.count = 0
        self.shortened = False

    def shorten(self, _: Any) -> None:
        self.shortened = True

    def update(self, event: JobEvent) -> None:
        if isinstance(event, Granted):
            self.starts.succeeded()
        reached = (_STAGES.get(type(event), 0), _amount(event))
        if reached > self.best:
            self.best, self.count, self.shortened = reached, 0, False

    def too_many(self, error: Exception) -> bool:
        """Count a failed attempt that had a GPU; returns whether the job must pause."""
        if not self.no_progress(error):
            return False
        self.count += 1
        return self.count >= MAX_NO_PROGRESS


def _amount(event: JobEvent) -> float:
    match event:
        case Uploading() | Downloading():
            return float(event.bytes)
        case Running():
            return event.percent
    return 0.0


class _Attempt(ForwardingObserver[Any]):
    """One attempt."""

    __slots__ = ("granted", "pause", "pauses", "time")

    def __init__(self, observer: abc.ObserverBase[Any], pauses: _Pauses, time: abc.SchedulerBase) -> None:
        super().__init__(observer)
        self.pauses, self.time = pauses, time
        self.granted = False
        self.pause = SerialDisposable()

    def on_next(self, value: JobEvent) -> None:
        self.granted = self.granted or isinstance(value, Granted)
        self.pauses.attempts.update(value)
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        after = self.pauses.after(error, granted=self.granted, now=seconds_now(self.time))
        if after is None:
            self.observer.on_error(error)
        else:
            self.pause.disposable = after.subscribe(self.observer, scheduler=self.time)
