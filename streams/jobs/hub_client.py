"""The hub as jobs see it: wire messages in, the pipeline's words out, each to the job that it concerns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from reactivex import Observable, abc

from wakestream.operators.model.events import Eta, Fingerprint, Job
from wakestream.operators.model.ports import (  # fmt: skip
    Accepted,
    BootFailure,
    Busy,
    Free,
    LinkDown,
    LinkUp,
    OfflineReply,
    OnlineNotice,
    PowerNotice,
    Refused,
    Reply,
)
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.streams.jobs.hub_news import HubEvent as Event
from wakestream.streams.jobs.keyed_subject import Fault, KeyedSubject
from wakestream.streams.protocol import messages as m

Send = Callable[[m.Message], bool]
Answer = tuple[Reply, str | None]


RELEASED = "released"
"""The hub's feature: it confirms that the end of a job is kept."""

FEATURES = ("done", "power_state", "power_now", "capability", RELEASED)
"""What a client of ours announces: it says when a job is done and wants that confirmed, wants to hear how each GPU is
and of each change of power, and can show a capability to the worker."""

ACCESS_LACKS = (
    "no secret for it is set; set HEYGEM_API_SECRET in the environment or in .env to the one that the worker runs with"
    ", or write HEYGEM_API_SECRET= into .env where it runs with none"
)

NEWS = frozenset({"starting", "booted", "no_capacity", "draining", "stopping"})
"""Power states that those who wait are told of."""


