"""The few things that the pipeline needs from the world. Adapters implement them; fakes are in adapters/testing.

Every method may raise the errors of `wakestream.operators.model.errors` and no others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from reactivex import Observable

from wakestream.operators.model.events import Algorithm, Done, Downloading, Eta, FileRef, Fingerprint, Job


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The hub is connected and has registered us; `features` are its additions to the field's protocol.

    `capability_key` is the hub's public key, which only workers are told.
    """

    features: frozenset[str] = frozenset()
    capability_key: str | None = None


@dataclass(frozen=True, slots=True)
class LinkDown:
    """There is no connection to the hub; one is being made again. `code` is set when the hub itself turned us away.

    `connecting`: nothing is wrong yet, the first attempt is under way. `asked`: the job that hears it has asked this
    hub before, in an attempt that came to nothing.
    """

    reason: str = ""
    code: str | None = None
    connecting: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The hub gave this job a GPU (the wire's `ack`)."""

    gpu: str | None = None
    url: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class OfflineReply:
    """The hub queued this job (the wire's `gpu.power.offline`)."""

    phase: str = "booting"
    position: int | None = None
    eta: Eta | None = None


@dataclass(frozen=True, slots=True)
class PowerNotice:
    """News of the machine that is not yet the end of the wait (the wire's `booted`)."""

    phase: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OnlineNotice:
    """The broadcast that a GPU came online; it counts as a grant where the hub sends nothing else."""

    gpu: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The hub will not take this job."""

    reason: str
    code: str = "refused"


@dataclass(frozen=True, slots=True)
class Busy:
    """The hub works at one job of this key and takes no other meanwhile; `own`: that one is this very job."""

    own: bool = False


@dataclass(frozen=True, slots=True)
class Free:
    """The hub that was `Busy` takes a job again, and this one is the next to ask."""


@dataclass(frozen=True, slots=True)
class BootFailure:
    """The monitor could not start the GPU."""

    reason: str


Reply = LinkUp | LinkDown | Accepted | OfflineReply | PowerNotice | OnlineNotice | Refused | Busy | Free | BootFailure


class Hub(Protocol):
    """The hub as one job sees it."""

    def replies(self, job: Job) -> Observable[Reply]:
        """A hot view of what concerns `job`; begins with the link's present state, never errors or completes."""
        ...

    def submit(self, job: Job, files: Sequence[Fingerprint] = ()) -> None:
        """Ask for a GPU now. Once it is granted, the hub is reminded at each new connection until `release`."""
        ...

    def release(self, job: Job, *, cancelled: bool = False) -> None:
        """The job no longer needs its GPU."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """A worker's answer about itself; `busy` are its tasks and transfers, 0 if it does not say."""

    initialized: bool
    features: frozenset[str] = frozenset()
    busy: int = 0


@dataclass(frozen=True, slots=True)
class TaskReceipt:
    """The worker's answer to a submit."""

    task_id: str
    cached: bool = False
    position: int | None = None


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The worker's answer to a poll; `status` is the wire's word, `percent` 0-100."""

    status: str
    percent: float = 0.0
    message: str = ""
    frame: int | None = None
    frames: int | None = None
    position: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """The worker has the file's first `bytes` bytes already: the upload goes on there."""

    bytes: int


class Worker(Protocol):
    """One GPU's HTTP side."""

    async def health(self) -> Health:
        """Whether the engine is ready for work, and what the worker can do."""
        ...

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """For each hash, whether the worker has the file."""
        ...

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        """Send one file; yields how many of its bytes are there: `Resumed` where they came by an earlier attempt.

        `FileChanged` if it is no longer the file that was read.
        """
        ...

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        """Start the synthesis, or find the one that was started before."""
        ...

    async def report(self, task_id: str) -> TaskReport:
        """How far the task is. `TaskLost` when the worker does not know it."""
        ...

    def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        """Fetch the result to `output`, which exists only when it is whole; ends with `Done`."""
        ...

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Give the task up for `job_id`, where the worker can; it stops when no other job holds it."""
        ...


class Workers(Protocol):
    """Finds the worker at an address."""

    def at(self, url: str | None) -> Worker:
        """The worker at `url`, or at the configured address when the hub named none (`WorkerRefused` if neither)."""
        ...

    def resolve(self, url: str | None) -> str:
        """The address that `at` uses, with scheme and port."""
        ...


class Files(Protocol):
    """The user's files."""

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """Read the file once and hash it with every algorithm; a file already read and unchanged is not read again."""
        ...


class Effects(Protocol):
    """The door for effects of your own, so that they are on the record and a log can answer for them."""

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        """What `effect()` returns (JSON: None, text, numbers, lists, objects); a replay returns it without the effect.

        `label` and `args` (JSON, no secrets) say what was asked; a replay compares them. Raise `WakestreamError`s.
        """
        ...


PowerReading = Literal["unknown", "starting", "running", "stopping", "stopped", "no_capacity", "failed"]
"""What a power provider sees when it looks at its machine."""


class Power(Protocol):
    """One machine that can be switched on and off. A call that returns has been accepted, not carried out: inspect."""

    @property
    def detail(self) -> str:
        """The provider's own words on the last reading, such as why it failed; empty when it has none."""
        ...

    async def start(self) -> None:
        """Begin to power on; `NoCapacity` when the provider has no machine to give, `PowerError` on anything else."""
        ...

    async def stop(self) -> None:
        """Begin to power off; `PowerError` when the provider refuses."""
        ...

    async def inspect(self) -> PowerReading:
        """What the provider says of the machine now; `PowerError` when it cannot say."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """How far an engine is: frame `frame` of `frames` (0 when unknown), `percent` 0-100."""

    frame: int
    frames: int
    percent: float


class Engine(Protocol):
    """What makes a video of a video and an audio file."""

    async def check(self) -> None:
        """Returns when the engine can work; `TaskFailed` says what is missing."""
        ...

    def render(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """Write `output`; yields real progress. `TaskFailed` says why in the engine's own last words.

        Closing the generator stops the work; `output` appears only when it is whole.
        """
        ...


F = TypeVar("F")


class Journal(Protocol[F]):
    """Facts, in order, kept before anything that they promise is said aloud.

    `snapshot`, which the owner may set, gives the fewest facts that lead to the present state; a journal may cut itself
    down to them. It holds at least all that was appended before.
    """

    snapshot: Callable[[], Sequence[F]] | None

    async def append(self, facts: Sequence[F]) -> None:
        """Returns when the facts are kept. `NoSpace`: none of them is, try again; `JournalError`: no more will be."""
        ...

    def read(self) -> Iterable[F]:
        """All facts kept so far, oldest first."""
        ...
