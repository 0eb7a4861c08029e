"""Ask the hub for a GPU: at once if one is on, else after the wait for it to wake."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model import ports
from wakestream.operators.model.errors import BootFailed, HubRefused, HubUnreachable, WakestreamError
from wakestream.operators.model.events import Branch, Eta, Fingerprint, Granted, Job, JobEvent, Queued, Waking
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.core.observable import LightObservable, subscribe_through
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.sources import merge_errors, never, of, start_with, throw
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.rx.timeout import timeout
from wakestream.operators.stages.fingerprint import EVERY_ALGORITHM, Fingerprints

LATE_HASHES = "late_hashes"
"""The hub's feature: a submit may come before the files are hashed."""

GRANT = "grant"
"""The hub's feature: it grants a GPU to each job, and a broadcast does not."""

GRACE = 10.0
"""Seconds without the hub, after it was reached, before the worker is asked directly."""

SETTLE = 2.0
"""Seconds that a hub which has queued the job gets once the worker is ready: it dispatches the job when the worker
registers, and this job then finds the dispatched task at the worker."""

BUDGET = "budget"
"""The phase of a job that waits until its hub may spend money again. Until then the wait has no time limit."""

NO_CAPACITY = "no_capacity"
"""The phase of a job whose GPU the provider cannot give at present; the monitor asks again."""

HALTED = ("not_ready", "paused")
"""The phases of a job whose GPU is on, but whose worker begins no tasks: see `gpu.worker.state`."""

