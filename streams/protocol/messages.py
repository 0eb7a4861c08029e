"""The messages on the wire, as frozen types. docs/protocol.md says who sends which, and why.

`streams/protocol/wire.py` reads and writes them.

A field marked `Data` is in the frame's `data` object, all others are at its top. None means: not on the wire.
"Ours" marks an addition to the protocol, which is sent only to peers that announced it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from msgspec import Meta

from wakestream.streams.protocol.structs import Frozen

MAX_ID = 200
"""The longest request id or task id, in characters."""

MAX_URL = 2000
"""The longest address, in characters; hubs repeat a worker's address in many frames."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
Address = Annotated[str, Meta(max_length=MAX_URL)]

T = TypeVar("T")
Data = Annotated[T, "data"]
"""The type of a field in the frame's `data` object."""


class Message(Frozen, frozen=True, kw_only=True):
    """Base of all messages.

    Attributes:
        TYPE: The name on the wire.
        OLD: An older name that some peers use.
        ENVELOPE: Constants that old peers expect.
        HIDDEN: Secret fields, which `repr` leaves out.
    """

    TYPE: ClassVar[str] = ""
    OLD: ClassVar[str | None] = None
    ENVELOPE: ClassVar[Mapping[str, str]] = {}
    HIDDEN: ClassVar[frozenset[str]] = frozenset({"key", "token", "capability"})


class _WithId(Message, frozen=True, kw_only=True):
    """A message about the job or the question that `request_id` names."""

    request_id: Id


class _News(Message, frozen=True, kw_only=True):
    """A message about a GPU, for one job or for all. `ts` is UNIX seconds."""

    request_id: Id | None = None
    trace_id: Id | None = None
    ts: int | None = None


class Connected(Message, frozen=True, kw_only=True):
    """hub -> any: the first frame after the handshake; `fd` is the number of the connection."""

    TYPE: ClassVar[str] = "connected"
    fd: int


class Register(Message, frozen=True, kw_only=True):
    """any -> hub. A client sends `key`; workers and monitors send `role`, ours also `token` and what they serve.

    A monitor may name its machine as the provider does, and say what an hour of it costs; `idle_after`: the seconds
    without work after which it stops the machine. `machines` has the machine of each of its GPUs, by a name that is
    equal for GPUs in one machine only.

    `labels` of a worker or monitor are what jobs may require of its GPUs. `slots`: how many tasks a worker does at one
    time. `instance` is another one for each process of a monitor.
    """

    TYPE: ClassVar[str] = "register"
    key: str | None = None
    token: str | None = None
    role: str | None = None
    device_type: str | None = None
    gpu: str | None = None
    url: Address | None = None
    gpus: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    machine: str | None = None
    price: float | None = None
    currency: str | None = None
    idle_after: float | None = None
    machines: Mapping[str, str] | None = None
    instance: str | None = None
    labels: Mapping[str, Any] | None = None
    slots: int | None = None


class Registered(Message, frozen=True, kw_only=True):
    """hub -> any: the answer to `register`; `features` are this hub's additions.

    `capability_key` (ours, to workers that announced `capability`): the hub's public Ed25519 key, base64url. `cluster`
    (ours): the id of the hub's journal, which all hubs of a cluster share.
    """

    TYPE: ClassVar[str] = "registered"
    key: str | None = None
    role: str | None = None
    device_type: str | None = None
    features: tuple[str, ...] | None = None
    capability_key: str | None = None
    cluster: str | None = None


class Ping(Message, frozen=True, kw_only=True):
    """any <-> hub, every 25 s."""

    TYPE: ClassVar[str] = "ping"


class Pong(Message, frozen=True, kw_only=True):
    """The answer to `ping`."""

    TYPE: ClassVar[str] = "pong"


class Submit(_WithId, frozen=True, kw_only=True):
    """client -> hub -> worker and monitor. The hub adds `key` and `sender_fd` for the worker.

    To a worker that announced `capability` it adds `license`, the license's public id, in place of the key. `trace_id`
    (ours) is the id of the job's trace; the hub's answers repeat it.
    """

    TYPE: ClassVar[str] = "gpu.job.submit"
    OLD: ClassVar[str | None] = "gpu_task"
    trace_id: Id | None = None
    task_type: str = "heygem_submit"
    payload: Mapping[str, Any] = {}
    key: str | None = None
    license: str | None = None
    sender_fd: int | None = None


