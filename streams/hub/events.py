"""The hub's events, facts, commands and decision, as frozen types.

Times are UNIX seconds. A fact with `DURABLE` is journaled before the commands of its event are carried out; the others
describe connections, which do not outlive the process. A license key is a secret: it is in no durable fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from wakestream.streams.decider import Decision
from wakestream.streams.moments import Moment
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.structs import Frozen
from wakestream.streams.webhooks import WebhookOwed


class License(Frozen, frozen=True):
    """What is known of a presented key: the license's public `id`, the `role` it gives, and whether it is `revoked`.

    `max_priority` is the highest priority of its jobs.
    """

    id: str
    role: str
    revoked: bool = False
    max_priority: int = 0


# Events


class ProcessStarted(Frozen, frozen=True):
    """The hub's process starts; the connections in the journal are gone.

    `rows` are a snapshot of the state, for the record: what the journal with the id `journal` says, up to its fact
    `seq`, which another hub may have written. Logs of wakestream 0.1.0 have the facts `kept` instead.
    """

    rows: tuple[bytes, ...] = ()
    kept: tuple[Fact, ...] = ()
    journal: str = ""
    seq: int = 0


class _OfConnection(Frozen, frozen=True):
    """An event of the connection with this number."""

    fd: int


class Opened(_OfConnection, frozen=True):
    """A connection passed the handshake."""


class Closed(_OfConnection, frozen=True):
    """A connection is gone."""


class Received(_OfConnection, frozen=True):
    """A message came. `old`: its sender used the older name of the type."""

    message: m.Message
    old: bool = False


class Registering(Frozen, frozen=True):
    """A `register` came. `credential` is the key, token or header presented, `license` its entry in the file."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"message", "credential"})
    fd: int
    message: m.Register
    credential: str | None = None
    license: License | None = None


class Unreadable(_OfConnection, frozen=True):
    """A frame came that is not a valid message; `reason` is the error text for its sender."""

    reason: str
    code: str = "malformed"


class Revoked(Frozen, frozen=True):
    """A license is no longer valid."""

    license: str


class KeyEnded(_OfConnection, frozen=True):
    """The key that this connection showed was replaced, and does not work any more."""


class BookSeen(Frozen, frozen=True):
    """The license file was read.

    `tied` has the licenses that were issued for GPUs, each with its role and the names. `released` has the licenses
    that hold other names no more, each with the time of the release. `weights` has the shares that are not 1.
    """

    tied: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    released: tuple[tuple[str, float], ...] = ()
    weights: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a share of nothing."""
        if any(weight < 1 for _, weight in self.weights):
            raise ValueError('"weights": the weight of a license must be a whole number from 1')


class NewsSettled(Frozen, frozen=True):
    """The webhook `delivery` was accepted, or is given up."""

    delivery: str


class ClockMoved(Frozen, frozen=True):
    """The wall clock moved by `by` seconds (negative: back): it was set, or the machine was suspended."""

    by: float


class DiskSeen(Frozen, frozen=True):
    """Whether the disk of the journal is nearly full."""

    low: bool


class Tick(Frozen, frozen=True):
    """Time passes; comes about once a second."""


class AskDepot(Frozen, frozen=True):
    """A command: ask the depot about files of the license `owner`. A `DepotAnswered` with it follows in any case.

    The questions about one license are asked one after the other. `ask` is the method of the store: `open` and `check`
    for the files of a job, or for the results that `gpu` made of it; `remove`. `fd` is the connection that waits for
    the answer; 0: none.
    """

    ask: Literal["open", "check", "remove"]
    owner: str
    request_id: str
    fd: int
    files: tuple[d.DepotFile, ...]
    gpu: str = ""


class DepotAnswered(Frozen, frozen=True):
    """What the depot said: `have` is the size of each file that is there, by BLAKE3.

    With a `code` (`down`, `full`, `denied`) it did not do what it was asked, for the `reason`.
    """

    asked: AskDepot
    have: Mapping[str, int] = {}
    code: str = ""
    reason: str = ""


Event = (
    ProcessStarted | Opened | Closed | Received | Registering | Unreadable | Revoked | KeyEnded | BookSeen | ClockMoved
    | DiskSeen | Tick | NewsSettled | DepotAnswered
)  # fmt: skip


# Facts


class _Durable(Frozen, frozen=True):
    """A fact that is journaled before the commands of its event are executed."""

    DURABLE: ClassVar[bool] = True


class _OfJob(_Durable, frozen=True):
    """A durable fact about a job."""

    id: str


class _OfGpu(_Durable, frozen=True):
    """A durable fact about a GPU."""

    gpu: str


class _Ledger(_OfGpu, frozen=True):
    """A fact about a GPU that the power ledger keeps for good."""

    LEDGER: ClassVar[bool] = True


class _Transient(Frozen, frozen=True):
    """A fact about connections, which end with the process, so that it is not journaled."""

    DURABLE: ClassVar[bool] = False


class _NowOfConnection(_Transient, frozen=True):
    """A transient fact about a connection."""

    fd: int


class _NowOfGpu(_Transient, frozen=True):
    """A transient fact about a GPU."""

    gpu: str


class JobQueued(_OfJob, frozen=True):
    """A job waits for a GPU: it is new, or the GPU that it held is gone.

    `late`: it is given to a GPU only when its turn comes, and keeps its place if it loses that.
    """

    owner: str
    fd: int | None
    task_type: str
    payload: Mapping[str, Any]
    at: float
    late: bool = False


class JobClaimed(_OfJob, frozen=True):
    """The job's owner submitted it again, perhaps from another connection, perhaps with hashes it lacked before."""

    fd: int
    payload: Mapping[str, Any]
    at: float


