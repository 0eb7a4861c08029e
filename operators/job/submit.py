"""Ask the hub for a GPU: at once if one is on, else after the wait for it to wake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import reactivex as rx
from reactivex import Observable, abc

from wakestream.operators.errors import BootFailed, HubRefused, HubUnreachable
from wakestream.operators.events import Branch, Eta, Fingerprint, Granted, Job, JobEvent, Queued, Waking
from wakestream.operators.flow.branch import branch
from wakestream.operators.flow.emit import begin_with, beside, emit, silence
from wakestream.operators.flow.every import every
from wakestream.operators.flow.lean import Lean, along
from wakestream.operators.flow.scheduler import clock, seconds_now
from wakestream.operators.flow.timeout_total import timeout_total
from wakestream.operators.job.fingerprint import EVERY_ALGORITHM, Readings
from wakestream.operators.policy import Policy
from wakestream.operators.ports import Accepted, Asleep, BootFailure, Hub, LinkDown, LinkUp, Refused, Stirring, Woken

LATE_HASHES = "late_hashes"
"""The hub's feature: a submit may come before the files are hashed."""


def submit(job: Job, hub: Hub, readings: Readings, policy: Policy) -> Observable[JobEvent]:
    """`Queued`, `Waking` every 10 s, and at last `Granted`.

    The waiter is registered first, then the job is sent, and sent again with the same id at each new connection. The
    whole wait counts from the subscription, whatever happens in between. While the GPU wakes, the files are hashed.
    A hub that was reached in an earlier attempt is waited for like one that was reached in this.

    Raises `StageTimeout` (`reply`, `online`), `HubUnreachable`, `HubRefused`, `BootFailed`.
    """

    def subscribe(
        observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        wait = _Wait(job, hub, readings, policy, clock(scheduler))
        whole = hub.replies(job).pipe(branch(wait), timeout_total(policy.online, "online"))
        return along(whole, observer, scheduler)

    return Lean(subscribe)


class _Wait:
    """One wait for the GPU: what each of the hub's replies leads to."""

    __slots__ = ("asleep", "hub", "job", "policy", "reached", "readings", "started", "time", "told")

    def __init__(self, job: Job, hub: Hub, readings: Readings, policy: Policy, time: abc.SchedulerBase) -> None:
        self.job, self.hub, self.readings, self.policy, self.time = job, hub, readings, policy, time
        self.started = seconds_now(time)
        self.reached = False
        self.asleep: Asleep | None = None
        self.told = self.started

    def get(self, kind: type, /) -> Callable[[Any], Observable[JobEvent] | None] | None:
        """The case for a kind of reply: looked up in one table for all jobs, since many wait."""
        case = _CASES.get(kind)
        return None if case is None else partial(case, self)

    @property
    def waited(self) -> float:
        return seconds_now(self.time) - self.started

    def connected(self, link: LinkUp) -> Observable[JobEvent]:
        self.reached = True
        if LATE_HASHES in link.features:
            return self._ask(())
        return self.readings.of(EVERY_ALGORITHM).flat_map(lambda taken: self._ask(taken.files))

    def _ask(self, files: Sequence[Fingerprint]) -> Observable[JobEvent]:
        self.hub.submit(self.job, files)
        return silence().pipe(timeout_total(self.policy.reply, "reply"))

    def disconnected(self, link: LinkDown) -> Observable[JobEvent]:
        if link.code is not None:
            raise HubRefused(link.why, code=link.code)
        self.reached = self.reached or link.asked
        never = "connecting" if link.connecting else "hub_unreachable"
        phase = "hub_lost" if self.reached else never  # of the last one, why is all that there is to say
        lines = self._lines(phase, why="" if link.connecting else link.why, always=phase == "hub_unreachable")
        if self.reached or self.policy.hub is None:
            return lines
        patience = rx.timer(max(0.0, self.policy.hub - self.waited))
        return lines.pipe(beside(patience.flat_map(lambda _: rx.throw(HubUnreachable(link.why)))))

    def granted(self, grant: Accepted) -> Observable[JobEvent]:
        road: Branch = "offline" if self.asleep else "online"
        return emit(Granted(road, self.waited, grant.gpu, grant.url, grant.position))

    def woken(self, news: Woken) -> Observable[JobEvent] | None:
        return self.granted(Accepted(news.gpu, news.url)) if self.asleep else None

    def queued(self, reply: Asleep) -> Observable[JobEvent]:
        self.asleep, self.told = reply, seconds_now(self.time)
        return self._waking(reply.phase).pipe(begin_with(Queued(reply.position, reply.phase, reply.eta)))

    def stirring(self, news: Stirring) -> Observable[JobEvent] | None:
        return self._lines(news.phase, why=news.why) if self.asleep else None

    def refused(self, reply: Refused) -> NoReturn:
        # Raised, not emitted: what follows in the same turn of the loop must not take its place.
        raise HubRefused(reply.why, code=reply.code)

    def boot_failed(self, reply: BootFailure) -> NoReturn:
        raise BootFailed(reply.why)

    def _lines(self, phase: str, why: str, *, always: bool = False) -> Observable[JobEvent]:
        return self._waking(phase, why if always else "").pipe(begin_with(self._line(phase, why)))

    def _waking(self, phase: str, why: str = "") -> Observable[JobEvent]:
        lines = every(self.policy.line_every, lambda _: self._line(phase, why))
        # While the GPU wakes the files are read, and one that cannot be read ends the wait on whichever road.
        return lines.pipe(beside(self.readings.of(EVERY_ALGORITHM))) if self.asleep else lines

    def _line(self, phase: str, why: str = "") -> JobEvent:
        reply, now = self.asleep or Asleep(), seconds_now(self.time)
        return Waking(now - self.started, phase, reply.position, _left(reply.eta, now - self.told), why)


_CASES: Mapping[type, Callable[[_Wait, Any], Observable[JobEvent] | None]] = {
    LinkUp: _Wait.connected,
    LinkDown: _Wait.disconnected,
    Accepted: _Wait.granted,
    Asleep: _Wait.queued,
    Stirring: _Wait.stirring,
    Woken: _Wait.woken,
    Refused: _Wait.refused,
    BootFailure: _Wait.boot_failed,
}
"""Where each of the hub's replies leads."""


def _left(eta: Eta | None, elapsed: float) -> Eta | None:
    return eta and Eta(max(0.0, eta.p50 - elapsed), max(0.0, eta.p90 - elapsed))
