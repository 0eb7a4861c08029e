"""Tries that come to nothing with a GPU that is on: it costs money all the while, so it is let go between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from wakestream.operators.events import (
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
from wakestream.operators.flow.emit import begin_with
from wakestream.operators.flow.lean import Both, Lean, Passing, Serial
from wakestream.operators.flow.retry_backoff import Backoff
from wakestream.operators.ports import Hub, LinkUp

FRUITLESS: Final = 10
"""How many tries in a row may have a GPU and bring one job no further than it was before."""

RESTS: Final = Backoff(initial=300.0, max_delay=4 * 3600.0)
"""How long the GPU is let go after those, and after each further one: 5 min, 10 min … 4 h, less the jitter."""

_STAGES: Mapping[type, int] = {
    kind: number
    for number, kind in enumerate(
        (Online, Checked, Uploading, Uploaded, Submitted, Running, Rendered, Downloading), start=1
    )
}


def resting(
    job: Job, hub: Hub, random: Random, fruitless: Callable[[Exception], bool]
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """One job's tries, each a subscription: the error of a fruitless one comes late, and the hub has the GPU back then.

    So the GPU may fall asleep as ever. A try is fruitless that was granted a GPU and broke, by an error that is one of
    these, before the job was further than in any try before: a worker that clients do not reach, a proxy that lets
    nothing through. The rest ends early when the hub is there again after it was away: perhaps the network was what
    was missing. Where that was in vain once, the next ones last for half their time at least, as a line may break
    again and again.
    """
    tries = _Tries(fruitless)

    def rest(error: Exception) -> Observable[JobEvent]:
        hub.release(job)
        seconds = RESTS.delay(tries.count - FRUITLESS + 1, random)
        up: Observable[Any] = hub.replies(job).pipe(ops.skip(1), ops.filter(lambda reply: isinstance(reply, LinkUp)))
        again = up.pipe(ops.combine_latest(rx.timer(seconds / 2 if tries.hurried else 0.0)), ops.do_action(tries.hurry))
        over = rx.timer(seconds).pipe(ops.amb(again), ops.take(1), ops.flat_map(lambda _: rx.throw(error)))
        why = f"{tries.count} tries with a GPU came to nothing ({error}); it is let go and asked for again later"
        data = {"rests": round(seconds, 3), "tries": tries.count, "why": str(error)}
        return over.pipe(begin_with(Note(why, data)))

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            one = _Try(observer, tries, rest, scheduler)
            return Both(source.subscribe(one, scheduler=scheduler), one.resting)

        return Lean(subscribe)

    return operator


class _Tries:
    """How far the job came at best, how many tries in a row came no further, and whether a rest was cut short since."""

    __slots__ = ("best", "count", "fruitless", "hurried")

    def __init__(self, fruitless: Callable[[Exception], bool]) -> None:
        self.fruitless = fruitless
        self.best: tuple[int, float] = (0, 0.0)
        self.count = 0
        self.hurried = False

    def hurry(self, _: Any) -> None:
        self.hurried = True

    def sees(self, event: JobEvent) -> None:
        reached = (_STAGES.get(type(event), 0), _amount(event))
        if reached > self.best:
            self.best, self.count, self.hurried = reached, 0, False

    def too_many(self, error: Exception) -> bool:
        """After a try with a GPU that broke."""
        if not self.fruitless(error):
            return False
        self.count += 1
        return self.count >= FRUITLESS


def _amount(event: JobEvent) -> float:
    match event:
        case Uploading() | Downloading():
            return float(event.bytes)
        case Running():
            return event.percent
    return 0.0


class _Try(Passing[Any]):
    """One of them."""

    __slots__ = ("granted", "rest", "resting", "scheduler", "tries")

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        tries: _Tries,
        rest: Callable[[Exception], Observable[Any]],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        super().__init__(observer)
        self.tries, self.rest, self.scheduler = tries, rest, scheduler
        self.granted = False
        self.resting = Serial()

    def on_next(self, value: JobEvent) -> None:
        self.granted = self.granted or isinstance(value, Granted)
        self.tries.sees(value)
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        if self.granted and self.tries.too_many(error):
            self.resting.hold(self.rest(error).subscribe(self.observer, scheduler=self.scheduler))
        else:
            self.observer.on_error(error)