class JobGranted(_OfJob, frozen=True):
    """The job holds a lease on `gpu`."""

    gpu: str
    at: float


class JobWorked(_OfJob, frozen=True):
    """At `at`, the task of this job has run on `gpu` for so many seconds; `ended`: it runs no more."""

    gpu: str
    seconds: float
    ended: bool
    at: float


class JobSeen(_Transient, frozen=True):
    """The worker said what has become of a job there (see `m.JobState`); "": what it said does not count any more."""

    id: str
    state: str
    at: float


class JobStoring(_OfJob, frozen=True):
    """The files of this job go into the depot; `again`: its result must be made for it."""

    files: tuple[d.DepotFile, ...]
    at: float
    again: bool = False


class JobStored(_OfJob, frozen=True):
    """All files of this job are in the depot: the hub does it by itself.

    `saved`: seconds of their upload while no GPU was on.
    """

    at: float
    saved: float = 0.0


class JobDirect(_OfJob, frozen=True):
    """The client of this job sends its files to the worker itself. `why`: a GPU cannot use the depot."""

    why: str = ""


class JobDelivered(_OfJob, frozen=True):
    """The results that `gpu` made of this job are in the depot. With a `code` the work failed, for the `reason`."""

    owner: str
    gpu: str
    files: tuple[d.DepotFile, ...]
    at: Moment
    code: str = ""
    reason: str = ""


class DeliveriesGone(_Durable, frozen=True):
    """The clients of these delivered jobs have the results, or will not get them any more."""

    ids: tuple[str, ...]


class DepotUsed(_Durable, frozen=True):
    """These files of a license are in the depot, or on their way, and were used now."""

    owner: str
    files: tuple[d.DepotFile, ...]
    at: float


class DepotUnused(_Durable, frozen=True):
    """Nothing needs the files of this license any more."""

    owner: str


class DepotRemoved(_Durable, frozen=True):
    """These files of a license, by their BLAKE3, are in the depot no more."""

    owner: str
    files: tuple[str, ...]
    at: float = 0.0


class DepotHeld(_Durable, frozen=True):
    """`license` runs our own depot, `name`; no other license may. Without a name, any may."""

    license: str
    name: str
    at: float


class JobRemoved(_OfJob, frozen=True):
    """The job has left the hub; `why` is a word (done, cancelled, result, delivered, boot_failed, expired, revoked).

    `finished`: its worker finished it, and its client is gone and did not say so.
    `fd` is the connection that cancelled it, if one did.
    """

    STORED_AS: ClassVar[str] = "JobReleased"
    why: str
    at: float
    fd: int | None = None


class ResultKept(_Durable, frozen=True):
    """A result came while no connection of its owner was open; it is delivered when one registers."""

    owner: str
    result: m.Result
    at: float


class ResultsGone(_Durable, frozen=True):
    """The stored results of `owner` were delivered, or expired."""

    owner: str


