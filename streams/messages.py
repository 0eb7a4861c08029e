"""The wire's messages as frozen types, and nothing else. docs/protocol.md tells who sends what to whom and why.

`streams/wire.py` reads and writes them.

A field marked `data()` stands inside the frame's `data` object, all others at its top. None means: not on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


def data(default: Any = None) -> Any:
    """A field that the wire keeps in the frame's `data` object."""
    return field(default=default, metadata={"in": "data"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Base of all. `TYPE` is the wire's name, `OLD` its older alias, `ENVELOPE` constants that old peers expect."""

    TYPE: ClassVar[str] = ""
    OLD: ClassVar[str | None] = None
    ENVELOPE: ClassVar[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Message):
    """hub -> any: first frame after the handshake; `fd` is an opaque connection number."""

    TYPE: ClassVar[str] = "connected"
    fd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Message):
    """any -> hub. A client gives `key`; worker and monitor give `role`, ours also `token` and what they serve."""

    TYPE: ClassVar[str] = "register"
    key: str | None = None
    token: str | None = None
    role: str | None = None
    device_type: str | None = None
    gpu: str | None = None
    url: str | None = None
    gpus: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(Message):
    """hub -> any: the answer to `register`; `features` are this hub's additions.

    `capability_key` (ours, to workers that announced `capability`): the hub's public Ed25519 key, base64url.
    """

    TYPE: ClassVar[str] = "registered"
    key: str | None = None
    role: str | None = None
    device_type: str | None = None
    features: tuple[str, ...] | None = None
    capability_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    """any <-> hub, every 25 s."""

    TYPE: ClassVar[str] = "ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Message):
    """The answer to `ping`."""

    TYPE: ClassVar[str] = "pong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit(Message):
    """client -> hub -> worker and monitor. The hub adds `key` and `sender_fd` for the worker.

    To a worker that announced `capability` it adds `license`, the license's public id, in place of the key. `trace_id`
    (ours, from a client that is traced) names the job's trace; the hub's answers repeat it.
    """

    TYPE: ClassVar[str] = "gpu.job.submit"
    OLD: ClassVar[str | None] = "gpu_task"
    request_id: str
    trace_id: str | None = None
    task_type: str = "heygem_submit"
    payload: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    license: str | None = None
    sender_fd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Message):
    """hub -> client: a GPU is online and took the job.

    `capability` (ours, to clients that announced it) opens the worker for this job until `capability_expires`.
    """

    TYPE: ClassVar[str] = "ack"
    request_id: str
    task_type: str | None = None
    msg: str | None = None
    gpu: str | None = data()
    url: str | None = data()
    position: int | None = data()
    capability: str | None = field(default=None, metadata={"in": "data"}, repr=False)
    capability_expires: int | None = data()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline(Message):
    """hub -> client: no GPU is online, the job is queued. `eta_s` is `{"p50": s, "p90": s}`."""

    TYPE: ClassVar[str] = "gpu.power.offline"
    OLD: ClassVar[str | None] = "gpu_offline"
    ENVELOPE: ClassVar[Mapping[str, str]] = {"version": "1.0", "source": "api", "target": "client"}
    request_id: str | None = None
    trace_id: str | None = None
    ts: int | None = None
    task_type: str | None = None
    msg: str | None = None
    status: str | None = data("offline")
    phase: str | None = data()
    position: int | None = data()
    eta_s: Mapping[str, Any] | None = data()