class Ack(_WithId, frozen=True, kw_only=True):
    """hub -> client: a GPU is online and the job has it.

    `capability` (ours, to clients that announced it) opens the worker for this job until `capability_expires`.
    """

    TYPE: ClassVar[str] = "ack"
    task_type: str | None = None
    msg: str | None = None
    gpu: Data[str | None] = None
    url: Data[Address | None] = None
    position: Data[int | None] = None
    capability: Data[str | None] = None
    capability_expires: Data[int | None] = None


class Offline(_News, frozen=True, kw_only=True):
    """hub -> client: no GPU is online, the job is queued. `eta_s` is `{"p50": s, "p90": s}`.

    `until`: in the phase `budget`, when the job can go on (UNIX seconds). `retry_in`: in the phase `no_capacity`,
    seconds until the provider is asked again. `why` (ours, to clients that announced `kinds`): why no GPU that can do
    this job can be started. `depot` (ours, to clients that announced it): the hub has a depot; one may have come after
    the client connected.
    """

    TYPE: ClassVar[str] = "gpu.power.offline"
    OLD: ClassVar[str | None] = "gpu_offline"
    ENVELOPE: ClassVar[Mapping[str, str]] = {"version": "1.0", "source": "api", "target": "client"}
    task_type: str | None = None
    msg: str | None = None
    status: Data[str | None] = "offline"
    phase: Data[str | None] = None
    position: Data[int | None] = None
    eta_s: Data[Mapping[str, Any] | None] = None
    until: Data[int | None] = None
    retry_in: Data[int | None] = None
    why: Data[str | None] = None
    depot: Data[bool | None] = None


class Online(_News, frozen=True, kw_only=True):
    """worker -> hub -> all clients: a GPU is online."""

    TYPE: ClassVar[str] = "gpu.power.online"
    OLD: ClassVar[str | None] = "gpu_online"
    ENVELOPE: ClassVar[Mapping[str, str]] = {"version": "1.0", "source": "gpu", "target": "client"}
    status: Data[str | None] = "online"
    msg: Data[str | None] = None
    gpu: Data[str | None] = None
    url: Data[Address | None] = None


class Result(_WithId, frozen=True, kw_only=True):
    """worker -> hub -> client. The worker's frame has `key` or `license`, and `sender_fd`; the hub removes them."""

    TYPE: ClassVar[str] = "gpu.job.result"
    OLD: ClassVar[str | None] = "gpu_task_result"
    task_type: str | None = None
    result: Mapping[str, Any] | None = None
    error: bool | None = None
    error_msg: str | None = None
    key: str | None = None
    license: str | None = None
    sender_fd: int | None = None


class Boot(Message, frozen=True, kw_only=True):
    """client or hub -> monitor: start the GPU."""

    TYPE: ClassVar[str] = "gpu.power.boot"
    request_id: Id | None = None
    source: str | None = None
    msg: str | None = None
    gpu: str | None = None


class StatusQuery(_WithId, frozen=True, kw_only=True):
    """client -> hub -> monitor; `gpu`: the monitor of this one, at hubs with the feature `status_of_gpu`."""

    TYPE: ClassVar[str] = "gpu.status.query"
    gpu: str | None = None


class StatusResponse(_WithId, frozen=True, kw_only=True):
    """monitor -> hub -> client; `status` is unknown, starting, running, stopping or stopped."""

    TYPE: ClassVar[str] = "gpu.status.response"
    status: str
    source: str | None = "gpu_monitor"
    fresh: bool | None = None


class HubStatusQuery(_WithId, frozen=True, kw_only=True):
    """client or monitor -> hub, ours: asks for the state of the GPUs. `since` (UNIX seconds) adds one more period.

    `costs`: asks for the costs by day, job and license as well. `history`, from an admin: asks for the arrivals of jobs
    from this day on (days since 1970-01-01, UTC), without the first ones of it.
    """

    TYPE: ClassVar[str] = "hub.status.query"
    since: int | None = None
    costs: bool | None = None
    history: tuple[int, int] | None = None


