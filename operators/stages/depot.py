"""Put a job's files into the depot while it waits, watch what becomes of it, and fetch its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model import depot as d
from wakestream.operators.model.errors import DepotError, FileError, StageTimeout, TaskFailed
from wakestream.operators.model.events import (
    Delivered,
    FileRef,
    Fingerprint,
    Fingerprinted,
    Job,
    JobEvent,
    Note,
    Remote,
    Stored,
    Storing,
    Waking,
)
from wakestream.operators.model.ports import Accepted, Hub, LinkDown, LinkUp, OfflineReply, Output, Refused, TaskReport
from wakestream.operators.rx.all_done import all_done
from wakestream.operators.rx.core.observable import LightObservable, ignore, subscribe_through
from wakestream.operators.rx.core.scheduler import clock, seconds_now
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.of_type import of_type
from wakestream.operators.rx.sources import merge_errors, never, of, start_with, throw
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.stages.download import Results
from wakestream.operators.stages.fingerprint import EVERY_ALGORITHM
from wakestream.operators.stages.submit import UNASKED, Answers, Wait, raised
from wakestream.operators.stages.upload import bytes_sent

TOGETHER = 4
"""Files that are put at one time."""

AT_ONCE = 0.05
"""Seconds between two rounds of `store`."""

SETTLED, FIRST, EVERY = 0.25, 1.0, 2.0
"""Seconds until the rate is measured (the first bytes only fill the way), for the first report to the hub, and from
then on: a machine that is woken too early waits and costs."""

ASK_EVERY = 300.0
"""Seconds after which the hub is asked again what became of a stored job: what it said may not have come."""

MOST_LOST = 3
"""How often the depot may lack what was put into it."""


class _Unusable(DepotError, retryable=False):
    """The hub says that the depot cannot be used for this job."""


def with_depot(wait: Wait, depot: Callable[[Fingerprinted], Observable[JobEvent]] | None) -> Operator:
    """Beside the wait for a GPU, put the files into the depot, whatever the hub says meanwhile.

    It begins when a hub with a depot has queued the job. What completes first ends the wait: the grant, or `depot`
    (after an earlier run, also `Stored` or `Delivered` at once). If `depot` fails, a `Note` says so, and the job goes
    the direct way; at the next connection the depot is tried again.

    Example:
        >>> wait.replies.pipe(switch_by_type(wait.follow(ANSWERS)), with_depot(wait, stages.depot))

    Args:
        wait: The wait.
        depot: The stage from `Fingerprinted` to `Stored`; None: the direct way.

    Returns:
        An operator function for the wait's events.
    """
    if depot is None:
        return lambda source: source
    beside = _Beside(wait, depot)
    cases: dict[type, Callable[[Any], Observable[JobEvent] | None]] = {
        LinkUp: beside.again,
        OfflineReply: beside.begin,
        Stored: beside.stored,
        d.InDepotDone: partial(delivered, wait),
    }
    return lambda source: first_success(source, wait.replies.pipe(switch_by_type(cases)), dropped=raised)


@dataclass(slots=True, eq=False)
class _Beside:
    wait: Wait
    depot: Callable[[Fingerprinted], Observable[JobEvent]]
    begun: bool = False

    def again(self, _: LinkUp) -> None:
        self.begun = self.begun and d.FEATURE in self.wait.excuses

    def begin(self, reply: OfflineReply) -> Observable[JobEvent] | None:
        link = self.wait.link
        if self.begun or link is None or not (reply.depot or d.FEATURE in link.features):
            return None
        self.begun = True
        self.wait.excuse(d.FEATURE, excused=True)
        hashed = self.wait.fingerprints.of(EVERY_ALGORITHM)
        return hashed.pipe(ops.flat_map(self.depot), ops.catch(self.failed))

    def stored(self, reply: Stored) -> Observable[JobEvent] | None:
        return None if d.FEATURE in self.wait.excuses else of(reply)

    def failed(self, error: Exception, _: object) -> Observable[JobEvent]:
        self.wait.excuse(d.FEATURE, excused=False)
        if isinstance(error, FileError):
            return throw(error)
        if self.wait.link is None:  # perhaps this machine's network: it goes on with the next connection
            self.begun = False
            return never()
        self.wait.hub.depot(self.wait.job, "withdraw")
        why = str(error)
        if isinstance(error, StageTimeout):
            why = f"it took no byte for {error.seconds:g} s"
        text = f"the depot is not used: {why}; the files go straight to the GPU machine, so this PC must stay on"
        return never().pipe(start_with(Note(text, {"direct": getattr(error, "code", "error"), "why": why})))


def store(job: Job, hub: Hub, depot: d.Depot | None) -> Effect[JobEvent]:
    """The stage from `Fingerprinted` to `Stored`: put into the depot what it lacks.

    A call is a round: tell the hub what the files are, and put those that it says are missing; or, once all are there,
    tell it so. The rounds end with `Stored`.

    Example:
        >>> each(store(job, world.hub, world.depot), retry(policy.call, bytes_stored), poll(AT_ONCE, is_stored))

    Args:
        job: The job.
        hub: Says where the files are put.
        depot: Puts them there.

    Returns:
        The stage, for `each`. Its calls may raise `FileChanged`, and `DepotError` and all else for which the job goes
        the direct way.
    """

    def stage(taken: Fingerprinted, around: Operator) -> Observable[JobEvent]:
        def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
            upload = _Upload(job, hub, depot, taken, clock(scheduler))
            return subscribe_through(around(rx.defer(upload.round)), observer, scheduler)

        return LightObservable(subscribe)

    return stage


def offered(job: Job, taken: Fingerprinted) -> list[d.DepotFile]:
    """The files of a job as the hub knows them."""
    named = zip(job.inputs, taken.files, strict=True)
    return [d.DepotFile(name, file.digests["blake3"], file.ext, file.size) for name, file in named]


def bytes_stored(event: JobEvent) -> int:
    """How much the depot has, as the calls of `store` say it."""
    return event.bytes if isinstance(event, Storing) else 0


def is_stored(event: JobEvent) -> bool:
    """Whether all files are in the depot."""
    return isinstance(event, Stored)


@dataclass(slots=True, eq=False)
class _Upload:
    """The upload of one job: `at` is how much of each file the depot has; `sent` are the bytes sent."""

    job: Job
    hub: Hub
    depot: d.Depot | None
    taken: Fingerprinted
    time: SchedulerBase
    files: dict[FileRef, Fingerprint] = field(init=False)
    at: dict[FileRef, int] = field(default_factory=dict)
    lane: Limiter = field(default_factory=lambda: Limiter(TOGETHER))
    sent: int = 0
    lost: int = 0
    told: tuple[float, int] | None = None
    due: float = 0.0

    def __post_init__(self) -> None:
        self.files = {FileRef(file.digests["blake3"], file.ext): file for file in self.taken.files}
        self.due = seconds_now(self.time) + SETTLED

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())

    @property
    def left(self) -> int:
        return self.size - sum(self.at.values())

    def round(self, _: object) -> Observable[JobEvent]:
        return asked(self.hub, self.job, self._say, d.Places, Stored).pipe(ops.flat_map(self._answered))

    def _say(self) -> None:
        if not self.left:
            return self.hub.depot(self.job, "stored")
        return self.hub.offer(self.job, offered(self.job, self.taken))

    def _answered(self, reply: d.Places | Stored) -> Observable[JobEvent]:
        if isinstance(reply, Stored):
            return of(replace(reply, size=self.size))
        if reply.code:
            raise _Unusable(reply.reason or f"the hub says {reply.code}", code=reply.code)
        missing = {ref: place for place in reply.places if not place.have and (ref := _ref(place)) in self.files}
        self.lost += not self.left and bool(missing)
        self.at = {ref: file.size for ref, file in self.files.items()}
        self.at |= {ref: min(place.parted * place.part_size, self.at[ref]) for ref, place in missing.items()}
        linked = [place for place in missing.values() if place.depot or place.url or place.parts]  # others come later
        puts = [self._put(place) for place in linked or missing.values()]  # in a replay with the hub none has a link
        if self.lost > MOST_LOST:
            raise DepotError(f"the depot lacks {len(missing)} files again and again")
        first = Storing(self.size - self.left, self.size)
        return all_done(*puts, join=ignore).pipe(start_with(first)) if puts else of(first)

    def _put(self, place: d.Place) -> Observable[JobEvent]:
        assert self.depot is not None  # noqa: S101 - without one the stage is not begun
        put, ref = self.depot.put, _ref(place)
        file = self.files[ref]

        def event(item: int | d.Resumed) -> JobEvent:
            before, now = self.at[ref], bytes_sent(item)
            self.sent += 0 if isinstance(item, d.Resumed) else max(0, now - before)
            self.at[ref] = now
            self._tell()
            return Storing(self.size - self.left, self.size, file.path.name)

        return from_async(lambda: put(file, place), f"put {file.path.name}").pipe(self.lane.limit()).map(event)

    def _tell(self) -> None:
        """Tell the hub how far it is, from time to time."""
        now = seconds_now(self.time)
        if now >= self.due:
            if self.told is not None:
                since, before = self.told
                self.hub.storing(self.job, self.left, (self.sent - before) / (now - since))
            self.due = now + (FIRST if self.told is None else EVERY)
            self.told = now, self.sent


def _ref(place: d.Place) -> FileRef:
    return FileRef(place.file.blake3, place.file.ext)


def asked(hub: Hub, job: Job, say: Callable[[], None], *kinds: type[Any]) -> Observable[Any]:
    """Say something to the hub at each subscription; one item: the first reply of these kinds."""

    def subscribe(observer: ObserverBase[Any], scheduler: SchedulerBase | None = None) -> DisposableBase:
        answer = hub.replies(job).pipe(of_type(*kinds), ops.take(1)).subscribe(observer, scheduler=scheduler)
        say()
        return answer

    return LightObservable(subscribe)


def watch(wait: Wait, link: LinkUp) -> Observable[JobEvent]:
    """The hub is there again: it gives the job to this connection, and says how far the work is."""
    if wait.reached:
        wait.hub.submit(wait.job)
    wait.link = link
    wait.excuse(UNASKED, excused=False)
    return never()


def asking(wait: Wait) -> Observable[Any]:
    """Ask the hub from time to time what became of a job that it does."""
    return interval(ASK_EVERY, lambda _: wait.hub.depot(wait.job, "query"))


def refused(wait: Wait, reply: Refused) -> None:
    """The hub does not do the job. One that it does not know any more begins again with its submit."""
    if reply.code == "unknown_job":
        raise DepotError("the hub does not know the job any more; it is submitted again")
    wait.refused(reply)


def at_gpu(wait: Wait, reply: Remote) -> Observable[JobEvent]:
    """How far the work is without this program."""
    wait.offline = wait.offline or OfflineReply()  # a later grant is one after a wait
    return never().pipe(start_with(reply))


def waits(wait: Wait, reply: OfflineReply) -> Observable[JobEvent] | None:
    """The job waits for a GPU, or for its turn: lines about it."""
    lines = wait.queued(reply)
    return None if lines is None else lines.pipe(of_type(Waking))


def delivered(_: Wait, reply: d.InDepotDone) -> Observable[JobEvent]:
    """The results are in the depot, or the work failed."""
    if reply.code:
        raise TaskFailed(reply.reason or f"the GPU machine says {reply.code} and no more", code=reply.code)
    return of(Delivered(sum(place.file.size for place in reply.places), reply.gpu))


def gone(wait: Wait, reply: d.Places) -> None:
    """Files are missing in the depot: the job begins again with its submit, and sends them again."""
    if reply.code or not all(place.have for place in reply.places):
        raise DepotError(reply.reason or "files of this job are no longer in the depot; they are sent again")


REMOTE: Answers = {
    LinkUp: watch,
    LinkDown: Wait.hub_down,
    OfflineReply: waits,
    Refused: refused,
    Remote: at_gpu,
    d.InDepotDone: delivered,
    Accepted: Wait.granted,  # by a GPU that needs the files from here: the direct way
    d.Places: gone,
}
"""What follows from each type of reply about a stored job."""


def watched(wait: Wait) -> Observable[JobEvent]:
    """The stage from `Stored` to `Delivered`, or to `Granted` after all: follow what the hub says of the job."""
    return wait.replies.pipe(switch_by_type(wait.follow(REMOTE)), merge_errors(asking(wait)))


def fetch(job: Job, hub: Hub, depot: d.Depot | None) -> Effect[JobEvent]:
    """The stage from `Delivered` to `Done`: each result appears when it is complete and verified, never before.

    A call fetches one file, and asks the hub for new links first if the last ones were used.

    Example:
        >>> each(fetch(job, world.hub, world.depot), retry(policy.call, progress=bytes_received))

    Args:
        job: The job.
        hub: Says where the results are.
        depot: Fetches them.

    Returns:
        The stage, for `each`. It may raise `TaskFailed`: nothing was made that the job wants. Its calls may raise
        `DepotError`, `Corrupt`, `NoSpace`, `FileUnusable`.
    """

    def stage(_: Delivered, around: Operator) -> Observable[JobEvent]:
        links: dict[str, d.Place] = {}

        def ask() -> Observable[d.InDepotDone]:
            def note(done: d.InDepotDone | d.Places) -> None:
                if isinstance(done, d.Places):
                    raise DepotError(done.reason or "the hub has no results of this job in the depot", code=done.code)
                if done.code:
                    raise TaskFailed(done.reason or "the results are no longer in the depot", code=done.code)
                links.update({place.file.name: place for place in done.places})

            return asked(hub, job, lambda: hub.depot(job, "query"), d.InDepotDone, d.Places).pipe(ops.do_action(note))

        def get(path: Path, name: str | None, _: Output | None) -> Observable[JobEvent]:
            return around(rx.defer(partial(attempt, path, name or next(iter(job.outputs)))))

        def attempt(path: Path, name: str, _: object) -> Observable[JobEvent]:
            return found(path, name) if name in links else ask().pipe(ops.flat_map(lambda _: found(path, name)))

        def found(path: Path, name: str) -> Observable[JobEvent]:
            place = links.pop(name, None)
            if place is None or depot is None:
                raise DepotError(f"the hub knows no result {name} of this job in the depot")
            return from_async(lambda: depot.get(place, path), f"get {name}")

        def made(done: d.InDepotDone) -> Observable[JobEvent]:
            files = (place.file for place in done.places)
            outputs = tuple(Output(file.name, file.ext, file.size, file.blake3) for file in files)
            return Results(job.outputs, get).made(TaskReport("done", outputs=outputs))

        return around(ask()).pipe(ops.flat_map(made))

    return stage
