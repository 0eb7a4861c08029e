"""The interfaces between a pipeline and the world. Adapters implement them; adapters/testing has fakes.

Every method may raise the errors of `wakestream.operators.model.errors`, and no others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from reactivex import Observable

from wakestream.operators.model import events
from wakestream.operators.model.depot import DepotFile, InDepotDone, Places
from wakestream.operators.model.depot import Resumed as Resumed
from wakestream.operators.model.events import Algorithm, Done, Downloading, Eta, FileRef, Fingerprint, Job, Note


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The hub is connected and has registered this program.

    Attributes:
        features: The hub's additions to the protocol.
        capability_key: The hub's public key, which it sends to workers only.
    """

    features: frozenset[str] = frozenset()
    capability_key: str | None = None


@dataclass(frozen=True, slots=True)
class LinkDown:
    """There is no connection to the hub; the program connects again by itself.

    Attributes:
        reason: A sentence for people.
        code: The hub's word, if the hub refused the connection.
        connecting: The first attempt to connect is still running.
        asked: The job that receives this has sent a submit to this hub in an earlier attempt.
    """

    reason: str = ""
    code: str | None = None
    connecting: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The hub granted a GPU to this job (`ack` on the wire)."""

    gpu: str | None = None
    url: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class OfflineReply:
    """The GPU is off, and the hub has queued this job (`gpu.power.offline` on the wire).

    `until`: in the phase `budget`, when the job can go on (UNIX seconds). `retry_in`: in the phase `no_capacity`,
    seconds until the provider is asked for a machine again. `reason`: why no GPU that can do this job can be started.
    In the phase `queued` a GPU is on, and `position - 1` jobs come before this one. `depot`: the hub has a depot.
    """

    phase: str = "booting"
    position: int | None = None
    eta: Eta | None = None
    until: float | None = None
    reason: str = ""
    retry_in: float | None = None
    depot: bool = False


@dataclass(frozen=True, slots=True)
class PowerNotice:
    """The GPU's power phase changed, such as `booted`; the wait goes on. `retry_in` is as in `OfflineReply`."""

    phase: str
    reason: str = ""
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class OnlineNotice:
    """A GPU is online (a broadcast). From a hub that does not grant GPUs to single jobs, this is the grant."""

    gpu: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The hub refused this job."""

    reason: str
    code: str = "refused"


@dataclass(frozen=True, slots=True)
class Busy:
    """The hub runs one job of this key at a time, and refused this one; `own`: the running job is this one."""

    own: bool = False


@dataclass(frozen=True, slots=True)
class Free:
    """The hub that was `Busy` accepts a job again, and this job is the next one to ask."""


@dataclass(frozen=True, slots=True)
class BootFailure:
    """The monitor could not start the GPU."""

    reason: str


Reply = (
    LinkUp | LinkDown | Accepted | OfflineReply | PowerNotice | OnlineNotice | Refused | Busy | Free | BootFailure
    | Places | events.Stored | events.Remote | InDepotDone
)  # fmt: skip


class Hub(Protocol):
    """The hub as one job sees it."""

    def replies(self, job: Job) -> Observable[Reply]:
        """Observe the hub's replies to one job.

        Args:
            job: The job.

        Returns:
            A hot observable that starts with the present `LinkUp` or `LinkDown`. It never fails or completes.
        """

    def submit(self, job: Job, files: Sequence[Fingerprint] = ()) -> None:
        """Ask for a GPU. A granted job is submitted again at each new connection, until `release`.

        Args:
            job: The job.
            files: The hashes of its files, for a hub that needs them.
        """

    def release(self, job: Job, *, cancelled: bool = False) -> None:
        """Tell the hub that the job does not need its GPU any more.

        Args:
            job: The job.
            cancelled: Whether the job was cancelled.
        """

    def offer(self, job: Job, files: Sequence[DepotFile]) -> None:
        """Ask where these files of the job are put, or ask for new links. Repeated at each new connection.

        Args:
            job: The job.
            files: All of its files.
        """

    def storing(self, job: Job, left: int, rate: float | None) -> None:
        """Tell how far the upload to the depot is.

        Args:
            job: The job.
            left: The bytes that are still to be sent.
            rate: Bytes a second of the last seconds; None if unknown.
        """

    def depot(self, job: Job, said: Literal["stored", "withdraw", "query"]) -> None:
        """Tell what is next with the job's files.

        Args:
            job: The job.
            said: `stored`: all are in the depot. `withdraw`: they go to the worker itself. `query`: ask for the
                results, with new links.
        """

    def order(self, jobs: Sequence[str]) -> None:
        """Have those of these jobs that wait at the hub exchange their places, to be in this order.

        Args:
            jobs: The ids of jobs.
        """


@dataclass(frozen=True, slots=True)
class Health:
    """A worker's state. `busy`: the number of its tasks and transfers, 0 if unknown. `msg`: its own words."""

    initialized: bool
    features: frozenset[str] = frozenset()
    busy: int = 0
    msg: str = ""


@dataclass(frozen=True, slots=True)
class TaskReceipt:
    """The worker's answer to a submit. `cached`: it has the result already."""

    task_id: str
    cached: bool = False
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A finished result at the worker: its name, its ending (`.mp4`), its bytes and its BLAKE3 (hex)."""

    name: str
    ext: str
    size: int
    blake3: str


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The worker's answer about a task. `status` is the word on the wire, `percent` 0-100.

    `waits` is why the worker begins no tasks at present, if it does not. `live`: the next call is answered when the
    task has changed, so it needs no pause before it.
    """

    status: str
    percent: float = 0.0
    message: str = ""
    frame: int | None = None
    frames: int | None = None
    position: int | None = None
    error: str | None = None
    outputs: tuple[Output, ...] = ()
    waits: str = ""
    live: bool = False