class GpuOnline(_Ledger, frozen=True):
    """The worker of `gpu` takes work at `url`. Part of the power ledger. `switched`: see `GpuPhase`.

    `tells_work`: it says how long it works for each job, see `JobWorked`. `depot`: it fetches files from the depot.
    """

    url: str | None
    at: float
    switched: float | None = None
    tells_work: bool = False
    depot: bool | None = None


class GpuPhase(_Ledger, frozen=True):
    """`gpu` is in another phase than online; `lost` is an online GPU whose worker went away. Part of the power ledger.

    `cause` is a sentence for people. `retry_at`: in the phase `no_capacity`, when the provider is asked again.
    `switched`: when the machine was switched on or off, if that was before `at`.
    """

    phase: str
    at: float
    cause: str = ""
    retry_at: float | None = None
    switched: float | None = None


class GpuAlone(_OfGpu, frozen=True):
    """Neither a worker nor a monitor of `gpu` has been connected since `at`; None: one is again."""

    at: float | None


class GpuAbandoned(_Ledger, frozen=True):
    """`gpu` sent no sign of life for long: it counts as off since `last`, the last one."""

    at: float
    last: float


class GpuNote(_OfGpu, frozen=True):
    """A new cause or `retry_at` for the phase of `gpu`, which has not changed."""

    cause: str
    retry_at: float | None = None


class BootTook(_Ledger, frozen=True):
    """`gpu` came online `seconds` after the first job had begun to wait for one. Part of the power ledger."""

    seconds: float
    at: float


class BootTimes(_Durable, frozen=True):
    """The last boots, oldest first, each with its end and its seconds; `waking` is since when a job waits.

    Only in journals of wakestream 0.1.0, which were cut down to facts, as `AccountKept` and others.
    """

    boots: tuple[tuple[float, float], ...]
    waking: float | None


class AccountKept(_OfGpu, frozen=True):
    """What `gpu`'s account in the power ledger came to, as in `ledger.Account`; `days` are pairs of day and seconds."""

    since: float | None
    at: float
    running_since: float | None
    days: tuple[tuple[int, float], ...]
    before: float


class GpuDescribed(_OfGpu, frozen=True):
    """What `gpu` can do: the kinds that its worker described, as JSON, or None if it described none.

    `pairs_only`: its worker is a deployed one, which knows jobs of a video and an audio file only.
    """

    at: float
    kinds: tuple[Mapping[str, Any], ...] | None = None
    pairs_only: bool = False


class GpuLabelled(_OfGpu, frozen=True):
    """The labels that the `role` (worker or monitor) of `gpu` says, and how many tasks a worker does at one time."""

    role: str
    labels: Mapping[str, str | float]
    slots: int = 1


class GpuHalted(_OfGpu, frozen=True):
    """The worker of `gpu` begins no tasks: `state` is `not_ready` or `paused`; empty: it begins tasks again.

    `cause` is a sentence for people.
    """

    state: str
    cause: str
    at: float


class GpuSuspended(_OfGpu, frozen=True):
    """A person, in the name of license `by`, holds `gpu`: its work ends and none begins; empty: it is held no more."""

    by: str
    at: float


class GpuWoken(_OfGpu, frozen=True):
    """The hub had the machine of `gpu` started for a job."""

    at: float


class JobsOrdered(_Durable, frozen=True):
    """The owner of these waiting jobs wants them in this order."""

    ids: tuple[str, ...]


class GpuOrdered(_OfGpu, frozen=True):
    """A person ordered `keep` (do not stop `gpu` before `until`) or `stop` (turn it off; `until` is then `at`)."""

    action: str
    until: float
    at: float


class BudgetReached(_OfGpu, frozen=True):
    """A budget of `gpu` (empty: of all together) reached `percent` (80 or 100) in its day or month.

    `begin` is the first day of the period, `until` its end in UNIX seconds. `limit` and `spent` are decimal numbers.
    """

    period: str
    percent: int
    limit: str
    spent: str
    begin: int
    until: float
    at: float


class MachineKnown(_OfGpu, frozen=True):
    """The monitor of `gpu` named its machine at the provider, and what an hour costs there, if the provider says so.

    `idle_after`: the seconds without work after which it stops the machine, if it says them. GPUs with an equal `host`
    are in one machine: they start, stop and cost together.
    """

    machine: str
    price: float | None
    currency: str
    idle_after: float | None = None
    host: str = ""
    at: float = 0.0


