"""Pauses between the tries of a job: after a start that failed, and after tries that come to nothing with a GPU.

A GPU that is on costs money all the while, so it is let go meanwhile; and each start costs, too.
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
    LightObservable,
    SerialDisposable,
)
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.sources import start_with
from wakestream.streams.jobs.job import World
from wakestream.streams.jobs.starts import Starts

MAX_NO_PROGRESS: Final = 10
"""How many tries in a row may have a GPU and bring one job no further than it was before."""

RESTS: Final = Backoff(initial=300.0, max_delay=4 * 3600.0)
"""How long the GPU is let go after those, and after each further one: 5 min, 10 min … 4 h, less the jitter."""

_STAGES: Mapping[type, int] = {
    kind: number
    for number, kind in enumerate(
        (Online, Checked, Uploading, Uploaded, Submitted, Running, Rendered, Downloading), start=1
    )
}


def gpu_backoff(
    job: Job, world: World, fruitless: Callable[[Exception], bool], starts: Starts
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """One job's tries, each a subscription: the error that calls for a pause comes after it; the hub has the GPU then.

    So the GPU may fall asleep as ever. After a failed start, all jobs pause until the same moment, or until one of them
    is given a GPU or the machine has booted after all.

    A try is fruitless that was granted a GPU and broke, by an error that is one of these, before the job was further
    than in any try before: a worker that clients do not reach, a proxy that lets nothing through. That rest ends early
    when the hub is there again after it was away: perhaps the network was what was missing. Where that was in vain
    once, the next ones last for half their time at least, as a line may break again and again.

    Either ends at once when `world.retry_now` says so.
    """
    pauses = _Pauses(job, world, _Tries(fruitless, starts), starts)

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            one = _Try(observer, pauses, clock(scheduler))
            return CompositeDisposable(source.subscribe(one, scheduler=scheduler), one.resting)

        return LightObservable(subscribe)

    return operator


@dataclass(frozen=True, slots=True)
class _Pauses:
    """One job's pauses: which error calls for one, how long it lasts, and what ends it early."""

    job: Job
    world: World
    tries: _Tries
    starts: Starts

    def after(self, error: Exception, *, granted: bool, now: float) -> Observable[JobEvent] | None:
        """The pause after a try that broke, `granted` a GPU or not; None where there is none."""
        if isinstance(error, BootFailed):
            return self._start(error, now)
        return self._rest(error) if granted and self.tries.too_many(error) else None

    def _start(self, error: Exception, now: float) -> Observable[JobEvent]:
        seconds = self.starts.failed(now, self.world.random)
        booted = self._heard(lambda reply: isinstance(reply, PowerNotice) and reply.phase == "booted")
        why = f"the GPU did not start ({error}); the next try is in {seconds:.0f} s"
        data = {"rests": round(seconds, 3), "starts": self.starts.count, "why": str(error)}
        return self._pause(seconds, rx.merge(self.starts.granted, booted), Note(why, data), error)

    def _rest(self, error: Exception) -> Observable[JobEvent]:
        tries = self.tries
        seconds = RESTS.delay(tries.count - MAX_NO_PROGRESS + 1, self.world.random)
        up, earliest = self._heard(lambda reply: isinstance(reply, LinkUp)), seconds / 2 if tries.hurried else 0.0
        again = up.pipe(ops.combine_latest(rx.timer(earliest)), ops.do_action(tries.hurry))
        why = f"{tries.count} tries with a GPU came to nothing ({error}); it is let go and asked for again later"
        data = {"rests": round(seconds, 3), "tries": tries.count, "why": str(error)}
        return self._pause(seconds, again, Note(why, data), error)

    def _heard(self, wanted: Callable[[Reply], bool]) -> Observable[Any]:
        return self.world.hub.replies(self.job).pipe(ops.skip(1), ops.filter(wanted))

    def _pause(self, seconds: float, early: Observable[Any], note: Note, error: Exception) -> Observable[JobEvent]:
        self.world.hub.release(self.job)
        over = rx.timer(seconds).pipe(ops.amb(rx.merge(early, self.world.retry_now)), ops.take(1))
        return over.pipe(ops.flat_map(lambda _: rx.throw(error)), start_with(note))


class _Tries:
    """How far the job came at best, how many tries in a row came no further, and whether a rest was cut short since."""

    __slots__ = ("best", "count", "fruitless", "hurried", "starts")

    def __init__(self, fruitless: Callable[[Exception], bool], starts: Starts) -> None:
        self.fruitless, self.starts = fruitless, starts
        self.best: tuple[int, float] = (0, 0.0)
        self.count = 0
        self.hurried = False

    def hurry(self, _: Any) -> None:
        self.hurried = True

    def sees(self, event: JobEvent) -> None:
        if isinstance(event, Granted):
            self.starts.succeeded()
        reached = (_STAGES.get(type(event), 0), _amount(event))
        if reached > self.best:
            self.best, self.count, self.hurried = reached, 0, False

    def too_many(self, error: Exception) -> bool:
        """After a try with a GPU that broke."""
        if not self.fruitless(error):
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


class _Try(ForwardingObserver[Any]):
    """One of them."""

    __slots__ = ("granted", "pauses", "resting", "time")

    def __init__(self, observer: abc.ObserverBase[Any], pauses: _Pauses, time: abc.SchedulerBase) -> None:
        super().__init__(observer)
        self.pauses, self.time = pauses, time
        self.granted = False
        self.resting = SerialDisposable()

    def on_next(self, value: JobEvent) -> None:
        self.granted = self.granted or isinstance(value, Granted)
        self.pauses.tries.sees(value)
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        pause = self.pauses.after(error, granted=self.granted, now=seconds_now(self.time))
        if pause is None:
            self.observer.on_error(error)
        else:
            self.resting.disposable = pause.subscribe(self.observer, scheduler=self.time)