class Worker(Protocol):
    """The HTTP server on one GPU machine."""

    async def health(self) -> Health:
        """Return whether the engine is ready, and the worker's features."""

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """Return for each hash whether the worker has the file."""

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        """Send one file.

        Args:
            file: The file on this machine.
            ref: Its name at the worker.

        Yields:
            How many bytes the worker has; `Resumed` if an earlier attempt sent them.

        Raises:
            FileChanged: The file changed after it was hashed.
        """

    async def upload_small(self, files: Mapping[FileRef, Fingerprint]) -> None:
        """Send several small files: in one call if the worker has the feature `small_files`, else one after the other.

        Args:
            files: The files on this machine, by their names at the worker.

        Raises:
            FileChanged: A file changed after it was hashed.
        """
        for ref, file in files.items():
            async for _ in self.upload(file, ref):
                pass

    async def submit(self, job: Job, files: Mapping[str, FileRef]) -> TaskReceipt:
        """Start the work, or return the receipt of the same work if it was started before.

        Args:
            job: The job.
            files: The names of its input files at the worker.
        """

    async def report(self, task_id: str) -> TaskReport:
        """Return the progress of the task. Raises `TaskLost` if the worker does not know it."""

    def download(
        self, task_id: str, output: Path, name: str | None = None, made: Output | None = None
    ) -> AsyncIterator[Downloading | Note | Done]:
        """Fetch a result to `output`, which appears only when it is complete. The last item is `Done`.

        Args:
            task_id: The task.
            output: The file to write.
            name: The name of the result; None for the main one.
            made: A further file of a list, whose name the user did not choose: it replaces no other file, but gets a
                free name beside `output`. The same content at `output` is not fetched again.
        """

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Cancel the task for `job_id`. It goes on if other jobs need it."""


class Workers(Protocol):
    """Makes the worker for an address."""

    def at(self, url: str | None) -> Worker:
        """Return the worker at `url`, or at the configured address without `url` (`WorkerRefused` without both)."""

    def resolve(self, url: str | None) -> str:
        """Return the address that `at` uses, with scheme and port."""


class Files(Protocol):
    """The user's files."""

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """Read and hash a file with all algorithms. A file that was read and has not changed is not read again."""


class Effects(Protocol):
    """Runs the effects of your own pipeline, so that they are recorded and a replay can answer them."""

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        """Run an effect.

        Args:
            label: The name of the effect in the recording.
            args: What the effect does, as JSON without secrets. A replay compares it.
            effect: The function that does it. It should raise `WakestreamError`s only.

        Returns:
            What `effect()` returns, which must be JSON. A replay returns it without calling `effect`.
        """


PowerWord = Literal["unknown", "off", "starting", "booted", "online", "draining", "stopping", "no_capacity", "failed"]
"""The state of a GPU, as its monitor reports it to the hub."""

PowerState = Literal["unknown", "starting", "running", "stopping", "stopped", "terminated", "no_capacity", "failed"]
"""The state of a machine, as its power provider reports it. A `terminated` machine is deleted and never comes back."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a power provider says of a machine.

    Attributes:
        state: Its state.
        address: The host, `HOST:PORT` or URL at which its worker can be reached; None if the provider does not say.
        since: UNIX seconds since when it is in this state; None if the provider does not say.
        detail: The provider's own words, such as the reason of a failure; may be empty.
        gpus: The number of GPUs that it has now; None if the provider does not say.
    """

    state: PowerState
    address: str | None = None
    since: float | None = None
    detail: str = ""
    gpus: int | None = None

    def __str__(self) -> str:
        """The state with the provider's own words."""
        return f"{self.state} ({self.detail[:80]})" if self.detail else self.state


class Power(Protocol):
    """One machine that can be switched on and off. `start` and `stop` only begin; `inspect` shows the result.

    Each method raises a `PowerError`: `Denied` if the credentials are refused, `Gone` if the machine does not exist,
    `TryAgain` if it refused and nothing happened, `Transient` if a later call may succeed, `PowerError` itself for
    anything else. `start` and `stop` return nothing: what they return is never taken for a reading.
    """

    async def start(self) -> None:
        """Begin to power on.

        Raises:
            NoCapacity: The provider has no free machine at present.
            QuotaExceeded: The account may not run this machine; the start is not repeated.
        """

    async def stop(self) -> None:
        """Begin to power off."""

    async def inspect(self) -> Reading:
        """Return the machine's state."""


F = TypeVar("F")


class Journal(Protocol[F]):
    """Facts on disk, in order. They are written before the replies that depend on them are sent.

    `snapshot`, which the owner may set, returns rows that describe the present state. `append` may call it before its
    first await, and replace all facts by these rows, which another thread reads. `snapshot_includes_append` says
    whether the state already has the facts of that `append`; it has those of all earlier ones.

    `confirm` returns when it is sure that no other program writes the journal, and raises `Fenced` if one may. A reply
    that depends on no `append` waits for it. None: no other program can write it while this one runs.
    """

    snapshot: Callable[[], Iterable[bytes]] | None
    snapshot_includes_append: bool
    confirm: Callable[[], Awaitable[None]] | None

    async def append(self, facts: Sequence[F]) -> None:
        """Write facts; return when they are on disk.

        Raises:
            NoSpace: None of them was written; try again later.
            Fenced: Another program may write it now. It is unknown which of these facts were written.
            JournalError: The journal cannot be written any more.
        """

    def restore(self) -> list[bytes]:
        """Return the rows of the last snapshot; none if there is no snapshot."""

    def read(self) -> Iterable[F]:
        """Return the facts after the last snapshot, oldest first."""
