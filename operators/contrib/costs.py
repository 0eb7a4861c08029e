"""The cost of a job's GPU, from the hub's power notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.lifecycle.before_outcome import before_outcome
from wakestream.operators.model.events import JobEvent
from wakestream.operators.model.ports import Accepted, BootFailure, OnlineNotice, PowerNotice, Reply
from wakestream.operators.rx.core.observable import CompositeDisposable, operator_from
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.sources import of

ON = frozenset({"starting", "booted", "online", "draining"})
"""Power phases in which the GPU is paid for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the GPU has cost so far.

    Attributes:
        seconds: How long it has been on; whole seconds, so that a replay shows the same as the run.
        money: The cost, in the currency of the price.
    """

    seconds: int
    money: float


def costs(
    replies: Observable[Reply], per_hour: float, to_event: Callable[[Cost], JobEvent], line_every: float = 30.0
) -> Callable[[Observable[JobEvent]], Observable[JobEvent]]:
    """Add events with the GPU's cost to a whole job: every `line_every` seconds, and just before the outcome.

    The time counts from the start of the GPU (from the grant if it was on), and not while the GPU is off.

    Example:
        >>> job_pipeline(job, world, policy, cancel).pipe(costs(world.hub.replies(job), 2.40, to_event))

    Args:
        replies: The hub's replies to the job: `world.hub.replies(job)`.
        per_hour: The price of an hour of the GPU.
        to_event: Makes the event, for example a `Note`, from a cost.
        line_every: Seconds between two events.

    Returns:
        An operator function for a pipeline that ends with an outcome.
    """

    def subscribe(
        source: Observable[JobEvent], observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None
    ) -> DisposableBase:
        time = clock(scheduler)
        meter = Meter(per_hour)

        def event() -> JobEvent:
            return to_event(meter.cost(seconds_now(time)))

        def on_reply(reply: Reply) -> None:
            meter.update(reply, seconds_now(time))

        power = replies.subscribe(on_reply, observer.on_error, scheduler=scheduler)
        lines = interval(line_every, lambda _: event()).subscribe(
            observer.on_next, observer.on_error, scheduler=scheduler
        )
        whole = source.pipe(before_outcome(lambda _: of(event())))
        return CompositeDisposable(whole.subscribe(observer, scheduler=scheduler), CompositeDisposable(lines, power))

    return operator_from(subscribe)


class Meter:
    """Adds up the seconds in which the GPU is on; `now` is always in seconds."""

    def __init__(self, per_hour: float) -> None:
        self.per_hour = per_hour
        self._before = 0.0
        self._since: float | None = None

    def update(self, reply: Reply, now: float) -> None:
        """Start or stop the meter after a reply of the hub."""
        on = isinstance(reply, Accepted | OnlineNotice) or (isinstance(reply, PowerNotice) and reply.phase in ON)
        off = isinstance(reply, BootFailure) or (isinstance(reply, PowerNotice) and reply.phase not in ON)
        if on and self._since is None:
            self._since = now
        elif off:
            self._before, self._since = self._seconds(now), None

    def cost(self, now: float) -> Cost:
        """The cost until now."""
        seconds = round(self._seconds(now))
        return Cost(seconds, round(seconds / 3600 * self.per_hour, 4))

    def _seconds(self, now: float) -> float:
        return self._before + (0.0 if self._since is None else now - self._since)
