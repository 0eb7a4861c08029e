"""What the hub hears, decides and does: its events, facts and commands as frozen types.

Times are UNIX seconds. A fact with `DURABLE` is journaled before the commands of its event are carried out; the others
describe connections, which do not outlive the process. A license key is a secret: it is in no durable fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from wakestream.streams import messages as m


@dataclass(frozen=True, slots=True)
class License:
    """What is known of a presented key: the license's public `id`, the `role` it gives, and whether it is `revoked`."""

    id: str
    role: str
    revoked: bool = False


# Events


@dataclass(frozen=True, slots=True)
class Started:
    """The hub's process starts; what the journal says of connections is no longer so.

    `kept` are the facts of the journal, which the state holds already: for the record.
    """

    kept: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection passed the handshake."""

    fd: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection is gone."""

    fd: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message came; `old` tells that its sender spelt the type in the older way."""

    fd: int
    message: m.Message
    old: bool = False


@dataclass(frozen=True, slots=True)
class Registering:
    """A `register` came. `credential` is the key, token or header presented, `license` what the book says of it."""

    fd: int
    message: m.Register = field(repr=False)
    credential: str | None = field(default=None, repr=False)
    license: License | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame came that is no message; `why` is a sentence for its sender."""

    fd: int
    why: str
    code: str = "malformed"


@dataclass(frozen=True, slots=True)
class Revoked:
    """A license is no longer valid."""

    license: str


@dataclass(frozen=True, slots=True)
class ClockMoved:
    """The wall clock was set, by `by` seconds (negative: back), or the machine slept for so long."""

    by: float


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """Whether the disk of the journal is nearly full."""

    low: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes; comes about once a second."""


Event = Started | Opened | Closed | Received | Registering | Unreadable | Revoked | ClockMoved | DiskSeen | Tick


# Facts


@dataclass(frozen=True, slots=True)
class JobQueued:
    """A job waits for a GPU: it is new, or the GPU that it held is gone."""

    DURABLE: ClassVar[bool] = True
    id: str
    owner: str
    fd: int | None
    task_type: str
    payload: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class JobClaimed:
    """The job's owner submitted it again, perhaps from another connection, perhaps with hashes it lacked before."""

    DURABLE: ClassVar[bool] = True
    id: str
    fd: int
    payload: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class JobGranted:
    """The job holds a lease on `gpu`."""

    DURABLE: ClassVar[bool] = True
    id: str
    gpu: str
    at: float


@dataclass(frozen=True, slots=True)
class JobReleased:
    """The job has left the hub; `why` is a word (done, cancelled, result, boot_failed, expired, revoked).

    `fd` is the connection that cancelled it, if one did.
    """

    DURABLE: ClassVar[bool] = True
    id: str
    why: str
    at: float
    fd: int | None = None


@dataclass(frozen=True, slots=True)
class ResultKept:
    """A result came while no connection of its owner was open; it is delivered when one registers."""

    DURABLE: ClassVar[bool] = True
    owner: str
    result: m.Result
    at: float


@dataclass(frozen=True, slots=True)
class ResultsGone:
    """What was kept for `owner` was delivered, or nobody came for it in time."""

    DURABLE: ClassVar[bool] = True
    owner: str


@dataclass(frozen=True, slots=True)
class GpuOnline:
    """The worker of `gpu` takes work at `url`. Part of the power ledger."""

    DURABLE: ClassVar[bool] = True
    LEDGER: ClassVar[bool] = True
    gpu: str
    url: str | None
    at: float


@dataclass(frozen=True, slots=True)
class GpuPhase:
    """`gpu` is in another phase than online; `lost` is an online GPU whose worker went away. Part of the power ledger.

    `cause` is a sentence for people.
    """

    DURABLE: ClassVar[bool] = True
    LEDGER: ClassVar[bool] = True
    gpu: str
    phase: str
    at: float
    cause: str = ""


@dataclass(frozen=True, slots=True)
class GpuNote:
    """There is something new to say of `gpu`, whose phase is as it was."""

    DURABLE: ClassVar[bool] = False
    gpu: str
    cause: str


@dataclass(frozen=True, slots=True)
class BootTook:
    """`gpu` came online `seconds` after the first job had begun to wait for one. Part of the power ledger."""

    DURABLE: ClassVar[bool] = True
    LEDGER: ClassVar[bool] = True
    gpu: str
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class BootTimes:
    """The last boots, oldest first, each with its end and its seconds; `waking` is since when somebody waits.

    Only in a snapshot, in place of the facts that it stands for; likewise `AccountKept` and `CancelOwed`.
    """

    DURABLE: ClassVar[bool] = True
    boots: tuple[tuple[float, float], ...]
    waking: float | None