class OrphanFound(_OfGpu, frozen=True):
    """The monitor of `gpu` found it running without a request, or is gone; with an empty `cause` it is back."""

    cause: str
    at: float


class PowerNews(WebhookOwed, frozen=True):
    """A webhook about power or money is pending; `job` is the name of the GPU, or empty."""

    DURABLE: ClassVar[bool] = True


class NewsOver(_Durable, frozen=True):
    """The webhook `delivery` is not pending any more."""

    delivery: str


class JobUsed(Frozen, frozen=True):
    """What an ended job used: pairs of GPU and seconds, in the month that began on the day `month`.

    `unsaid`: its worker finished it, and its client did not say so.
    """

    id: str
    owner: str
    kind: str
    gpus: tuple[tuple[str, float], ...]
    month: int
    at: float
    unsaid: bool = False


class JobUsedKept(_Durable, frozen=True):
    """An ended job and what it used. Only in journals of wakestream 0.1.0, as the next three."""

    used: JobUsed


class UsageKept(_Durable, frozen=True):
    """What the jobs of a license used: GPU, first day of the month, seconds."""

    owner: str
    months: tuple[tuple[str, int, float], ...]


class MeterKept(_OfGpu, frozen=True):
    """The meter of a GPU that jobs hold, as in `usage.Meter`."""

    at: float
    share: float


class JobMetered(_OfJob, frozen=True):
    """What a job used so far, and the share of its GPU's meter when it got that."""

    used: tuple[tuple[str, float], ...]
    began: float


class CancelOwed(_OfGpu, frozen=True):
    """The worker of `gpu` must stop this job if it still has it."""

    id: str
    at: float


class LeaseReleased(_OfJob, frozen=True):
    """The client of this job released `gpu`, whose worker may still have the task. Stored by wakestream 0.1.0."""

    STORED_AS: ClassVar[str] = "LetGo"
    owner: str
    gpu: str


class CancelsSettled(_OfGpu, frozen=True):
    """The worker of `gpu` does not have these jobs any more, or the time limit has passed."""

    ids: tuple[str, ...]


class GpuNamed(_OfGpu, frozen=True):
    """A peer serves `gpu`, which was not known, and its license holds no name: it has none, or was issued for this."""


class GpuHeld(_Durable, frozen=True):
    """`license` used the name `gpu` in this role (worker or monitor). After its first use no other license may."""

    role: str
    gpu: str
    license: str
    at: float


class GpuReleased(_Durable, frozen=True):
    """The name `gpu` is free in this role."""

    role: str
    gpu: str


class GpuForgotten(_OfGpu, frozen=True):
    """`gpu` was not used for a long time; the hub removes its account."""


class GpusTied(_Transient, frozen=True):
    """The names that licenses were issued for are these, and their weights; see `BookSeen`."""

    tied: tuple[tuple[str, str, tuple[str, ...]], ...]
    weights: tuple[tuple[str, int], ...] = ()


class HubStarted(_Durable, frozen=True):
    """All connections of the journal are gone."""

    at: float


class ConnectionOpened(_NowOfConnection, frozen=True):
    """A connection that has not registered yet."""

    at: float


class ConnectionRegistered(_NowOfConnection, frozen=True):
    """The role of a connection. `owner` is the license's id (None for peers without one), `key` what it presented.

    `labels` and `slots` are what it says of its GPUs, `max_priority` is the highest priority of its jobs. `instance`
    is a monitor's word for its process.
    """

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"key"})
    role: str
    owner: str | None
    key: str | None
    gpu: str | None
    url: str | None
    gpus: tuple[str, ...]
    features: frozenset[str]
    device: str = "pc"
    admin: bool = False
    labels: Mapping[str, str | float] | None = None
    slots: int | None = None
    max_priority: int = 0
    instance: str = ""


class GpuTaken(_NowOfConnection, frozen=True):
    """A worker that registered without a name has this GPU from now on."""

    gpu: str


class ConnectionClosed(_NowOfConnection, frozen=True):
    """A connection is gone."""

    at: float


