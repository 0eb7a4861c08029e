"""Ask the hub for a GPU, and what is known while the job waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from reactivex import Observable
from reactivex.abc import SchedulerBase

from wakestream.operators.model import ports
from wakestream.operators.model.errors import BootFailed, HubRefused, HubUnreachable
from wakestream.operators.model.events import Branch, Eta, Fingerprint, Granted, Job, JobEvent, Queued, Waking
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.core.scheduler import seconds_now
from wakestream.operators.rx.each import Operator
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.sources import merge_errors, never, of, start_with
from wakestream.operators.stages.fingerprint import EVERY_ALGORITHM, Fingerprints

LATE_HASHES = "late_hashes"
"""The hub's feature: a submit may come before the files are hashed."""

QUEUE = "queue"
"""The hub's feature: it gives a job a GPU when its turn comes, and tells its place again."""

BUDGET = "budget"
"""The phase of a job that waits until its hub may spend money again. Until then the wait has no time limit."""

NO_CAPACITY = "no_capacity"
"""The phase of a job whose GPU the provider cannot give at present; the monitor asks again."""

IN_LINE = "queued"
"""The phase of a job whose GPU is on and does other jobs first. The wait for a start has no time limit then."""

HALTED = ("not_ready", "paused")
"""The phases of a job whose GPU is on, but whose worker begins no tasks: see `gpu.worker.state`."""

EXCUSED = (BUDGET, IN_LINE)
"""The phases that do not count as a wait for the GPU."""

UNASKED = "unasked"
"""Why the time does not count until the job has asked a hub: `Policy.hub` limits that, and None is no limit."""

Answer = Callable[["Wait", Any], Observable[JobEvent] | None]
Answers = Mapping[type, Answer]
"""What follows from each type of reply; see `switch_by_type`."""