class HubStatus(_WithId, frozen=True, kw_only=True):
    """hub -> client or monitor, ours: the answer to `HubStatusQuery`.

    `gpus` are objects as in docs/protocol-power.md; `more` GPUs did not fit. `queue` jobs wait, `own_queued` of them
    belong to the client. `boot_s` has the median and the 90th percentile, in seconds, of the last `boots` boots;
    `eta_s` has the same for the time until a GPU is expected for the waiting jobs. Days and months are those of `zone`;
    `budgets` has an object for each budget, `license_budget` that of the asking license. Only a license of role `admin`
    gets `connections`, by role, and `waiting`, the number of waiting jobs by license. `expected`: when the waiting jobs
    start, by kind and priority. `depot`: the jobs that go through the depot, and what the license has there. `leader`:
    of a cluster, the name of the hub that leads, and its epoch.
    """

    TYPE: ClassVar[str] = "hub.status.response"
    ts: int | None = None
    gpus: Data[tuple[Mapping[str, Any], ...]] = ()
    more: Data[int | None] = None
    queue: Data[int] = 0
    own_queued: Data[int] = 0
    monitors: Data[int] = 0
    boots: Data[int] = 0
    boot_s: Data[Mapping[str, Any] | None] = None
    eta_s: Data[Mapping[str, Any] | None] = None
    currency: Data[str | None] = None
    zone: Data[str | None] = None
    budgets: Data[tuple[Mapping[str, Any], ...] | None] = None
    license_budget: Data[Mapping[str, Any] | None] = None
    costs: Data[Mapping[str, Any] | None] = None
    connections: Data[Mapping[str, Any] | None] = None
    waiting: Data[tuple[Mapping[str, Any], ...] | None] = None
    history: Data[Mapping[str, Any] | None] = None
    expected: Data[tuple[Mapping[str, Any], ...] | None] = None
    depot: Data[Mapping[str, Any] | None] = None
    leader: Data[Mapping[str, Any] | None] = None


class Booted(Message, frozen=True, kw_only=True):
    """monitor -> hub -> clients: the machine is running; its worker may not be online yet."""

    TYPE: ClassVar[str] = "gpu.power.booted"
    status: str | None = "booted"
    msg: str | None = None
    source: str | None = "gpu_monitor"
    request_id: Id | None = None
    gpu: str | None = None


class BootResult(Message, frozen=True, kw_only=True):
    """monitor -> hub -> client: a boot failed (`status` is `failed` or `error`)."""

    TYPE: ClassVar[str] = "gpu.power.boot.result"
    request_id: Id | None = None
    success: bool = False
    status: str | None = None
    msg: str | None = None
    gpu: str | None = None


class PowerState(Message, frozen=True, kw_only=True):
    """monitor -> hub, ours: each change of the power state (docs/protocol-power.md lists the states).

    `stops_in`: seconds until the GPU is stopped even if it is in use, when that is near. `present`: not a change, but
    the state when a client registers. `url`: where the provider says that the worker can be reached;
    `url_follows`: it will say that. `orphan`: the machine was found running without a request. `retry_in`: seconds
    until the provider is asked for a machine again. `age`: for how many seconds the machine has been on, or off.
    """

    TYPE: ClassVar[str] = "gpu.power.state"
    gpu: str
    state: str
    msg: str | None = None
    stops_in: int | None = None
    present: bool | None = None
    orphan: bool | None = None
    url: Address | None = None
    url_follows: bool | None = None
    retry_in: int | None = None
    age: float | None = None


class MonitorState(Message, frozen=True, kw_only=True):
    """hub -> worker that announced `monitor_state`, ours: whether a monitor can switch the worker's machine off."""

    TYPE: ClassVar[str] = "gpu.monitor.state"
    FEATURE: ClassVar[str] = "monitor_state"
    gpu: str
    connected: bool


class WorkerState(Message, frozen=True, kw_only=True):
    """worker -> hub (-> clients that announced `worker_state`), ours: whether the worker begins tasks.

    `state` is `ready`, `not_ready` (its engine cannot work) or `paused` (its disk is full); `reason` is a sentence for
    people.
    """

    TYPE: ClassVar[str] = "gpu.worker.state"
    FEATURE: ClassVar[str] = "worker_state"
    gpu: str
    state: str
    reason: str | None = None


class JobWork(_WithId, frozen=True, kw_only=True):
    """worker -> hub, ours: the job's task has run for so many seconds; `ended`: it runs no more.

    Sent when a task begins, at a new connection while it runs, and when it has ended.
    """

    TYPE: ClassVar[str] = "gpu.job.work"
    FEATURE: ClassVar[str] = "job_work"
    seconds: float = 0.0
    ended: bool | None = None