@dataclass(frozen=True, slots=True)
class AccountKept:
    """What `gpu`'s account in the power ledger came to, as in `ledger.Account`; `days` are pairs of day and seconds."""

    DURABLE: ClassVar[bool] = True
    gpu: str
    since: float | None
    at: float
    running_since: float | None
    days: tuple[tuple[int, float], ...]
    before: float


@dataclass(frozen=True, slots=True)
class CancelOwed:
    """The worker of `gpu` is to stop this job, should it still have it."""

    DURABLE: ClassVar[bool] = True
    gpu: str
    id: str
    at: float


@dataclass(frozen=True, slots=True)
class CancelsSettled:
    """The worker of `gpu` is known not to have these jobs any more, or too much time has passed."""

    DURABLE: ClassVar[bool] = True
    gpu: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HubStarted:
    """All connections of the journal are gone."""

    DURABLE: ClassVar[bool] = True
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A connection that has not registered yet."""

    DURABLE: ClassVar[bool] = False
    fd: int
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionRegistered:
    """Who is at the other end. `owner` is the license's id (None for peers without one), `key` what it presented."""

    DURABLE: ClassVar[bool] = False
    fd: int
    role: str
    owner: str | None
    key: str | None = field(repr=False)
    gpu: str | None
    url: str | None
    gpus: tuple[str, ...]
    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A connection is gone."""

    DURABLE: ClassVar[bool] = False
    fd: int
    at: float


@dataclass(frozen=True, slots=True)
class FrameRefused:
    """A connection sent something that is no message."""

    DURABLE: ClassVar[bool] = False
    fd: int


@dataclass(frozen=True, slots=True)
class MonitorsTold:
    """Something that this connection said was passed on to the monitors, or cost the hub as much."""

    DURABLE: ClassVar[bool] = False
    fd: int
    at: float


@dataclass(frozen=True, slots=True)
class OldNamesSpoken:
    """A connection spells types in the older way, and is answered likewise."""

    DURABLE: ClassVar[bool] = False
    fd: int


@dataclass(frozen=True, slots=True)
class GpuActive:
    """The worker of `gpu` reports that it works."""

    DURABLE: ClassVar[bool] = False
    gpu: str
    at: float


@dataclass(frozen=True, slots=True)
class WorkerUrl:
    """The worker of `gpu` told its address by itself."""

    DURABLE: ClassVar[bool] = False
    gpu: str
    url: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A client's question (`kind` is status or boot) went to the monitors under its `request_id`."""

    DURABLE: ClassVar[bool] = False
    kind: str
    request_id: str
    fd: int
    at: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The question was answered, or nobody will."""

    DURABLE: ClassVar[bool] = False
    kind: str
    request_id: str


@dataclass(frozen=True, slots=True)
class CapabilityGiven:
    """The client of job `id` holds a capability until `expires` (UNIX seconds); None: it needs no other."""

    DURABLE: ClassVar[bool] = False
    id: str
    expires: float | None


@dataclass(frozen=True, slots=True)
class LicenseGone:
    """`license` was revoked; workers that come later must hear of it while its capabilities could still be shown."""

    DURABLE: ClassVar[bool] = False
    license: str
    at: float


@dataclass(frozen=True, slots=True)
class ClockSet:
    """All times before this fact are `by` seconds later by the clock as it goes now; `at` is by that."""

    DURABLE: ClassVar[bool] = True
    by: float
    at: float


@dataclass(frozen=True, slots=True)
class DiskLow:
    """New jobs are turned away while there is hardly room for what was promised."""

    DURABLE: ClassVar[bool] = False
    low: bool


Fact = (
    JobQueued | JobClaimed | JobGranted | JobReleased | ResultKept | ResultsGone | GpuOnline | GpuPhase | HubStarted
    | GpuNote | BootTook | BootTimes | AccountKept | CancelOwed | CancelsSettled
    | ConnectionOpened | ConnectionRegistered | ConnectionClosed | FrameRefused | OldNamesSpoken
    | MonitorsTold | GpuActive | WorkerUrl
    | Asked | Answered | ClockSet | DiskLow | CapabilityGiven | LicenseGone
)  # fmt: skip


# Commands


@dataclass(frozen=True, slots=True)
class Seal:
    """What only the holder of the hub's signing key can put into a message, when it is sent.

    Into an `ack` or a renewal, a capability for its job on `gpu` in the name of `license`; into `registered`, where
    both are empty, the public key.
    """

    gpu: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """One message to one connection; `old` sends it under its older name as well."""

    fd: int
    message: m.Message
    old: bool = False
    seal: Seal | None = None


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One message to many connections; `old` sends it under its older name as well."""

    to: tuple[int, ...]
    message: m.Message
    old: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """End a connection with a WebSocket close code, after what was sent to it before."""

    fd: int
    code: int
    why: str


Command = Send | Broadcast | Close
