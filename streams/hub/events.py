"""What the hub hears, decides and does: its events, facts and commands as frozen types.

Times are UNIX seconds. A fact with `DURABLE` is journaled before the commands of its event are carried out; the others
describe connections, which do not outlive the process. A license key is a secret: it is in no durable fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.structs import Frozen


class License(Frozen, frozen=True):
    """What is known of a presented key: the license's public `id`, the `role` it gives, and whether it is `revoked`."""

    id: str
    role: str
    revoked: bool = False


# Events


class Started(Frozen, frozen=True):
    """The hub's process starts; what the journal says of connections is no longer so.

    `kept` are the facts of the journal, which the state holds already: for the record.
    """

    kept: tuple[Fact, ...] = ()


class Opened(Frozen, frozen=True):
    """A connection passed the handshake."""

    fd: int


class Closed(Frozen, frozen=True):
    """A connection is gone."""

    fd: int


class Received(Frozen, frozen=True):
    """A message came; `old` tells that its sender spelt the type in the older way."""

    fd: int
    message: m.Message
    old: bool = False


class Registering(Frozen, frozen=True):
    """A `register` came. `credential` is the key, token or header presented, `license` what the book says of it."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"message", "credential"})
    fd: int
    message: m.Register
    credential: str | None = None
    license: License | None = None


class Unreadable(Frozen, frozen=True):
    """A frame came that is no message; `why` is a sentence for its sender."""

    fd: int
    why: str
    code: str = "malformed"


class Revoked(Frozen, frozen=True):
    """A license is no longer valid."""

    license: str


class KeyEnded(Frozen, frozen=True):
    """The key that this connection showed was replaced, and does not work any more."""

    fd: int


class BookSeen(Frozen, frozen=True):
    """What the licenses say about GPUs: `tied` are those that were issued for some, each with its role and the names;
    `released` those whose other names are free for all, each with the time until which it had come to hold them.
    """

    tied: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    released: tuple[tuple[str, float], ...] = ()


class ClockMoved(Frozen, frozen=True):
    """The wall clock was set, by `by` seconds (negative: back), or the machine slept for so long."""

    by: float


class DiskSeen(Frozen, frozen=True):
    """Whether the disk of the journal is nearly full."""

    low: bool


class Tick(Frozen, frozen=True):
    """Time passes; comes about once a second."""


Event = (
    Started | Opened | Closed | Received | Registering | Unreadable | Revoked | KeyEnded | BookSeen | ClockMoved
    | DiskSeen | Tick
)  # fmt: skip


# Facts


class JobQueued(Frozen, frozen=True):
    """A job waits for a GPU: it is new, or the GPU that it held is gone."""

    DURABLE: ClassVar[bool] = True
    id: str
    owner: str
    fd: int | None
    task_type: str
    payload: Mapping[str, Any]
    at: float


class JobClaimed(Frozen, frozen=True):
    """The job's owner submitted it again, perhaps from another connection, perhaps with hashes it lacked before."""

    DURABLE: ClassVar[bool] = True
    id: str
    fd: int
    payload: Mapping[str, Any]
    at: float


class JobGranted(Frozen, frozen=True):
    """The job holds a lease on `gpu`."""

    DURABLE: ClassVar[bool] = True
    id: str
    gpu: str
    at: float


class JobReleased(Frozen, frozen=True):
    """The job has left the hub; `why` is a word (done, cancelled, result, boot_failed, expired, revoked).

    `fd` is the connection that cancelled it, if one did.
    """

    DURABLE: ClassVar[bool] = True
    id: str
    why: str
    at: float
    fd: int | None = None


class ResultKept(Frozen, frozen=True):
    """A result came while no connection of its owner was open; it is delivered when one registers."""

    DURABLE: ClassVar[bool] = True
    owner: str
    result: m.Result
    at: float


class ResultsGone(Frozen, frozen=True):
    """What was kept for `owner` was delivered, or nobody came for it in time."""

    DURABLE: ClassVar[bool] = True
    owner: str


class GpuOnline(Frozen, frozen=True):
    """The worker of `gpu` takes work at `url`. Part of the power ledger."""

    DURABLE: ClassVar[bool] = True
    LEDGER: ClassVar[bool] = True
    gpu: str
    url: str | None
    at: float