PAUSES = (2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a hub that is busy with another job of the key is asked again; the last one repeats."""


def submit(
    job: Job, hub: ports.Hub, fingerprints: Fingerprints, policy: Policy, workers: ports.Workers | None = None
) -> Observable[JobEvent]:
    """Ask the hub for a GPU, and wait until it is granted. While the GPU starts, the files are hashed.

    The job listens first, then it sends the submit, and sends it again with the same id at each new connection. The
    wait counts from the subscription, also over lost connections, but not while the budget is spent. If a hub runs one
    job of a key at a time, it is asked again. While no hub can grant the GPU, the worker at the configured address is
    asked for its health as `policy.straight` says; when it is ready, the job goes on without the hub.

    Example:
        >>> submit(job, world.hub, Fingerprints(job, world.files), Policy()).subscribe(print, scheduler=scheduler)

    Args:
        job: The job.
        hub: The hub.
        fingerprints: The hashes of the job's files.
        policy: `hub`, `reply` and `online` limit the waits; `line_every` is the interval of `Waking`.
        workers: The workers, for a job that can run without the hub.

    Returns:
        A cold observable of `Queued`, `Waking` every 10 s, and at last `Granted`. It may fail with `StageTimeout`
        (`reply`, `online`), `HubUnreachable`, `HubRefused`, `BootFailed`.
    """

    def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
        wait = _Wait(job, hub, fingerprints, policy, workers, clock(scheduler))
        whole = hub.replies(job).pipe(switch_by_type(wait), timeout(policy.online, "online", excused=wait.unpaid))
        return subscribe_through(whole, observer, scheduler)

    return LightObservable(subscribe)


@dataclass(slots=True, eq=False)
class _Wait:
    """One wait for the GPU: what follows from each reply of the hub."""

    job: Job
    hub: ports.Hub
    fingerprints: Fingerprints
    policy: Policy
    workers: ports.Workers | None
    time: SchedulerBase
    started: float = field(init=False)
    down: float = field(init=False)
    offline_at: float = field(init=False)
    link: ports.LinkUp | None = None
    offline: ports.OfflineReply | None = None
    retry_at: float | None = None
    reached: bool = False
    refusals: int = 0
    without_money: float = 0.0
    unpaid_since: float | None = None

    def __post_init__(self) -> None:
        self.started = self.down = self.offline_at = seconds_now(self.time)

    def get(self, kind: type, /) -> Callable[[Any], Observable[JobEvent] | None] | None:
        """The function for a type of reply: from one table for all jobs, because many wait."""
        case = _CASES.get(kind)
        return None if case is None else partial(case, self)

    @property
    def waited(self) -> float:
        return seconds_now(self.time) - self.started

    def unpaid(self) -> float:
        """Seconds so far in which the hub said that the budget is spent. It cannot say so while it is lost."""
        going = 0.0 if self.unpaid_since is None else seconds_now(self.time) - self.unpaid_since
        return self.without_money + going

    def _count_unpaid(self, since: float | None) -> None:
        self.without_money, self.unpaid_since = self.unpaid(), since

    def on_link_up(self, link: ports.LinkUp) -> Observable[JobEvent]:
        self.reached, self.link = True, link
        if LATE_HASHES in link.features:
            return self._ask(())
        return self.fingerprints.of(EVERY_ALGORITHM).flat_map(lambda taken: self._ask(taken.files))

    def _ask(self, files: Sequence[Fingerprint]) -> Observable[JobEvent]:
        self.hub.submit(self.job, files)
        return never().pipe(timeout(self.policy.reply, "reply"))

    def on_link_down(self, link: ports.LinkDown) -> Observable[JobEvent]:
        if link.code is not None:
            raise HubRefused(link.reason, code=link.code)
        if self.link is not None:
            self.link, self.down = None, seconds_now(self.time)
            self._count_unpaid(None)
        self.reached = self.reached or link.asked
        unreached = "connecting" if link.connecting else "hub_unreachable"
        phase = "hub_lost" if self.reached else unreached
        # An unreachable hub has no other details, so every line has the reason.
        lines = self._lines(phase, "" if link.connecting else link.reason, always=phase == "hub_unreachable")
        lines = self._or_worker_ready(lines, after=self._grace(link))
        if self.reached or self.policy.hub is None:
            return lines
        limit = rx.timer(max(0.0, self.policy.hub - self.waited))
        return lines.pipe(merge_errors(limit.flat_map(lambda _: throw(HubUnreachable(link.reason)))))

    def _grace(self, link: ports.LinkDown) -> float:
        """Seconds until the worker is asked directly: the hub may only be slow, or restart."""
        if self.reached:
            return max(0.0, self.down + GRACE - seconds_now(self.time))
        slow = min(GRACE, math.inf if self.policy.hub is None else self.policy.hub) / 2
        return max(0.0, slow - self.waited) if link.connecting else 0.0

    def on_accepted(self, grant: ports.Accepted) -> Observable[JobEvent]:
        branch: Branch = "offline" if self.offline else "online"
        return of(Granted(branch, self.waited, grant.gpu, grant.url, grant.position))

    def on_online(self, notice: ports.OnlineNotice) -> Observable[JobEvent] | None:
        return self.on_accepted(ports.Accepted(notice.gpu, notice.url)) if self.offline else None

    def on_offline(self, reply: ports.OfflineReply) -> Observable[JobEvent]:
        self.offline, self.offline_at = reply, seconds_now(self.time)
        self._count_unpaid(self.offline_at if reply.phase == BUDGET else None)
        self._plan_retry(reply.retry_in)
        # A reason is shown at once and stays: without help from outside, this job may wait without end.
        lines = self._lines(reply.phase, reply.reason, always=True) if reply.reason else self._waking(reply.phase)
        return self._or_worker_ready(lines, settle=SETTLE).pipe(
            start_with(Queued(reply.position, reply.phase, reply.eta, reply.until, reply.retry_in))
        )

    def _plan_retry(self, after: float | None) -> None:
        self.retry_at = None if after is None else seconds_now(self.time) + after

    def on_power(self, notice: ports.PowerNotice) -> Observable[JobEvent] | None:
        if self.offline is None or self.offline.phase == BUDGET:  # the news is of a GPU that this job may not use yet
            return None
        if notice.phase == NO_CAPACITY:
            self._plan_retry(notice.retry_in)
        lines = self._lines(notice.phase, notice.reason, always=notice.phase in HALTED)
        return self._or_worker_ready(lines, settle=SETTLE)

    def on_busy(self, reply: ports.Busy) -> Observable[JobEvent]:
        if reply.own and not self._may_ask_worker:
            return self.on_accepted(ports.Accepted())
        if reply.own:  # an earlier submit was accepted; only the worker can say whether it is on
            lines, pause, ask = self._waking("booting"), self.policy.lost, True
        else:
            self.refusals += 1
            pause, ask = PAUSES[min(self.refusals, len(PAUSES)) - 1], self.refusals > 1
            lines = self._busy_lines(pause)
        again = rx.timer(pause).flat_map(lambda _: self.on_free() or never())
        waiting = first_success(lines, again, dropped=_raised)
        return self._or_worker_ready(waiting, line=not reply.own) if ask else waiting

    def _busy_lines(self, pause: float) -> Observable[JobEvent]:
        def line(passed: float) -> JobEvent:
            left = max(0.0, pause - passed)
            return Waking(self.waited, "busy", eta=Eta(left, left))

        return interval(self.policy.line_every, line).pipe(start_with(line(0.0)))

    def on_free(self, _: ports.Free | None = None) -> Observable[JobEvent] | None:
        return None if self.link is None else self.on_link_up(self.link)

    def on_refused(self, reply: ports.Refused) -> NoReturn:
        # Raised, not emitted, so that no later reply in the same turn of the loop can replace it.
        raise HubRefused(reply.reason, code=reply.code)

    def on_boot_failure(self, reply: ports.BootFailure) -> NoReturn:
        raise BootFailed(reply.reason)

    @property
    def _may_ask_worker(self) -> bool:
        known = self.policy.straight is not None and self.workers is not None
        return known and (self.link is None or GRANT not in self.link.features)

    def _or_worker_ready(
        self, waiting: Observable[JobEvent], after: float = 0.0, settle: float = 0.0, *, line: bool = True
    ) -> Observable[JobEvent]:
        """`waiting`, or the grant when the worker itself is ready, if no hub can grant the GPU."""
        if not self._may_ask_worker or self.policy.straight is None:
            return waiting
        checks = from_async(self._is_ready, "health").pipe(poll(self.policy.straight, bool))
        late = rx.timer(after).flat_map(lambda _: checks) if after else checks
        straight = late.pipe(ops.filter(bool), ops.flat_map(lambda _: self._go_on(settle, line=line)))
        return first_success(waiting, straight, dropped=_raised)

    def _go_on(self, settle: float, *, line: bool) -> Observable[JobEvent]:
        def go(_: Any) -> Observable[JobEvent]:
            first = [self._line("straight")] if line else []
            return self.on_accepted(ports.Accepted()).pipe(start_with(*first))

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
        # The files are hashed while the GPU starts; one that cannot be read ends the wait.
        return lines.pipe(merge_errors(self.fingerprints.of(EVERY_ALGORITHM))) if self.offline else lines

    def _line(self, phase: str, why: str = "") -> JobEvent:
        reply, now = self.offline or ports.OfflineReply(), seconds_now(self.time)
        until = reply.until if phase == reply.phase else None
        eta = _left(reply.eta, now - self.offline_at)
        again = phase == NO_CAPACITY and self.retry_at is not None
        retry_in = max(0.0, (self.retry_at or 0.0) - now) if again else None
        return Waking(now - self.started, phase, reply.position, eta, why, until, retry_in)


_CASES: Mapping[type, Callable[[_Wait, Any], Observable[JobEvent] | None]] = {
    ports.LinkUp: _Wait.on_link_up,
    ports.LinkDown: _Wait.on_link_down,
    ports.Accepted: _Wait.on_accepted,
    ports.OfflineReply: _Wait.on_offline,
    ports.PowerNotice: _Wait.on_power,
    ports.OnlineNotice: _Wait.on_online,
    ports.Refused: _Wait.on_refused,
    ports.Busy: _Wait.on_busy,
    ports.Free: _Wait.on_free,
    ports.BootFailure: _Wait.on_boot_failure,
}
"""What to do after each type of reply."""


def _raised(_: int, error: Exception) -> NoReturn:
    """An error of either side ends the wait."""
    raise error


def _left(eta: Eta | None, elapsed: float) -> Eta | None:
    return eta and Eta(max(0.0, eta.p50 - elapsed), max(0.0, eta.p90 - elapsed))
