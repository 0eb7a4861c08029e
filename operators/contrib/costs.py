"""What a job costs while it goes on: the GPU's time in money, by the hub's news of its power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reactivex import Observable, abc

from wakestream.operators.lifecycle.before_outcome import before_outcome
from wakestream.operators.model.events import JobEvent
from wakestream.operators.model.ports import Accepted, BootFailure, OnlineNotice, PowerNotice, Reply
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.sources import of

ON = frozenset({"starting", "booted", "online", "draining"})
"""News of the machine that says: it is paid for now. Other news says that it is not."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The GPU has been on for so many whole `seconds`, which is so much `money` in the currency of its price.

    Whole seconds, so that a replay shows the same, whatever a run's own milliseconds were.
    """

    seconds: int
    money: float


def costs(
    replies: Observable[Reply], per_hour: float, tell: Callable[[Cost], JobEvent], line_every: float = 30.0
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """A whole job's events, and in between `tell(cost)`: every `line_every` seconds, and just before the outcome.

    `replies` are `world.hub.replies(job)`; an hour of the GPU costs `per_hour`. It counts from the GPU's start, or from
    the grant where it was on, and not while it is off.
    """

    def operator(source: Observable[JobEvent]) -> Observable[JobEvent]:
        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            time = clock(scheduler)
            meter = Meter(per_hour)
            power = replies.subscribe(
                lambda news: meter.hear(news, seconds_now(time)), observer.on_error, scheduler=scheduler
            )
            told = interval(line_every, lambda _: tell(meter.cost(seconds_now(time))))
            lines = told.subscribe(observer.on_next, observer.on_error, scheduler=scheduler)
            whole = source.pipe(before_outcome(lambda _: of(tell(meter.cost(seconds_now(time))))))
            return CompositeDisposable(
                whole.subscribe(observer, scheduler=scheduler), CompositeDisposable(lines, power)
            )

        return LightObservable(subscribe)

    return operator


class Meter:
    """Adds up the seconds in which the GPU is on; `now` is in seconds throughout."""

    def __init__(self, per_hour: float) -> None:
        self.per_hour = per_hour
        self._before = 0.0
        self._since: float | None = None

    def hear(self, news: Reply, now: float) -> None:
        """One piece of news: the meter starts, stops or runs on."""
        on = isinstance(news, Accepted | OnlineNotice) or (isinstance(news, PowerNotice) and news.phase in ON)
        off = isinstance(news, BootFailure) or (isinstance(news, PowerNotice) and news.phase not in ON)
        if on and self._since is None:
            self._since = now
        elif off:
            self._before, self._since = self._seconds(now), None

    def cost(self, now: float) -> Cost:
        """What it shows."""
        seconds = round(self._seconds(now))
        return Cost(seconds, round(seconds / 3600 * self.per_hour, 4))

    def _seconds(self, now: float) -> float:
        return self._before + (0.0 if self._since is None else now - self._since)
