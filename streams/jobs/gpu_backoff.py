"""Pauses between the attempts of a job: after a failed start of the GPU, and after attempts without progress.

A GPU that is on costs money, so the job releases it during the pause; each start costs money, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.subject import Subject

from wakestream.operators.model import events as e
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import BootFailed
from wakestream.operators.model.events import Job, JobEvent, Note
from wakestream.operators.model.ports import LinkUp, PowerNotice, Reply
from wakestream.operators.rx.all_done import all_done
from wakestream.operators.rx.core.observable import FollowingObserver, ignore, operator_with
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.sources import start_with, throw
from wakestream.streams.jobs.world import World

PAUSES: Final = Backoff(initial=60.0, max_delay=1800.0)
"""The pause after a failed start, and after each further one: 1 min, 2 min … 30 min, less jitter."""


class Starts:
    """How many starts in a row have failed, and until when the jobs pause."""

    def __init__(self) -> None:
        self.count = 0
        self.until = 0.0
        self._granted: Subject[Any] = Subject()

    @property
    def granted(self) -> Observable[Any]:
        """Emits when a job was granted a GPU, which ends all pauses."""
        return self._granted

    def failed(self, now: float, random: Random) -> float:
        """Count a failed start, once for all jobs that report it during a pause; returns the seconds to pause."""
        if now >= self.until:
            self.count += 1
            self.until = now + PAUSES.delay(self.count, random)
        return self.until - now

    def succeeded(self) -> None:
        """A job was granted a GPU: end the pause."""
        self.count, self.until = 0, 0.0
        self._granted.on_next(None)


MAX_NO_PROGRESS: Final = 10
"""How many attempts in a row may have a GPU and make no progress."""

RESTS: Final = Backoff(initial=300.0, max_delay=4 * 3600.0)
"""The pause after those attempts, and after each further one: 5 min, 10 min … 4 h, less jitter."""

_STAGES: tuple[type, ...] = (
    e.Online, e.Checked, e.Uploading, e.Uploaded, e.Submitted, e.Running, e.Rendered, e.Downloading,
)  # fmt: skip


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
    return operator_with(_Attempt, _Pauses(job, world, no_progress, starts))


@dataclass(slots=True)
class _Pauses:
    """One job's pauses: which error calls for one, how long it lasts, and what ends it early.

    `best` is how far the job got, `count` how many attempts in a row got no further, and `shortened` whether a pause
    ended early since.
    """

    job: Job
    world: World
    no_progress: Callable[[Exception], bool]
    starts: Starts
    best: tuple[int, float] = (0, 0.0)
    count: int = 0
    shortened: bool = False

    def after(self, error: Exception, *, granted: bool, now: float) -> Observable[JobEvent] | None:
        """The pause after a failed attempt, which was `granted` a GPU or not; None if there is no pause."""
        if isinstance(error, BootFailed):
            seconds = self.starts.failed(now, self.world.random)
            booted = self._replies(lambda reply: isinstance(reply, PowerNotice) and reply.phase == "booted")
            why = f"the GPU did not start ({error}); the next try is in {seconds:.0f} s"
            data = {"rests": round(seconds, 3), "starts": self.starts.count, "why": str(error)}
            return self._pause(seconds, all_done(self.starts.granted, booted, join=ignore), Note(why, data), error)
        return self._without_progress(error) if granted and self._too_many(error) else None

    def _without_progress(self, error: Exception) -> Observable[JobEvent]:
        seconds = RESTS.delay(self.count - MAX_NO_PROGRESS + 1, self.world.random)
        up = self._replies(lambda reply: isinstance(reply, LinkUp))
        earliest = rx.timer(seconds / 2 if self.shortened else 0.0)
        again = up.pipe(ops.combine_latest(earliest), ops.do_action(self._shorten))
        why = f"{self.count} attempts with a GPU made no progress ({error}); the next try comes later"
        data = {"rests": round(seconds, 3), "tries": self.count, "why": str(error)}
        return self._pause(seconds, again, Note(why, data), error)

    def _replies(self, wanted: Callable[[Reply], bool]) -> Observable[Any]:
        return self.world.hub.replies(self.job).pipe(ops.skip(1), ops.filter(wanted))

    def _pause(self, seconds: float, early: Observable[Any], note: Note, error: Exception) -> Observable[JobEvent]:
        self.world.hub.release(self.job)
        over = rx.timer(seconds).pipe(ops.amb(all_done(early, self.world.retry_now, join=ignore)), ops.take(1))
        return over.pipe(ops.flat_map(lambda _: throw(error)), start_with(note))

    def _shorten(self, _: Any) -> None:
        self.shortened = True

    def update(self, event: JobEvent) -> None:
        """Note how far the job got."""
        kind = type(event)
        reached = (_STAGES.index(kind) + 1 if kind in _STAGES else 0, _amount(event))
        if reached > self.best:
            self.best, self.count, self.shortened = reached, 0, False

    def _too_many(self, error: Exception) -> bool:
        """Count a failed attempt that had a GPU; returns whether the job must pause."""
        if not self.no_progress(error):
            return False
        self.count += 1
        return self.count >= MAX_NO_PROGRESS


def _amount(event: JobEvent) -> float:
    match event:
        case e.Uploading() | e.Downloading():
            return float(event.bytes)
        case e.Running():
            return event.percent
    return 0.0


@dataclass(slots=True, eq=False, repr=False)
class _Attempt(FollowingObserver[Any]):
    """One attempt."""

    pauses: _Pauses
    granted: bool = False

    def on_next(self, value: JobEvent) -> None:
        if isinstance(value, e.Granted):
            self.granted = True
            self.pauses.starts.succeeded()
        self.pauses.update(value)
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        after = self.pauses.after(error, granted=self.granted, now=seconds_now(clock(self.scheduler)))
        if after is None:
            self.observer.on_error(error)
        else:
            self.follow(after, self.observer)
