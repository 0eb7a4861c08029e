"""The port `Hub` of the jobs: turns wire messages into replies, and delivers each to its job."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Literal

from reactivex import Observable, abc
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model import ports
from wakestream.operators.model.depot import DepotFile
from wakestream.operators.model.events import GPU_CHOICE, INPUTS, PRIORITY, REQUIRES, Fingerprint, Job, Remote, Stored
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.streams.jobs.hub_replies import reply_to
from wakestream.streams.jobs.keyed_subject import Fault, KeyedSubject
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.kinds import KINDS, submit_fields

HubEvent = m.Message | LinkUp | LinkDown
"""`LinkUp`, every message in between, and `LinkDown` at each loss and each attempt that failed."""


class HubNews(KeyedSubject[HubEvent]):
    """Emits first the present `LinkUp` or `LinkDown` and the last `PowerState` of each GPU, then every event.

    `stops_in` of such an earlier `PowerState` counts from the time when it came.

    Example:
        >>> news = HubNews(on_fault=lambda error, item: logger.error(error))
        >>> news.subscribe(print)

    Args:
        on_fault: Is called with the error and the item when an observer raises.
    """

    def __init__(self, on_fault: Fault) -> None:
        super().__init__(on_fault)
        self._link: LinkUp | LinkDown | None = None
        self._power: dict[str, m.PowerState] = {}

    def _deliver(self, item: HubEvent, key: Hashable | None) -> None:
        if isinstance(item, m.PowerState):
            self._power[item.gpu] = item
        elif isinstance(item, LinkUp) or isinstance(item, LinkDown):  # noqa: SIM101 - called for each message: a union is slow
            self._link = item
            self._power.clear()
        super()._deliver(item, key)

    def _listen(
        self, observer: abc.ObserverBase[HubEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        listener = super()._listen(observer, scheduler)
        delivering, self._feeding = self._feeding, True  # what is fed meanwhile comes after these
        link = () if self._link is None else (self._link,)
        try:
            for item in (*link, *self._power.values()):
                observer.on_next(item)
        except Exception:
            listener.dispose()
            raise
        finally:
            self._feeding = delivering
            if not delivering:
                self._deliver_queued()
        return listener


Send = Callable[[m.Message], bool]


RELEASED = "released"
"""The hub's feature: it confirms that it has written the end of a job to disk."""

FEATURES = (
    "done",
    "power_state",
    "power_now",
    "capability",
    RELEASED,
    INPUTS,
    KINDS,
    m.WorkerState.FEATURE,
    GPU_CHOICE,
    m.JobQueued.FEATURE,
    REQUIRES,
    PRIORITY,
)
"""What a client announces: it reports the end of a job and expects a confirmation, it wants the power state of each
GPU and each change of it, and it can send a capability to the worker."""

ACCESS_LACKS = (
    "no secret for it is set; set HEYGEM_API_SECRET in the environment or in .env to the one that the worker runs with"
    ", or write HEYGEM_API_SECRET= into .env where it runs with none"
)

_OLD_HUB = "the hub knows only jobs of a video and an audio file, not the kind {kind}; update the hub first"
_NO_LABELS = "the hub has an earlier version and knows no requirements; update it, or leave --requires out"

MOST_ORDERED = 200
"""The most jobs whose order the hub gets: those that come first."""