class JobState(_WithId, frozen=True, kw_only=True):
    """worker -> hub that announced `job_state`, ours: what has become of a job that this hub gave to the worker.

    `state` is `open` (its task waits or runs, or files are on the way), `done`, `failed`, `cancelled` or `unknown` (its
    client has not come). `seconds`: how long its task ran.
    """

    TYPE: ClassVar[str] = "gpu.job.state"
    FEATURE: ClassVar[str] = "job_state"
    state: str
    seconds: float = 0.0


class GpuAdmin(_WithId, frozen=True, kw_only=True):
    """client -> hub, ours: a person's order for one GPU.

    `action` is `stop` (turn it off now, if no job needs it), `keep` (keep it on for `seconds`, at most a day; one hour
    if they are absent) or `remove` (for admins: forget a GPU that is gone; with `force` also if jobs wait for it).
    """

    TYPE: ClassVar[str] = "gpu.admin"
    FEATURE: ClassVar[str] = "gpu_admin"
    gpu: str
    action: str
    seconds: int | None = None
    force: bool | None = None


class GpuAdminDone(_WithId, frozen=True, kw_only=True):
    """hub -> client, ours: the order is carried out. A refusal is an `error`. `until`: it is kept on until then."""

    TYPE: ClassVar[str] = "gpu.admin.response"
    gpu: str
    action: str
    until: int | None = None


class Release(Message, frozen=True, kw_only=True):
    """hub -> monitor, ours: no more work comes for this GPU, so its idle time is over now."""

    TYPE: ClassVar[str] = "gpu.power.release"
    gpu: str
    msg: str | None = None


class TaskActive(Message, frozen=True, kw_only=True):
    """worker -> hub -> monitor, at most every 30 s while a task runs: keeps the GPU on."""

    TYPE: ClassVar[str] = "gpu.task.active"
    task_id: Id
    task_type: str | None = None


class TaskQuery(_WithId, frozen=True, kw_only=True):
    """monitor -> hub, before an idle stop. `drain` (ours): if no job is active, admit no more jobs on `gpu`.

    `idle` (ours): the idle time is over, and the worker reports over HTTP that it has no task.
    """

    TYPE: ClassVar[str] = "gpu.task.query"
    gpu: str | None = None
    drain: bool | None = None
    idle: bool | None = None


class TaskQueryResponse(_WithId, frozen=True, kw_only=True):
    """hub -> monitor: how many jobs have the GPU or wait for it."""

    TYPE: ClassVar[str] = "gpu.task.query.response"
    active_count: int
    has_recent_active: bool


class DispatchBatch(Message, frozen=True, kw_only=True):
    """hub -> worker, after its `gpu.power.online`: the queued jobs. Each of `jobs` is a submit frame."""

    TYPE: ClassVar[str] = "gpu.job.dispatch.batch"
    ENVELOPE: ClassVar[Mapping[str, str]] = {"version": "1.0", "source": "api", "target": "gpu"}
    ts: int | None = None
    batch_id: Data[Id] = ""
    jobs: Data[tuple[Mapping[str, Any], ...]] = ()


class Cancel(_WithId, frozen=True, kw_only=True):
    """client -> hub (-> worker), ours: cancel the job and release its GPU.

    To a worker that announced `done` the hub adds `license`, as in `Submit`.
    """

    TYPE: ClassVar[str] = "gpu.job.cancel"
    license: str | None = None


class JobDone(_WithId, frozen=True, kw_only=True):
    """client -> hub (-> worker that announced `done`, with `license`), ours: the job no longer needs its GPU."""

    TYPE: ClassVar[str] = "gpu.job.done"
    license: str | None = None


class JobReleased(_WithId, frozen=True, kw_only=True):
    """hub -> client, ours: the `done` or `cancel` is on disk, and need not be sent again."""

    TYPE: ClassVar[str] = "gpu.job.released"


class JobQueued(_WithId, frozen=True, kw_only=True):
    """hub -> client that announced `queue`, ours: a GPU is on, and the job waits for its turn.

    `position` is 1 for the next one, `eta_s` the seconds until it starts if that is known, `reason` a sentence. `depot`
    is as in `Offline`.
    """

    TYPE: ClassVar[str] = "gpu.job.queued"
    FEATURE: ClassVar[str] = "queue"
    position: int
    eta_s: float | None = None
    reason: str | None = None
    depot: bool | None = None