class HubClient:
    """Implements the port `Hub` on a link's events and its `send`. Feed it every event of the link.

    A job that was granted is named to a restarted hub again (its lease lives in the hub's memory) until `release`,
    where the hub announced that it grants each job by itself; older hubs would start the job twice. `name` is what the
    user calls the hub, `needs` what the hub must announce: without a secret for the worker, no GPU is woken for a job
    that could not use it. With `traced`, a submit tells the trace that the job belongs to; with `lasting`, an earlier
    run of the program may have asked for a job, so each is released, also one that this run never asked for.
    `on_released` is told of each job whose end the hub keeps; where a hub confirms nothing, of each whose end was said.
    """

    def __init__(
        self,
        send: Send,
        on_fault: Fault,
        name: str = "the hub",
        needs: frozenset[str] = frozenset(),
        *,
        traced: bool = False,
        lasting: bool = False,
    ) -> None:
        self._send = send
        self._needs = needs
        self._traced = traced
        self._lasting = lasting
        self._board: KeyedSubject[Reply] = KeyedSubject(on_fault)
        self._link: LinkUp | LinkDown = LinkDown(f"{name}: no answer", connecting=True)
        self._grants = False
        self._asked: dict[str, m.Submit] = {}
        self._granted: set[str] = set()
        self._refused: dict[str, None] = {}  # by a hub that is busy: they take turns, in this order
        self._ended: str | None = None
        self._pending: dict[str, m.Message] = {}
        self._unconfirmed: dict[str, m.Message] = {}  # and not yet confirmed: said again at the next connection
        self._leaving = False
        self.on_released: Callable[[str], object] = lambda _: None

    def feed(self, event: Event) -> None:
        """One event of the link."""
        if isinstance(event, LinkUp) or isinstance(event, LinkDown):  # noqa: SIM101 - each message comes by: a union is slow
            self._linked(event)
            return
        if self._unconfirmed and isinstance(event, m.JobReleased | m.Error):
            self._confirmed(event.request_id or "")
        if isinstance(event, m.Result) and self._refused:
            self._freed(event.request_id)
        answer = reply_to(event, grants=self._grants)
        if answer is not None:
            reply, request_id = answer
            if request_id in self._asked and isinstance(reply, Accepted):
                self._granted.add(request_id)
            if request_id is not None and isinstance(reply, Busy) and not reply.own:
                self._refused[request_id] = None
            self._board.feed(reply, request_id)

    def _freed(self, request_id: str) -> None:
        """Any result lets an old hub take the key's next job. It comes under both its names, and counts once."""
        if request_id != self._ended:
            self._ended = request_id
            self._board.feed(Free(), next(iter(self._refused)))

    def _confirmed(self, request_id: str) -> None:
        if self._unconfirmed.pop(request_id, None) is not None:
            self.on_released(request_id)

    @property
    def features(self) -> frozenset[str]:
        """What the connected hub announced; empty while there is none."""
        return self._link.features if isinstance(self._link, LinkUp) else frozenset()

    @property
    def waiting(self) -> tuple[Hashable, ...]:
        """The ids of the jobs that listen, oldest first."""
        return self._board.keys

    def _linked(self, event: LinkUp | LinkDown) -> None:
        self._link = event
        self._grants = "grant" in self.features
        self._pending, self._unconfirmed = {**self._unconfirmed, **self._pending}, {}
        self._settle()
        self._board.feed(event, None)
        if self._grants:
            for request_id in sorted(self._granted):
                self._send(self._asked[request_id])

    def replies(self, job: Job) -> Observable[Reply]:
        """See `Hub.replies`."""

        def subscribe(observer: abc.ObserverBase[Reply], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            waiting = self._board.listen(job.id, observer.on_next)
            observer.on_next(self._link_of(job))
            return waiting

        return LightObservable(subscribe)

    def _link_of(self, job: Job) -> LinkUp | LinkDown:
        if isinstance(self._link, LinkDown) and job.id in self._asked:
            return replace(self._link, asked=True)
        return self._link

    def submit(self, job: Job, files: Sequence[Fingerprint] = ()) -> None:
        """See `Hub.submit`."""
        if isinstance(self._link, LinkUp) and not self._needs <= self.features:
            self._board.feed(Refused(f"the hub gives no access to the worker, and {ACCESS_LACKS}", "no_secret"), job.id)
            return
        self._granted.discard(job.id)
        self._refused.pop(job.id, None)
        self._pending.pop(job.id, None)
        self._unconfirmed.pop(job.id, None)
        trace = trace_of(job.id) if self._traced else None
        self._asked[job.id] = m.Submit(
            request_id=job.id, trace_id=trace, task_type=job.task_type, payload=payload(job, files)
        )
        self._send(self._asked[job.id])

    def release(self, job: Job, *, cancelled: bool = False) -> None:
        """See `Hub.release`. What cannot be said now is said at the next connection; hubs that know no such message
        are not told."""
        if self._leaving:
            return
        self._granted.discard(job.id)
        self._refused.pop(job.id, None)
        if self._asked.pop(job.id, None) is not None or self._lasting:
            self.end_job(job.id, cancelled=cancelled)

    def end_job(self, job_id: str, *, cancelled: bool) -> None:
        """Say that a job needs no GPU any more, also one that an earlier run of this program asked for."""
        self._pending[job_id] = m.Cancel(request_id=job_id) if cancelled else m.JobDone(request_id=job_id)
        self._settle()

    def stop_releasing(self) -> None:
        """The program ends, and its jobs go on when it starts again: from now on nothing is released."""
        self._leaving = True

    def _settle(self) -> None:
        """Say what is owed to the hub, if there is one."""
        if not isinstance(self._link, LinkUp):
            return
        for request_id, message in tuple(self._pending.items()):
            known = ("cancel" if isinstance(message, m.Cancel) else "done") in self.features
            if not known or self._send(message):
                del self._pending[request_id]
                if RELEASED in self.features:
                    self._unconfirmed[request_id] = message
                else:
                    self.on_released(request_id)


def trace_of(job_id: str) -> str:
    """The trace that a job belongs to, as W3C writes it: 32 hex digits, the same wherever and whenever it is run."""
    return hashlib.sha256(job_id.encode(errors="surrogatepass")).hexdigest()[:32]


def payload(job: Job, files: Sequence[Fingerprint]) -> dict[str, str]:
    """What a submit says of the files; the hashes are MD5, as all hubs and workers know them, where they are known."""
    said = {"video_ext": job.video.suffix.lower(), "audio_ext": job.audio.suffix.lower()}
    if files:
        video, audio = files
        said |= {"video_hash": video.digests["md5"], "audio_hash": audio.digests["md5"]}
    return said


def reply_to(message: m.Message, *, grants: bool) -> Answer | None:
    """What a message means to jobs, and to which (None: to all). `grants`: the hub acks every job by itself."""
    match message:
        case m.Ack():
            return Accepted(message.gpu, message.url, message.position), message.request_id
        case m.Offline():
            return OfflineReply(message.phase or "booting", message.position, _eta(message)), message.request_id
        case m.Online():
            return None if grants else (OnlineNotice(message.gpu, message.url), None)
        case m.Booted():
            return PowerNotice("booted"), None
        case m.PowerState(present=None) if message.state in NEWS:
            return PowerNotice(message.state), None
        case m.BootResult(success=False):
            return BootFailure(message.msg or f"the GPU could not be started ({message.status or 'failed'})"), (
                message.request_id
            )
        case m.Error(request_id=str(request_id)):
            return _refusal(message, request_id), request_id
    return None


def _refusal(error: m.Error, request_id: str) -> Reply:
    if error.old_request_id is not None:
        return Busy(own=error.old_request_id == request_id)
    return Refused(error.text, error.code or "refused")


def _eta(message: m.Offline) -> Eta | None:
    seconds = message.eta_s or {}
    p50, p90 = seconds.get("p50"), seconds.get("p90")
    if isinstance(p50, int | float) and isinstance(p90, int | float):
        return Eta(float(p50), float(p90))
    return None