@dataclass(slots=True, eq=False)
class Wait:
    """One wait for the GPU: what the hub said so far, and the lines that a person sees.

    Attributes:
        job: The job.
        hub: Who is asked.
        fingerprints: The hashes of the job's files. They are computed while the GPU starts.
        policy: `line_every` is the interval of `Waking`, `hub` limits how long a hub may be unreachable at first.
        workers: The workers, for a job that can run without the hub.
        time: The clock.
    """

    job: Job
    hub: ports.Hub
    fingerprints: Fingerprints
    policy: Policy
    workers: ports.Workers | None
    time: SchedulerBase
    answers: Answers = field(init=False)
    started: float = field(init=False)
    down: float = field(init=False)
    offline_at: float = field(init=False)
    link: ports.LinkUp | None = None
    offline: ports.OfflineReply | None = None
    retry_at: float | None = None
    refusals: int = 0
    answered: bool = False
    excuses: frozenset[str] = frozenset({UNASKED})
    excused_before: float = 0.0
    excused_since: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.down = self.offline_at = self.excused_since = seconds_now(self.time)

    @property
    def reached(self) -> bool:
        """Whether the job has asked a hub."""
        return UNASKED not in self.excuses

    @property
    def replies(self) -> Observable[ports.Reply]:
        """What the hub says to this job: a hot observable."""
        return self.hub.replies(self.job)

    def follow(self, answers: Answers) -> Wait:
        """Choose what follows from a reply in this table; see `switch_by_type`."""
        self.answers = answers
        return self

    def get(self, kind: type, /) -> Callable[[Any], Observable[JobEvent] | None] | None:
        """The function for a type of reply: from one table for all jobs, because many wait."""
        case = self.answers.get(kind)
        return None if case is None else partial(case, self)

    @property
    def waited(self) -> float:
        """Seconds since the wait began."""
        return seconds_now(self.time) - self.started

    @property
    def hub_left(self) -> float:
        """Seconds in which a hub must be reached; infinite after it was."""
        return math.inf if self.reached or self.policy.hub is None else max(0.0, self.policy.hub - self.waited)

    def excused(self) -> float:
        """Seconds so far in which no hub was asked yet, or the hub said that the budget is spent, or that other jobs
        come first, or in which files went to the depot.

        The hub cannot say so while it is lost.
        """
        going = 0.0 if self.excused_since is None else seconds_now(self.time) - self.excused_since
        return self.excused_before + going

    def ask(self, link: ports.LinkUp, around: Operator) -> Observable[JobEvent]:
        """`gpu.job.submit`, with the hashes if the hub needs them; `around` surrounds the wait for the hub's reply."""
        self.link, self.answered = link, False
        self.excuse(UNASKED, excused=False)

        def send(files: Sequence[Fingerprint]) -> Observable[JobEvent]:
            self.hub.submit(self.job, files)
            return around(never())

        if LATE_HASHES in link.features:
            return send(())
        return self.fingerprints.of(EVERY_ALGORITHM).flat_map(lambda taken: send(taken.files))

    def granted(self, grant: ports.Accepted) -> Observable[JobEvent]:
        """`ack`: the wait is over."""
        branch: Branch = "offline" if self.offline else "online"
        return of(Granted(branch, self.waited, grant.gpu, grant.url, grant.position))

    def online(self, notice: ports.OnlineNotice) -> Observable[JobEvent] | None:
        """`gpu.power.online`, which grants a job that was queued: the first one ends the wait."""
        return self.granted(ports.Accepted(notice.gpu, notice.url)) if self.offline else None

    def queued(self, reply: ports.OfflineReply) -> Observable[JobEvent] | None:
        """`gpu.power.offline` or `gpu.job.queued`: lines about the wait, without end."""
        before, self.offline, self.offline_at = self.offline, reply, seconds_now(self.time)
        self.excuse("hub", excused=reply.phase in EXCUSED)
        if self.answered and self.link and QUEUE in self.link.features and before and _same(before, reply):
            return None  # such a hub says it again: the lines go on, with the new times
        self.answered = True
        self._plan_retry(reply.retry_in)
        # A reason is shown at once and stays: without help from outside, this job may wait without end.
        told = bool(reply.reason) and reply.phase != IN_LINE
        lines = self.lines(reply.phase, reply.reason, always=True) if told else self.waking(reply.phase, reply.reason)
        return lines.pipe(start_with(Queued(reply.position, reply.phase, reply.eta, reply.until, reply.retry_in)))

    def power(self, notice: ports.PowerNotice) -> Observable[JobEvent] | None:
        """The GPU's state: other lines about the wait."""
        if not self.answered or self.offline is None or self.offline.phase in EXCUSED:
            return None  # it waits for the hub's answer, or for another GPU than this is about
        if notice.phase == NO_CAPACITY:
            self._plan_retry(notice.retry_in)
        return self.lines(notice.phase, notice.reason, always=notice.phase in HALTED)

    def hub_down(self, link: ports.LinkDown) -> Observable[JobEvent]:
        """Lines about a hub that is not connected."""
        if link.code is not None:
            raise HubRefused(link.reason, code=link.code)
        if self.link is not None:
            self.link, self.down = None, seconds_now(self.time)
            self.excuse("hub", excused=False)
        if link.asked:
            self.excuse(UNASKED, excused=False)
        unreached = "connecting" if link.connecting else "hub_unreachable"
        phase = "hub_lost" if self.reached else unreached
        # An unreachable hub has no other details, so every line has the reason.
        return self.lines(phase, "" if link.connecting else link.reason, always=phase == "hub_unreachable")

    def refused(self, reply: ports.Refused) -> NoReturn:
        """The hub refuses the job."""
        # Raised, not emitted, so that no later reply in the same turn of the loop can replace it.
        raise HubRefused(reply.reason, code=reply.code)

    def boot_failed(self, reply: ports.BootFailure) -> NoReturn:
        """The GPU did not start."""
        raise BootFailed(reply.reason)

    def lines(self, phase: str, why: str, *, always: bool = False) -> Observable[JobEvent]:
        """A line now, and one at each interval; `why` is in the first one or in all."""
        return self.waking(phase, why if always else "").pipe(start_with(self.line(phase, why)))

    def waking(self, phase: str, why: str = "") -> Observable[JobEvent]:
        """A line at each interval."""
        lines = interval(self.policy.line_every, lambda _: self.line(phase, why))
        if not self.offline:
            return lines
        # The files are hashed while the GPU starts; one that cannot be read ends the wait.
        return lines.pipe(merge_errors(self.fingerprints.of(EVERY_ALGORITHM)))

    def line(self, phase: str, why: str = "") -> JobEvent:
        """What is known now."""
        reply, now = self.offline or ports.OfflineReply(), seconds_now(self.time)
        until = reply.until if phase == reply.phase else None
        eta = _left(reply.eta, now - self.offline_at)
        again = phase == NO_CAPACITY and self.retry_at is not None
        retry_in = max(0.0, (self.retry_at or 0.0) - now) if again else None
        return Waking(now - self.started, phase, reply.position, eta, why, until, retry_in)

    def excuse(self, why: str, *, excused: bool) -> None:
        """From now on, the time of the wait does not count for this reason, or does so again."""
        self.excused_before = self.excused()
        self.excuses = self.excuses | {why} if excused else self.excuses - {why}
        self.excused_since = seconds_now(self.time) if self.excuses else None

    def _plan_retry(self, after: float | None) -> None:
        self.retry_at = None if after is None else seconds_now(self.time) + after


def raised(_: int, error: Exception) -> NoReturn:
    """For `first_success`: an error of either side ends the wait."""
    raise error


def unreachable(link: ports.LinkDown) -> Callable[[str, float], Exception]:
    """The error of a hub that was not reached in time."""
    return lambda _stage, _seconds: HubUnreachable(link.reason)


def _same(before: ports.OfflineReply, now: ports.OfflineReply) -> bool:
    if (before.phase, before.position, before.until) != (now.phase, now.position, now.until):
        return False
    return now.phase == IN_LINE or before.reason == now.reason


def _left(eta: Eta | None, elapsed: float) -> Eta | None:
    return eta and Eta(max(0.0, eta.p50 - elapsed), max(0.0, eta.p90 - elapsed))