class GpuPhase(Frozen, frozen=True):
    """`gpu` is in another phase than online; `lost` is an online GPU whose worker went away. Part of the power ledger.

    `cause` is a sentence for people.
    """

    DURABLE: ClassVar[bool] = True
    LEDGER: ClassVar[bool] = True
    gpu: str
    phase: str
    at: float
    cause: str = ""


class GpuNote(Frozen, frozen=True):
    """There is something new to say of `gpu`, whose phase is as it was."""

    DURABLE: ClassVar[bool] = False
    gpu: str
    cause: str


class BootTook(Frozen, frozen=True):
    """`gpu` came online `seconds` after the first job had begun to wait for one. Part of the power ledger."""

    DURABLE: ClassVar[bool] = True
    LEDGER: ClassVar[bool] = True
    gpu: str
    seconds: float
    at: float


class BootTimes(Frozen, frozen=True):
    """The last boots, oldest first, each with its end and its seconds; `waking` is since when somebody waits.

    Only in a snapshot, in place of the facts that it stands for; likewise `AccountKept`.
    """

    DURABLE: ClassVar[bool] = True
    boots: tuple[tuple[float, float], ...]
    waking: float | None


class AccountKept(Frozen, frozen=True):
    """What `gpu`'s account in the power ledger came to, as in `ledger.Account`; `days` are pairs of day and seconds."""

    DURABLE: ClassVar[bool] = True
    gpu: str
    since: float | None
    at: float
    running_since: float | None
    days: tuple[tuple[int, float], ...]
    before: float


class CancelOwed(Frozen, frozen=True):
    """The worker of `gpu` is to stop this job, should it still have it. A snapshot has it for other facts as well."""

    DURABLE: ClassVar[bool] = True
    gpu: str
    id: str
    at: float


class LetGo(Frozen, frozen=True):
    """This job's client was done with `gpu`, which may have its task still. A snapshot has it for other facts."""

    DURABLE: ClassVar[bool] = True
    id: str
    owner: str
    gpu: str


class CancelsSettled(Frozen, frozen=True):
    """The worker of `gpu` is known not to have these jobs any more, or too much time has passed."""

    DURABLE: ClassVar[bool] = True
    gpu: str
    ids: tuple[str, ...]


class GpuHeld(Frozen, frozen=True):
    """`license` used the name `gpu` in this role (worker or monitor), and from the first time on no other may."""

    DURABLE: ClassVar[bool] = True
    role: str
    gpu: str
    license: str
    at: float


class GpuReleased(Frozen, frozen=True):
    """The name `gpu` is nobody's in this role."""

    DURABLE: ClassVar[bool] = True
    role: str
    gpu: str


class GpuForgotten(Frozen, frozen=True):
    """Nothing has used `gpu` for long: the hub keeps no account of it any more."""

    DURABLE: ClassVar[bool] = True
    gpu: str


class GpusTied(Frozen, frozen=True):
    """The names that licenses were issued for are these; see `BookSeen`."""

    DURABLE: ClassVar[bool] = False
    tied: tuple[tuple[str, str, tuple[str, ...]], ...]


class HubStarted(Frozen, frozen=True):
    """All connections of the journal are gone."""

    DURABLE: ClassVar[bool] = True
    at: float


class ConnectionOpened(Frozen, frozen=True):
    """A connection that has not registered yet."""

    DURABLE: ClassVar[bool] = False
    fd: int
    at: float


class ConnectionRegistered(Frozen, frozen=True):
    """Who is at the other end. `owner` is the license's id (None for peers without one), `key` what it presented."""

    DURABLE: ClassVar[bool] = False
    HIDDEN: ClassVar[frozenset[str]] = frozenset({"key"})
    fd: int
    role: str
    owner: str | None
    key: str | None
    gpu: str | None
    url: str | None
    gpus: tuple[str, ...]
    features: frozenset[str]
    device: str = "pc"


class GpuTaken(Frozen, frozen=True):
    """A worker that registered without a name has this GPU from now on."""

    DURABLE: ClassVar[bool] = False
    fd: int
    gpu: str


class ConnectionClosed(Frozen, frozen=True):
    """A connection is gone."""

    DURABLE: ClassVar[bool] = False
    fd: int
    at: float


class FrameRefused(Frozen, frozen=True):
    """A connection sent something that is no message."""

    DURABLE: ClassVar[bool] = False
    fd: int