class FrameRefused(_NowOfConnection, frozen=True):
    """A connection sent something that is no message."""


class MonitorsTold(_NowOfConnection, frozen=True):
    """A message of this connection was sent to the monitors, or counts as one that was."""

    at: float


class KindsHeard(_NowOfConnection, frozen=True):
    """The worker of a connection has described these kinds until now; `complete`: these are all.

    `kinds` None: it described none, or what it described was taken over as `GpuDescribed`.
    """

    kinds: tuple[Mapping[str, Any], ...] | None
    complete: bool = False


class OldNamesSpoken(_NowOfConnection, frozen=True):
    """A connection uses the older message types, and gets answers with these."""


class GpuActive(_NowOfGpu, frozen=True):
    """The worker of `gpu` reports that it works."""

    at: float


class MachineUrl(_OfGpu, frozen=True):
    """Where the worker of `gpu` can be reached, as its monitor says; see `Gpu`.

    After a restart the hub knows from it only that the monitor will say so.
    """

    url: str | None = None


class GpuUnaddressed(_NowOfGpu, frozen=True):
    """The worker of `gpu` is online, and the address of its machine is not known yet."""

    at: float


class WorkerUrl(_NowOfGpu, frozen=True):
    """The worker of `gpu` reported its address."""

    url: str


class StopAllowed(_NowOfConnection, frozen=True):
    """The monitor at `fd` learned that no job needs its machine, so it stops it now."""

    at: Moment


class Asked(_Transient, frozen=True):
    """A client's question (`kind` is status or boot) went to the monitors under its `request_id`.

    Of kind status-again it was answered from memory, and will be answered once more.
    """

    kind: str
    request_id: str
    fd: int
    at: float


class Answered(_Transient, frozen=True):
    """The question was answered, or will get no answer."""

    kind: str
    request_id: str


class CapabilityGiven(_Transient, frozen=True):
    """The client of job `id` holds a capability until `expires` (UNIX seconds); None: it needs no other."""

    id: str
    expires: float | None


class LicenseGone(_Transient, frozen=True):
    """`license` was revoked; workers that connect later are notified while its capabilities could still be valid."""

    license: str
    at: float


class ClockSet(_Durable, frozen=True):
    """The clock was set by `by` seconds: that much is added to all earlier times. `at` is a time of the new clock."""

    by: float
    at: float


class TextAsked(_Transient, frozen=True):
    """A client asked for a text or a video. `frame` is the frame for the text worker, without the key."""

    kind: str
    owner: str
    fd: int
    frame: Mapping[str, Any]
    at: Moment


class TextGiven(_Transient, frozen=True):
    """The text request `id` was sent to the connection `worker`."""

    id: int
    worker: int


class TextEnded(_Transient, frozen=True):
    """The text request `id` was answered, or failed. `in_vain`: a GPU is online, but no text worker connected."""

    id: int
    in_vain: bool = False


class GpuUnneeded(_NowOfGpu, frozen=True):
    """The monitors of `gpu` know that no job holds it, and that none will come."""

    STORED_AS: ClassVar[str] = "GpuLetGo"
    at: float


class GpuWarmed(_NowOfGpu, frozen=True):
    """The monitors of `gpu` were asked to start it for its keep-warm hours."""

    at: float


class Planned(_Transient, frozen=True):
    """What the hub plans for the jobs that are placed late.

    Attributes:
        at: When this was planned.
        machines: For some GPUs: a word (`wake`, `call_back`, `stop`, `held`, `backed_off`), in how many seconds if
            that is not now, and why.
        needless: The GPUs that no waiting job needs.
        starts: For each shape in its order, in how many seconds its first and its last job start; None: not known.
        near: The shapes that machines are kept on for.
    """

    at: float
    machines: Mapping[str, tuple[str, float | None, str]]
    needless: frozenset[str]
    starts: Mapping[Any, tuple[float | None, float | None]]
    near: frozenset[Any] = frozenset()


class GpusBlocked(_Transient, frozen=True):
    """These GPUs (empty: all) have spent their budget, each until this time in UNIX seconds; no others have."""

    until: Mapping[str, float]


class LicensesUnpaid(_Transient, frozen=True):
    """These licenses, and no others, have spent their budget until this time in UNIX seconds."""

    licenses: frozenset[str]
    until: float