class JobOrder(Message, frozen=True, kw_only=True):
    """client -> hub that announced `queue`, ours: these waiting jobs exchange their places, to be in this order."""

    TYPE: ClassVar[str] = "gpu.job.order"
    jobs: tuple[Id, ...]


class Capability(_WithId, frozen=True, kw_only=True):
    """hub -> client, ours: a new capability for a job that still has its GPU. `expires` is UNIX seconds."""

    TYPE: ClassVar[str] = "gpu.job.capability"
    capability: str
    expires: int


class LicenseRevoked(Message, frozen=True, kw_only=True):
    """hub -> worker, ours: `license` (a public id) and all its capabilities are no longer valid."""

    TYPE: ClassVar[str] = "license.revoked"
    license: str


class GpuKinds(Message, frozen=True, kw_only=True):
    """worker -> hub, ours: what its engine can do, in one message for each kind.

    `kind` is a kind as in the worker's `health`, the `number`th (from 1) of `of`. The last one completes the list,
    which replaces an earlier one. `of` 0 without a `kind`: the kinds are not known.
    """

    TYPE: ClassVar[str] = "gpu.kinds"
    number: int = 0
    of: int = 0
    kind: Mapping[str, Any] | None = None


class KindsQuery(_WithId, frozen=True, kw_only=True):
    """client -> hub, ours: asks what the GPUs can do."""

    TYPE: ClassVar[str] = "gpu.kinds.query"


class KindsResponse(_WithId, frozen=True, kw_only=True):
    """hub -> client, ours: the answer to `KindsQuery`, in several messages if it is long.

    `kinds` has `{"kind": …, "gpus": [{"gpu", "online"}]}` for each different description. If they do not fit into one
    message, a kind comes again with its other GPUs. This is the `number`th message (from 1) of `of`. `complete`: no
    GPU is known of which the kinds are not.
    """

    TYPE: ClassVar[str] = "gpu.kinds.response"
    number: Data[int] = 1
    of: Data[int] = 1
    kinds: Data[tuple[Mapping[str, Any], ...]] = ()
    complete: Data[bool] = False


class KindsChanged(Message, frozen=True, kw_only=True):
    """hub -> client, ours: the kinds of `gpu` are others now."""

    TYPE: ClassVar[str] = "gpu.kinds.changed"
    gpu: str


class Error(Message, frozen=True, kw_only=True):
    """hub -> any. The text is in `msg` or `message`; `code` and `request_id` are ours.

    `old_request_id` (from old hubs): the running job of this key, because of which the hub refuses another one.
    """

    TYPE: ClassVar[str] = "error"
    msg: str | None = None
    message: str | None = None
    code: str | None = None
    request_id: Id | None = None
    old_request_id: Id | None = None

    @property
    def text(self) -> str:
        """The text, from `msg` or `message`."""
        return self.msg or self.message or "the hub reported an error without a text"


class Kicked(Message, frozen=True, kw_only=True):
    """hub -> any: the hub closes this connection."""

    TYPE: ClassVar[str] = "kicked"
    msg: str | None = None


class Url(Message, frozen=True, kw_only=True):
    """A bare `http(s)://…` string instead of a frame."""

    TYPE: ClassVar[str] = "url"
    url: Address


class Unknown(Message, frozen=True, kw_only=True):
    """A frame of an unknown type: clients ignore it, a hub answers with `error`."""

    type: str
    frame: Mapping[str, Any] = {}


KNOWN: tuple[type[Message], ...] = (
    Connected, Register, Registered, Ping, Pong, Submit, Ack, Offline, Online, Result, Boot, StatusQuery,
    StatusResponse, HubStatusQuery, HubStatus, Booted, BootResult, PowerState, MonitorState, WorkerState, JobWork,
    JobState, GpuAdmin, GpuAdminDone, Release, TaskActive, TaskQuery, TaskQueryResponse, DispatchBatch, JobQueued,
    JobOrder, Cancel, JobDone, JobReleased, Capability, LicenseRevoked, GpuKinds, KindsQuery, KindsResponse,
    KindsChanged, Error, Kicked, Url,
)  # fmt: skip