class MonitorsTold(Frozen, frozen=True):
    """Something that this connection said was passed on to the monitors, or cost the hub as much."""

    DURABLE: ClassVar[bool] = False
    fd: int
    at: float


class OldNamesSpoken(Frozen, frozen=True):
    """A connection spells types in the older way, and is answered likewise."""

    DURABLE: ClassVar[bool] = False
    fd: int


class GpuActive(Frozen, frozen=True):
    """The worker of `gpu` reports that it works."""

    DURABLE: ClassVar[bool] = False
    gpu: str
    at: float


class WorkerUrl(Frozen, frozen=True):
    """The worker of `gpu` told its address by itself."""

    DURABLE: ClassVar[bool] = False
    gpu: str
    url: str


class Asked(Frozen, frozen=True):
    """A client's question (`kind` is status or boot) went to the monitors under its `request_id`.

    Of kind status-again it was answered from memory, and will be once more.
    """

    DURABLE: ClassVar[bool] = False
    kind: str
    request_id: str
    fd: int
    at: float


class Answered(Frozen, frozen=True):
    """The question was answered, or nobody will."""

    DURABLE: ClassVar[bool] = False
    kind: str
    request_id: str


class CapabilityGiven(Frozen, frozen=True):
    """The client of job `id` holds a capability until `expires` (UNIX seconds); None: it needs no other."""

    DURABLE: ClassVar[bool] = False
    id: str
    expires: float | None


class LicenseGone(Frozen, frozen=True):
    """`license` was revoked; workers that come later must hear of it while its capabilities could still be shown."""

    DURABLE: ClassVar[bool] = False
    license: str
    at: float


class ClockSet(Frozen, frozen=True):
    """All times before this fact are `by` seconds later by the clock as it goes now; `at` is by that."""

    DURABLE: ClassVar[bool] = True
    by: float
    at: float


class TextAsked(Frozen, frozen=True):
    """A client asked for a text or a video; `frame` is what a text worker is to be sent, less the key."""

    DURABLE: ClassVar[bool] = False
    kind: str
    owner: str
    fd: int
    frame: Mapping[str, Any]
    at: float


class TextGiven(Frozen, frozen=True):
    """The text request `id` is at the connection `worker`."""

    DURABLE: ClassVar[bool] = False
    id: int
    worker: int


class TextEnded(Frozen, frozen=True):
    """The text request `id` was answered, or given up; `in_vain`: a GPU is online, but no text worker came."""

    DURABLE: ClassVar[bool] = False
    id: int
    in_vain: bool = False


class DiskLow(Frozen, frozen=True):
    """New jobs are turned away while there is hardly room for what was promised."""

    DURABLE: ClassVar[bool] = False
    low: bool


Fact = (
    JobQueued | JobClaimed | JobGranted | JobReleased | ResultKept | ResultsGone | GpuOnline | GpuPhase | HubStarted
    | GpuHeld | GpuReleased | GpuForgotten | GpusTied
    | GpuNote | BootTook | BootTimes | AccountKept | CancelOwed | LetGo | CancelsSettled
    | ConnectionOpened | ConnectionRegistered | GpuTaken | ConnectionClosed | FrameRefused | OldNamesSpoken
    | MonitorsTold | GpuActive | WorkerUrl
    | Asked | Answered | ClockSet | DiskLow | CapabilityGiven | LicenseGone | TextAsked | TextGiven | TextEnded
)  # fmt: skip


# Commands


class Seal(Frozen, frozen=True):
    """What only the holder of the hub's signing key can put into a message, when it is sent.

    Into an `ack` or a renewal, a capability for its job on `gpu` in the name of `license`; into `registered`, where
    both are empty, the public key.
    """

    gpu: str = ""
    license: str = ""


class Send(Frozen, frozen=True):
    """One message to one connection; `old` sends it under its older name as well."""

    fd: int
    message: m.Message
    old: bool = False
    seal: Seal | None = None


class Broadcast(Frozen, frozen=True):
    """One message to many connections; `old` sends it under its older name as well."""

    to: tuple[int, ...]
    message: m.Message
    old: bool = False


class Close(Frozen, frozen=True):
    """End a connection with a WebSocket close code, after what was sent to it before."""

    fd: int
    code: int
    why: str


Command = Send | Broadcast | Close