@dataclass(frozen=True, slots=True, kw_only=True)
class Online(Message):
    """worker -> hub -> all clients: a GPU is online."""

    TYPE: ClassVar[str] = "gpu.power.online"
    OLD: ClassVar[str | None] = "gpu_online"
    ENVELOPE: ClassVar[Mapping[str, str]] = {"version": "1.0", "source": "gpu", "target": "client"}
    request_id: str | None = None
    trace_id: str | None = None
    ts: int | None = None
    status: str | None = data("online")
    msg: str | None = data()
    gpu: str | None = data()
    url: str | None = data()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Message):
    """worker -> hub -> client. The worker's frame bears `key` or `license`, and `sender_fd`; the hub strips them."""

    TYPE: ClassVar[str] = "gpu.job.result"
    OLD: ClassVar[str | None] = "gpu_task_result"
    request_id: str
    task_type: str | None = None
    result: Mapping[str, Any] | None = None
    error: bool | None = None
    error_msg: str | None = None
    key: str | None = None
    license: str | None = None
    sender_fd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot(Message):
    """client or hub -> monitor: wake the GPU."""

    TYPE: ClassVar[str] = "gpu.power.boot"
    request_id: str | None = None
    source: str | None = None
    msg: str | None = None
    gpu: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery(Message):
    """client -> hub -> monitor."""

    TYPE: ClassVar[str] = "gpu.status.query"
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusResponse(Message):
    """monitor -> hub -> client; `status` is unknown, starting, running, stopping or stopped."""

    TYPE: ClassVar[str] = "gpu.status.response"
    request_id: str
    status: str
    source: str | None = "gpu_monitor"
    fresh: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatusQuery(Message):
    """client or monitor -> hub, ours: what the hub knows of its GPUs. `since` (UNIX seconds) asks for one span more."""

    TYPE: ClassVar[str] = "hub.status.query"
    request_id: str
    since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatus(Message):
    """hub -> whoever asked, ours. `gpus` are objects as docs/protocol.md tells; `more` of them found no room.

    `queue` jobs wait, `own_queued` of them the asker's; `boot_s` are the median and the ninetieth percentile in seconds
    of the last `boots` boots.
    """

    TYPE: ClassVar[str] = "hub.status.response"
    request_id: str
    ts: int | None = None
    gpus: tuple[Mapping[str, Any], ...] = data(())
    more: int | None = data()
    queue: int = data(0)
    own_queued: int = data(0)
    monitors: int = data(0)
    boots: int = data(0)
    boot_s: Mapping[str, float] | None = data()


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted(Message):
    """monitor -> hub -> clients: the machine is up, its HTTP side perhaps not. Not `online`."""

    TYPE: ClassVar[str] = "gpu.power.booted"
    status: str | None = "booted"
    msg: str | None = None
    source: str | None = "gpu_monitor"
    request_id: str | None = None
    gpu: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult(Message):
    """monitor -> hub -> client: a boot that failed (`status` is `failed` or `error`)."""

    TYPE: ClassVar[str] = "gpu.power.boot.result"
    request_id: str | None = None
    success: bool = False
    status: str | None = None
    msg: str | None = None
    gpu: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerState(Message):
    """monitor -> hub, ours: each change of the power state (docs/protocol.md lists the words)."""

    TYPE: ClassVar[str] = "gpu.power.state"
    gpu: str
    state: str
    msg: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskActive(Message):
    """worker -> hub -> monitor, at most every 30 s: keeps the GPU on."""

    TYPE: ClassVar[str] = "gpu.task.active"
    task_id: str
    task_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery(Message):
    """monitor -> hub, before an idle stop. `drain` (ours): if nothing is active, admit nothing more on `gpu`."""

    TYPE: ClassVar[str] = "gpu.task.query"
    request_id: str
    gpu: str | None = None
    drain: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQueryResponse(Message):
    """hub -> monitor: how many jobs hold the GPU or wait for it."""

    TYPE: ClassVar[str] = "gpu.task.query.response"
    request_id: str
    active_count: int
    has_recent_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchBatch(Message):
    """hub -> worker, after its `gpu.power.online`: what was queued. Each of `jobs` is a submit frame."""

    TYPE: ClassVar[str] = "gpu.job.dispatch.batch"
    ENVELOPE: ClassVar[Mapping[str, str]] = {"version": "1.0", "source": "api", "target": "gpu"}
    ts: int | None = None
    batch_id: str = data("")
    jobs: tuple[Mapping[str, Any], ...] = data(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Message):
    """client -> hub (-> worker), ours: stop the job and release its GPU."""

    TYPE: ClassVar[str] = "gpu.job.cancel"
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone(Message):
    """client -> hub, ours: the job no longer needs its GPU."""

    TYPE: ClassVar[str] = "gpu.job.done"
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReleased(Message):
    """hub -> client, ours: its `done` or `cancel` is kept, and need not be said again."""

    TYPE: ClassVar[str] = "gpu.job.released"
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability(Message):
    """hub -> client, ours: a fresh capability for a job that still holds its GPU. `expires` is UNIX seconds."""

    TYPE: ClassVar[str] = "gpu.job.capability"
    request_id: str
    capability: str = field(repr=False)
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseRevoked(Message):
    """hub -> worker, ours: `license` (a public id) is no longer valid, nor is any capability of it."""

    TYPE: ClassVar[str] = "license.revoked"
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Message):
    """hub -> any. Both spellings of the text occur; `code` and `request_id` are ours."""

    TYPE: ClassVar[str] = "error"
    msg: str | None = None
    message: str | None = None
    code: str | None = None
    request_id: str | None = None

    @property
    def text(self) -> str:
        """The text, however it was spelt."""
        return self.msg or self.message or "the hub reported an error without a text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kicked(Message):
    """hub -> any: this connection is no longer wanted."""

    TYPE: ClassVar[str] = "kicked"
    msg: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Url(Message):
    """A bare `http(s)://…` string stands for this."""

    TYPE: ClassVar[str] = "url"
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Message):
    """A frame of a type that we do not know: ignored by clients, answered with `error` by a hub."""

    type: str
    frame: Mapping[str, Any] = field(default_factory=dict)


KNOWN: tuple[type[Message], ...] = (
    Connected, Register, Registered, Ping, Pong, Submit, Ack, Offline, Online, Result, Boot, StatusQuery,
    StatusResponse, HubStatusQuery, HubStatus, Booted, BootResult, PowerState, TaskActive, TaskQuery,
    TaskQueryResponse, DispatchBatch, Cancel, JobDone, JobReleased, Capability, LicenseRevoked, Error, Kicked, Url,
)  # fmt: skip