class UploadSeen(_Transient, frozen=True):
    """The client of job `id` has still to send `left` bytes to the depot, at `rate` bytes a second (0: not known)."""

    id: str
    left: int
    rate: float
    at: Moment


class DepotLeaves(_Transient, frozen=True):
    """The depot is asked to remove these files of a license, by their BLAKE3; or it has answered that."""

    owner: str
    files: tuple[str, ...]
    ended: bool = False


class DepotSwept(_Transient, frozen=True):
    """The hub looked for what can leave the depot. The owners of the jobs `told` know that their results will."""

    told: tuple[str, ...]
    at: Moment


class DiskLow(_Transient, frozen=True):
    """While the disk is nearly full, the hub refuses new jobs."""

    low: bool


Fact = (
    JobQueued | JobClaimed | JobGranted | JobWorked | JobRemoved | ResultKept | ResultsGone | GpuOnline | GpuPhase
    | HubStarted | GpuNamed | GpuHeld | GpuReleased | GpuForgotten | GpusTied | GpuDescribed | GpuLabelled | GpuHalted
    | GpuOrdered | LeaseReleased
    | GpuAlone | GpuAbandoned | GpuNote | BootTook | BootTimes | AccountKept | CancelOwed | CancelsSettled
    | ConnectionOpened | ConnectionRegistered | GpuTaken | ConnectionClosed | FrameRefused | OldNamesSpoken
    | MonitorsTold | GpuActive | WorkerUrl | MachineUrl | GpuUnaddressed | KindsHeard
    | JobUsedKept | UsageKept | MeterKept | JobMetered
    | MachineKnown | OrphanFound | PowerNews | NewsOver | BudgetReached | GpusBlocked | GpuUnneeded | GpuWarmed
    | LicensesUnpaid | GpuSuspended | GpuWoken | JobsOrdered | Planned | StopAllowed | Asked | Answered | ClockSet
    | JobStoring | JobStored | JobDirect | JobDelivered | DeliveriesGone | DepotUsed | DepotUnused | DepotRemoved
    | DepotHeld | UploadSeen | DepotSwept | DepotLeaves
    | DiskLow | JobSeen | CapabilityGiven | LicenseGone | TextAsked | TextGiven | TextEnded
)  # fmt: skip


# Commands


class Seal(Frozen, frozen=True):
    """What only the holder of the hub's signing key can put into a message, when it is sent.

    Into an `ack` or a renewal, a capability for its job on `gpu` in the name of `license`; into `registered`, where
    both are empty, the public key.
    """

    gpu: str = ""
    license: str = ""


class Links(Frozen, frozen=True):
    """The links of a message about files in the depot, which are made when it is sent: for PUTs, or for GETs.

    The message has `files`, and for a PUT `have` of those that are there. For our own depot it gets the address, and a
    capability for the job `job` of the license `owner`.
    """

    owner: str
    job: str
    method: Literal["put", "get"]


class Send(Frozen, frozen=True):
    """One message to one connection; `old` sends it under its older name as well."""

    fd: int
    message: m.Message
    old: bool = False
    seal: Seal | Links | None = None


class Broadcast(Frozen, frozen=True):
    """One message to many connections; `old` sends it under its older name as well."""

    to: tuple[int, ...]
    message: m.Message
    old: bool = False


class Close(Frozen, frozen=True):
    """End a connection with a WebSocket close code, after what was sent to it before."""

    fd: int
    code: int
    reason: str


class Notify(Frozen, frozen=True):
    """Send a webhook."""

    news: PowerNews


Command = Send | Broadcast | Close | Notify | AskDepot


class HubDecision(Decision[Fact, Command]):
    """The facts and commands of one event, in order."""

    __slots__ = ()

    def send(self, to: int | Iterable[int], message: m.Message, *, old: bool = False) -> None:
        """Send a message to one connection or to several."""
        if isinstance(to, int):
            self.command(Send(to, message, old))
        elif many := tuple(to):
            self.command(Send(many[0], message, old) if len(many) == 1 else Broadcast(many, message, old))

    def refuse(self, fd: int, code: str, reason: str, request_id: str | None = None) -> None:
        """Send an `error` with the text in both `msg` and `message`, since peers read either."""
        self.send(fd, m.Error(msg=reason, message=reason, code=code, request_id=request_id))
