"""Ask the hub for a GPU: at once if one is on, else after the wait for it to wake."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from wakestream.operators.model.errors import BootFailed, HubRefused, HubUnreachable, WakestreamError
from wakestream.operators.model.events import Branch, Eta, Fingerprint, Granted, Job, JobEvent, Queued, Waking
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import (
    Accepted,
    BootFailure,
    Busy,
    Free,
    Hub,
    LinkDown,
    LinkUp,
    OfflineReply,
    OnlineNotice,
    PowerNotice,
    Refused,
    Workers,
)
from wakestream.operators.rx.core.observable import LightObservable, subscribe_through
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.sources import merge_errors, never, of, start_with
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.rx.timeout_total import timeout_total
from wakestream.operators.stages.fingerprint import EVERY_ALGORITHM, Fingerprints

LATE_HASHES = "late_hashes"
"""The hub's feature: a submit may come before the files are hashed."""


GRANT = "grant"
"""The hub's feature: it gives each job its GPU, and nothing else does."""

GRACE = 10.0
"""Seconds that a hub which was there may be away before the job goes on without it."""

SETTLE = 2.0
"""Seconds that a hub which keeps the job still has once the worker is ready: it hands the job out as the worker joins,
and what that begins is found at the worker."""

PAUSES = (2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a hub that is busy with another job of the key is asked again, the last of them for ever."""


def submit(
    job: Job, hub: Hub, readings: Fingerprints, policy: Policy, workers: Workers | None = None
) -> Observable[JobEvent]:
    """`Queued`, `Waking` every 10 s, and at last `Granted`.

    The waiter is registered first, then the job is sent, and sent again with the same id at each new connection. The
    whole wait counts from the subscription, whatever happens in between. While the GPU wakes, the files are hashed.
    A hub that was reached in an earlier attempt is waited for like one that was reached in this. A hub that takes one
    job of a key at a time is asked again. While no hub can give the GPU, a worker of `workers` whose address is set is
    looked at as `policy.straight` says, and once it is ready the job goes on without the hub.

    Raises `StageTimeout` (`reply`, `online`), `HubUnreachable`, `HubRefused`, `BootFailed`.
    """

    def subscribe(
        observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        wait = _Wait(job, hub, readings, policy, workers, clock(scheduler))
        whole = hub.replies(job).pipe(switch_by_type(wait), timeout_total(policy.online, "online"))
        return subscribe_through(whole, observer, scheduler)

    return LightObservable(subscribe)


class _Wait:
    """One wait for the GPU: what each of the hub's replies leads to."""

    __slots__ = (
        "asleep", "down", "hub", "job", "link", "policy", "reached", "readings", "refusals", "started", "time", "told",
        "workers",
    )  # fmt: skip

    def __init__(
        self,
        job: Job,
        hub: Hub,
        readings: Fingerprints,
        policy: Policy,
        workers: Workers | None,
        time: abc.SchedulerBase,
    ) -> None:
        self.job, self.hub, self.readings, self.policy, self.time = job, hub, readings, policy, time
        self.workers = workers
        self.link: LinkUp | None = None
        self.down = self.started = seconds_now(time)
        self.refusals = 0
        self.started = seconds_now(time)
        self.reached = False
        self.asleep: OfflineReply | None = None
        self.told = self.started

    def get(self, kind: type, /) -> Callable[[Any], Observable[JobEvent] | None] | None:
        """The case for a kind of reply: looked up in one table for all jobs, since many wait."""
        case = _CASES.get(kind)
        return None if case is None else partial(case, self)

    @property
    def waited(self) -> float:
        return seconds_now(self.time) - self.started

    def connected(self, link: LinkUp) -> Observable[JobEvent]:
        self.reached, self.link = True, link
        if LATE_HASHES in link.features:
            return self._ask(())
        return self.readings.of(EVERY_ALGORITHM).flat_map(lambda taken: self._ask(taken.files))

    def _ask(self, files: Sequence[Fingerprint]) -> Observable[JobEvent]:
        self.hub.submit(self.job, files)
        return never().pipe(timeout_total(self.policy.reply, "reply"))

    def disconnected(self, link: LinkDown) -> Observable[JobEvent]:
        if link.code is not None:
            raise HubRefused(link.reason, code=link.code)
        if self.link is not None:
            self.link, self.down = None, seconds_now(self.time)
        self.reached = self.reached or link.asked
        never = "connecting" if link.connecting else "hub_unreachable"
        phase = "hub_lost" if self.reached else never  # of the last one, why is all that there is to say
        lines = self._lines(phase, why="" if link.connecting else link.reason, always=phase == "hub_unreachable")
        lines = self._or_straight(lines, after=self._grace(link))
        if self.reached or self.policy.hub is None:
            return lines
        patience = rx.timer(max(0.0, self.policy.hub - self.waited))
        return lines.pipe(merge_errors(patience.flat_map(lambda _: rx.throw(HubUnreachable(link.reason)))))

    def _grace(self, link: LinkDown) -> float:
        """Seconds that the hub still has before the worker is looked at: it may only be slow, or be started again."""
        if self.reached:
            return max(0.0, self.down + GRACE - seconds_now(self.time))
        slow = min(GRACE, math.inf if self.policy.hub is None else self.policy.hub) / 2
        return max(0.0, slow - self.waited) if link.connecting else 0.0

    def granted(self, grant: Accepted) -> Observable[JobEvent]:
        road: Branch = "offline" if self.asleep else "online"
        return of(Granted(road, self.waited, grant.gpu, grant.url, grant.position))

    def woken(self, news: OnlineNotice) -> Observable[JobEvent] | None:
        return self.granted(Accepted(news.gpu, news.url)) if self.asleep else None

    def queued(self, reply: OfflineReply) -> Observable[JobEvent]:
        self.asleep, self.told = reply, seconds_now(self.time)
        return self._or_straight(self._waking(reply.phase), settle=SETTLE).pipe(
            start_with(Queued(reply.position, reply.phase, reply.eta))
        )

    def stirring(self, news: PowerNotice) -> Observable[JobEvent] | None:
        if self.asleep is None:
            return None
        return self._or_straight(self._lines(news.phase, why=news.reason), settle=SETTLE)

    def busy(self, reply: Busy) -> Observable[JobEvent]:
        if reply.own and not self._may_go_straight:
            return self.granted(Accepted())
        if reply.own:  # it was taken before; whether a GPU is on, only the worker can say
            lines, pause, look = self._waking("booting"), self.policy.lost, True
        else:
            self.refusals += 1
            pause, look = PAUSES[min(self.refusals, len(PAUSES)) - 1], self.refusals > 1
            lines = self._busy_lines(pause)
        again = rx.timer(pause).flat_map(lambda _: self._again() or never())
        waiting = first_success(lines, again, dropped=_raised)
        return self._or_straight(waiting, told=not reply.own) if look else waiting

    def _busy_lines(self, pause: float) -> Observable[JobEvent]:
        def line(passed: float) -> JobEvent:
            left = max(0.0, pause - passed)
            return Waking(self.waited, "busy", eta=Eta(left, left))

        return interval(self.policy.line_every, line).pipe(start_with(line(0.0)))

    def free(self, _: Free) -> Observable[JobEvent] | None:
        return self._again()

    def _again(self) -> Observable[JobEvent] | None:
        return None if self.link is None else self.connected(self.link)

    def refused(self, reply: Refused) -> NoReturn:
        # Raised, not emitted: what follows in the same turn of the loop must not take its place.
        raise HubRefused(reply.reason, code=reply.code)

    def boot_failed(self, reply: BootFailure) -> NoReturn:
        raise BootFailed(reply.reason)

    @property
    def _may_go_straight(self) -> bool:
        known = self.policy.straight is not None and self.workers is not None
        return known and (self.link is None or GRANT not in self.link.features)

    def _or_straight(
        self, waiting: Observable[JobEvent], after: float = 0.0, settle: float = 0.0, *, told: bool = True
    ) -> Observable[JobEvent]:
        """`waiting`, until the worker itself is found ready where no hub can say so."""
        if not self._may_go_straight or self.policy.straight is None:
            return waiting
        looks = poll(lambda: from_async(self._is_ready, "health"), self.policy.straight, bool)
        late = rx.timer(after).flat_map(lambda _: looks) if after else looks
        straight = late.pipe(ops.filter(bool), ops.flat_map(lambda _: self._straight(settle, told=told)))
        return first_success(waiting, straight, dropped=_raised)

    def _straight(self, settle: float, *, told: bool) -> Observable[JobEvent]:
        def go(_: Any) -> Observable[JobEvent]:
            news = [self._line("straight")] if told else []
            return self.granted(Accepted()).pipe(start_with(*news))

        return rx.timer(settle).flat_map(go) if settle else go(None)

    async def _is_ready(self) -> bool:
        if self.workers is None:
            return False
        try:
            return (await self.workers.at(None).health()).initialized
        except WakestreamError:
            return False

    def _lines(self, phase: str, why: str, *, always: bool = False) -> Observable[JobEvent]:
        return self._waking(phase, why if always else "").pipe(start_with(self._line(phase, why)))

    def _waking(self, phase: str, why: str = "") -> Observable[JobEvent]:
        lines = interval(self.policy.line_every, lambda _: self._line(phase, why))
        # While the GPU wakes the files are read, and one that cannot be read ends the wait on whichever road.
        return lines.pipe(merge_errors(self.readings.of(EVERY_ALGORITHM))) if self.asleep else lines

    def _line(self, phase: str, why: str = "") -> JobEvent:
        reply, now = self.asleep or OfflineReply(), seconds_now(self.time)
        return Waking(now - self.started, phase, reply.position, _left(reply.eta, now - self.told), why)


_CASES: Mapping[type, Callable[[_Wait, Any], Observable[JobEvent] | None]] = {
    LinkUp: _Wait.connected,
    LinkDown: _Wait.disconnected,
    Accepted: _Wait.granted,
    OfflineReply: _Wait.queued,
    PowerNotice: _Wait.stirring,
    OnlineNotice: _Wait.woken,
    Refused: _Wait.refused,
    Busy: _Wait.busy,
    Free: _Wait.free,
    BootFailure: _Wait.boot_failed,
}
"""Where each of the hub's replies leads."""


def _raised(_: int, error: Exception) -> NoReturn:
    """No lane of a wait may drop out."""
    raise error


def _left(eta: Eta | None, elapsed: float) -> Eta | None:
    return eta and Eta(max(0.0, eta.p50 - elapsed), max(0.0, eta.p90 - elapsed))