class HubClient:
    """Implements the port `Hub` on a connection. Feed it every event of the connection.

    A granted job is submitted again to a restarted hub (which holds its leases in memory) until `release`, if the hub
    announced `grant`; older hubs would start the job twice.

    Example:
        >>> client = HubClient(send, on_fault=lambda error, item: logger.error(error))
        >>> client.feed(LinkUp())

    Args:
        send: Sends a message; returns False if there is no connection.
        on_fault: Is called with the error and the item when a job's observer raises.
        name: What the user calls the hub, for messages.
        needs: The features that the hub must announce. Without a secret for the worker, for example, no GPU is started
            for a job that could not use it.
        traced: Whether a submit has the id of the job's trace.
        lasting: Whether an earlier run of the program may have submitted jobs, so that `release` also reports the end
            of a job that this run has not submitted.
        local: Whether the hub runs on this machine, which then must stay on.

    Attributes:
        on_released: Is called with the id of each job whose end the hub has confirmed. If the hub does not confirm, it
            is called when the end was sent.
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
        local: bool = False,
    ) -> None:
        self._send = send
        self._local = local
        self._needs = needs
        self._traced = traced
        self._lasting = lasting
        self._replies: KeyedSubject[ports.Reply] = KeyedSubject(on_fault)
        self._link: ports.LinkUp | ports.LinkDown = ports.LinkDown(f"{name}: no answer", connecting=True)
        self._grants = False
        self._submitted: dict[str, m.Submit] = {}
        self._granted: set[str] = set()
        self._at_depot: dict[str, m.Message] = {}  # what each new connection gets of a job
        self._refused: dict[str, None] = {}  # by a busy hub; they ask again in this order
        self._ended: str | None = None
        self._pending: dict[str, m.Message] = {}
        self._unconfirmed: dict[str, m.Message] = {}  # sent, not yet confirmed: sent again at the next connection
        self._stopped = False
        self.on_released: Callable[[str], object] = lambda _: None

    def feed(self, event: HubEvent) -> None:
        """Handle one event of the connection."""
        if isinstance(event, ports.LinkUp) or isinstance(event, ports.LinkDown):  # noqa: SIM101 - called for each message: a union is slow
            self._on_link(event)
            return
        if self._unconfirmed and isinstance(event, m.JobReleased | m.Error):
            ended = event.request_id or ""
            if self._unconfirmed.pop(ended, None) is not None:
                self.on_released(ended)
        # After any result, an old hub accepts the key's next job. The result comes under two names and counts once.
        if self._refused and isinstance(event, m.Result) and event.request_id != self._ended:
            self._ended = event.request_id
            self._replies.feed(ports.Free(), next(iter(self._refused)))
        answer = reply_to(event, grants=self._grants)
        if answer is not None:
            reply, request_id = answer
            if isinstance(reply, ports.OfflineReply) and reply.depot and isinstance(self._link, LinkUp):
                self._link = replace(self._link, features=self._link.features | {d.FEATURE})  # it came after the link
            if self._local and isinstance(reply, Stored | Remote):
                reply = replace(reply, local=True)
            if request_id in self._submitted and isinstance(reply, ports.Accepted):
                self._granted.add(request_id)
                self._at_depot.pop(request_id, None)
            if request_id in self._submitted and isinstance(reply, Stored):
                self._at_depot[request_id] = d.DepotQuery(request_id=request_id)
            if request_id is not None and isinstance(reply, ports.Busy) and not reply.own:
                self._refused[request_id] = None
            self._replies.feed(reply, request_id)

    @property
    def features(self) -> frozenset[str]:
        """The features of the connected hub; empty without a connection."""
        return self._link.features if isinstance(self._link, ports.LinkUp) else frozenset()

    @property
    def owes(self) -> bool:
        """Whether the hub does not know yet that a job has ended."""
        return bool(self._pending or self._unconfirmed)

    @property
    def waiting(self) -> tuple[Hashable, ...]:
        """The ids of the jobs that wait for replies, oldest first."""
        return self._replies.keys

    def _on_link(self, event: ports.LinkUp | ports.LinkDown) -> None:
        self._link = event
        self._grants = "grant" in self.features
        self._pending, self._unconfirmed = {**self._unconfirmed, **self._pending}, {}
        self._send_pending()
        self._replies.feed(event, None)
        if self._grants:
            for request_id in sorted(self._granted):
                self._send(self._submitted[request_id])
        for message in tuple(self._at_depot.values()):
            self._tell(message)

    def replies(self, job: Job) -> Observable[ports.Reply]:
        """See `Hub.replies`."""

        def subscribe(observer: ObserverBase[ports.Reply], _: SchedulerBase | None = None) -> DisposableBase:
            waiting = self._replies.listen(job.id, observer.on_next)
            try:
                observer.on_next(self._link_of(job))
            except Exception:
                waiting.dispose()
                raise
            return waiting

        return LightObservable(subscribe)

    def _link_of(self, job: Job) -> ports.LinkUp | ports.LinkDown:
        if isinstance(self._link, ports.LinkDown) and job.id in self._submitted:
            return replace(self._link, asked=True)
        return self._link

    def submit(self, job: Job, files: Sequence[Fingerprint] = ()) -> None:
        """See `Hub.submit`."""
        if isinstance(self._link, ports.LinkUp) and not self._needs <= self.features:
            self._replies.feed(
                ports.Refused(f"the hub gives no access to the worker, and {ACCESS_LACKS}", "no_secret"), job.id
            )
            return
        if isinstance(self._link, ports.LinkUp) and not job.old_shape and INPUTS not in self.features:
            self._replies.feed(ports.Refused(_OLD_HUB.format(kind=job.kind), "unsupported"), job.id)
            return
        if isinstance(self._link, ports.LinkUp) and job.requires and REQUIRES not in self.features:
            self._replies.feed(ports.Refused(_NO_LABELS, "unsupported"), job.id)
            return
        self._granted.discard(job.id)
        self._refused.pop(job.id, None)
        self._pending.pop(job.id, None)
        self._unconfirmed.pop(job.id, None)
        trace = trace_of(job.id) if self._traced else None
        if job.gpus and isinstance(self._link, ports.LinkUp) and GPU_CHOICE not in self.features:
            job = replace(job, gpus=())  # this hub would hand the field on to a worker that does not know it
        if REQUIRES not in self.features:
            job = replace(job, priority=0)
        elif self._lasting and PRIORITY not in self.features:  # it orders the jobs of this program too
            job = replace(job, priority=min(0, job.priority))
        self._submitted[job.id] = m.Submit(
            request_id=job.id, trace_id=trace, task_type=job.task_type, payload=payload(job, files)
        )
        self._send(self._submitted[job.id])

    def release(self, job: Job, *, cancelled: bool = False) -> None:
        """See `Hub.release`. Without a connection, the message is sent at the next one, if the hub knows it."""
        if self._stopped:
            return
        self._granted.discard(job.id)
        self._at_depot.pop(job.id, None)
        self._refused.pop(job.id, None)
        if self._submitted.pop(job.id, None) is not None or self._lasting:
            self.end_job(job.id, cancelled=cancelled)

    def offer(self, job: Job, files: Sequence[DepotFile]) -> None:
        """See `Hub.offer`."""
        offered = tuple(d.DepotFile(name=file.name, blake3=file.blake3, ext=file.ext, size=file.size) for file in files)
        self._keep_told(job, d.DepotOffer(request_id=job.id, files=offered, again=job.again or None))

    def storing(self, job: Job, left: int, rate: float | None) -> None:
        """See `Hub.storing`."""
        self._tell(d.DepotProgress(request_id=job.id, left=left, rate=rate))

    def depot(self, job: Job, said: Literal["stored", "withdraw", "query"]) -> None:
        """See `Hub.depot`."""
        self._keep_told(job, _OF_DEPOT[said](request_id=job.id))

    def _keep_told(self, job: Job, message: m.Message) -> None:
        self._at_depot[job.id] = message
        self._tell(message)

    def _tell(self, message: m.Message) -> None:
        if d.FEATURE in self.features:
            self._send(message)

    def order(self, jobs: Sequence[str]) -> None:
        """See `Hub.order`."""
        waiting = tuple(id_ for id_ in jobs if id_ in self._submitted and id_ not in self._granted)[:MOST_ORDERED]
        if m.JobQueued.FEATURE in self.features and len(waiting) > 1:
            self._send(m.JobOrder(jobs=waiting))

    def end_job(self, job_id: str, *, cancelled: bool) -> None:
        """Report the end of a job, also of one that an earlier run of this program has submitted."""
        self._pending[job_id] = m.Cancel(request_id=job_id) if cancelled else m.JobDone(request_id=job_id)
        self._send_pending()

    def stop_releasing(self) -> None:
        """Release no more jobs: the program ends, and its jobs go on when it starts again."""
        self._stopped = True

    def _send_pending(self) -> None:
        """Send the pending messages, if there is a connection."""
        if not isinstance(self._link, ports.LinkUp):
            return
        for request_id, message in tuple(self._pending.items()):
            known = ("cancel" if isinstance(message, m.Cancel) else "done") in self.features
            if not known or self._send(message):
                del self._pending[request_id]
                if RELEASED in self.features:
                    self._unconfirmed[request_id] = message
                else:
                    self.on_released(request_id)


_OF_DEPOT = {"stored": d.DepotStored, "withdraw": d.DepotWithdraw, "query": d.DepotQuery}


def trace_of(job_id: str) -> str:
    """The trace id of a job, in W3C form: 32 hex digits that depend on the job's id only."""
    return hashlib.sha256(job_id.encode(errors="surrogatepass")).hexdigest()[:32]


def payload(job: Job, files: Sequence[Fingerprint]) -> dict[str, Any]:
    """The payload of a submit: extensions, and MD5 hashes (which all hubs and workers know) if they are known."""
    inputs: dict[str, dict[str, str]] = {name: {"ext": path.suffix.lower()} for name, path in job.inputs.items()}
    for fields, file in zip(inputs.values(), files, strict=False):
        fields["hash"] = file.digests["md5"]
    chosen: dict[str, Any] = {name: [*said] for name in ("gpus", "requires") if (said := getattr(job, name))}
    if job.priority:
        chosen["priority"] = job.priority
    return submit_fields(job, inputs) | chosen
