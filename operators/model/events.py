"""The events of a job, as frozen types.

A job's observable emits only these. Each stage ends with the event that the next stage starts from. The last event of
a job is exactly one of `Done`, `Failed`, `TimedOut`, `Cancelled` (`Outcome`). Times are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Branch = Literal["online", "offline"]
Algorithm = Literal["md5", "blake3"]


LIPSYNC = "lipsync"
"""The kind that deployed systems know: a video and an audio file become a video."""

_OLD_TASK_TYPE = "heygem_submit"
"""What deployed systems call it on the wire."""


class JobSpec:
    """The work of a job, wherever it is: its kind, its inputs by name, its parameters, and its outputs by name.

    What an input is depends on the place: a path on the user's machine (`Job`), a file as it was when the job was
    accepted (`JobAccepted`), the hash of its content (`TaskSpec`), or a path on the GPU machine (`Work`).
    """

    __slots__ = ()
    kind: str
    inputs: Mapping[str, Any]
    params: Mapping[str, Any]
    outputs: Collection[str]

    @property
    def old_shape(self) -> bool:
        """Whether deployed systems can do this job: one video and one audio file, no parameters, one result."""
        pair = self.kind == LIPSYNC and self.inputs.keys() == {"video", "audio"}
        return pair and not self.params and len(self.outputs) == 1


@dataclass(frozen=True, slots=True)
class Job(JobSpec):
    """A job: the kind of work, the files and parameters, and where the results go.

    Attributes:
        id: The idempotency key: a job with the same id is the same job.
        inputs: The input files by name.
        outputs: The files that the results are written to, by name. The first is the main one.
        kind: The kind of work, such as `lipsync`.
        params: The parameters, as JSON.
        alias: What the wire calls a lip-sync job, where that is not the usual name.
        overwrite: The results replace files of their names. Otherwise a result gets the next free number (`b-2.png`).
        again: The result must be made for this job: that of another job with the same inputs is not used.
        gpus: The names of the GPUs that may do it; empty if any GPU with this kind may.
        requires: What the labels of its GPU must be, such as `memory>=24`.
        priority: Among the jobs that wait at the hub, those of a higher one come first.
        unnamed: The user did not name the results, so that the ending of each follows its content.

    Example:
        >>> Job("a1", {"image": Path("a.png")}, {"image": Path("b.png")}, "upscale", {"scale": 2}).output
        PosixPath('b.png')
    """

    id: str
    inputs: Mapping[str, Path] = field(hash=False)
    outputs: Mapping[str, Path] = field(hash=False)
    kind: str = LIPSYNC
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    alias: str = ""
    again: bool = False
    gpus: tuple[str, ...] = ()
    overwrite: bool = False
    unnamed: bool = False
    requires: tuple[str, ...] = ()
    priority: int = 0

    def __post_init__(self) -> None:
        """Give the files of a lip-sync job the order that deployed systems know, however they were given."""
        if self.kind == LIPSYNC and self.inputs.keys() == {"video", "audio"}:
            object.__setattr__(self, "inputs", {name: self.inputs[name] for name in ("video", "audio")})
        if self.alias == _OLD_TASK_TYPE:
            object.__setattr__(self, "alias", "")

    @classmethod
    def lipsync(cls, name: str, video: Path, audio: Path, output: Path, task_type: str = _OLD_TASK_TYPE) -> Job:
        """Return the job with the id `name` that makes the person in `video` speak `audio`."""
        return cls(name, {"video": video, "audio": audio}, {"video": output}, alias=task_type)

    @property
    def output(self) -> Path:
        """The main result's file."""
        return next(iter(self.outputs.values()))

    @property
    def task_type(self) -> str:
        """The kind as it is called on the wire."""
        return self.alias or (_OLD_TASK_TYPE if self.kind == LIPSYNC else self.kind)


REQUIRES = "requires"
"""The feature of hubs and clients that know `requires` and `priority` of a job."""

PRIORITY = "priority"
"""The feature of hubs where the client's license allows priorities above 0."""

MAX_PRIORITY = 100
"""The highest priority that a license may allow; the lowest one is as far below 0."""

GPU_CHOICE = "gpu_choice"
"""The feature of hubs and clients that know jobs for certain GPUs."""

INPUTS = "inputs"
"""The feature of hubs and workers that know jobs of any kind; deployed ones know a video and an audio file only."""


SMALL_FILES = "small_files"
"""The feature of workers that take several small files in one call."""


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the GPU is expected online: the median and the 90th percentile of earlier boots."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hashes of a file. `digests` maps algorithm to lower-case hex; `size` and `mtime_ns` show later changes."""

    path: Path
    size: int
    mtime_ns: int
    digests: Mapping[str, str]

    @property
    def ext(self) -> str:
        """The extension with its dot, in lower case (`.mp4`)."""
        return self.path.suffix.lower()


@dataclass(frozen=True, slots=True)
class FileRef:
    """How a worker names a file: the hex digest of its content, and its extension."""

    hash: str
    ext: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The GPU is off, and the hub has queued the job. `phase` is the GPU's power phase.

    In the phase `budget` the budget is spent, and the job continues at `until` (UNIX seconds). In the phase
    `no_capacity`, the provider is asked for a machine again in `retry_in` seconds.
    """

    position: int | None = None
    phase: str = "booting"
    eta: Eta | None = None
    until: float | None = None
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class Waking:
    """The job has waited for a GPU for `waited` seconds. Emitted every `line_every` seconds (10) of the policy.

    `why` has details; `until` and `retry_in` are as in `Queued`.
    """

    waited: float
    phase: str = "booting"
    position: int | None = None
    eta: Eta | None = None
    why: str = ""
    until: float | None = None
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The job has a GPU. `branch`: whether the GPU was online at once. `url` None means the address in the settings."""

    branch: Branch
    waited: float
    gpu: str | None = None
    url: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Online:
    """The worker at `url` is initialized; `features` are the ones that it announced."""

    url: str
    gpu: str | None = None
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fingerprinted:
    """All input files are hashed, in the order of the job's inputs."""

    files: tuple[Fingerprint, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Checked:
    """The worker said which files it has; `missing` must be uploaded. `algorithm` is the hash that names files."""

    worker: Online
    inputs: Mapping[str, Fingerprint]
    algorithm: Algorithm
    missing: tuple[Fingerprint, ...]

    def ref(self, file: Fingerprint) -> FileRef:
        """Return the name of `file` at this worker."""
        return FileRef(file.digests[self.algorithm], file.ext)

    @property
    def refs(self) -> dict[str, FileRef]:
        """The names of all input files at this worker."""
        return {name: self.ref(file) for name, file in self.inputs.items()}

    @property
    def saved(self) -> int:
        """Bytes that need no upload."""
        distinct = {self.ref(file): file.size for file in self.inputs.values()}
        return sum(distinct.values()) - sum(file.size for file in self.missing)


@dataclass(frozen=True, slots=True)
class Uploading:
    """The worker has `bytes` of the `of` bytes of all missing files; `name` is the present file."""

    bytes: int
    of: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The worker has all files: `sent` bytes were sent, `saved` bytes were there before."""

    checked: Checked
    sent: int
    saved: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """The worker accepted the task. `cached`: it has the result already. `position`: the place in its queue."""

    worker: Online
    task_id: str
    cached: bool = False
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """The worker's report: `percent` is 0-100; `frame` of `frames` if the engine counts them.

    `why` is what a task waits for at the engine, if that is not another task.
    """

    percent: float
    status: str = "processing"
    frame: int | None = None
    frames: int | None = None
    position: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The result is ready at the worker."""

    task: Submitted


@dataclass(frozen=True, slots=True)
class Downloading:
    """`bytes` of the results are received, out of `of` (None: unknown); `name` is the present one, of several."""

    bytes: int
    of: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Storing:
    """The depot has `bytes` of the `of` bytes of the job's files; `name` is the present file."""

    bytes: int
    of: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """All files, of `size` bytes, are in the depot, and the hub does the job: this program may go.

    `until` (UNIX seconds): how long the files are kept without a use. `local`: the hub runs on this machine, which must
    stay on.
    """

    size: int
    until: float | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Remote:
    """The hub says how far the work is without this program.

    `step` is `wait`, `fetch`, `render` or `deliver`, `percent` (0-100) how much of it is done. `local`: see `Stored`.
    """

    step: str
    percent: float | None = None
    gpu: str | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The results, of `size` bytes, are in the depot; `gpu` made them."""

    size: int
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """A retryable error happened (`why`): attempt `attempt` starts in `delay` seconds."""

    attempt: int
    delay: float
    why: str

    @classmethod
    def of(cls, attempt: int, delay: float, error: Exception) -> Retrying:
        """For `Backoff.on_retry`."""
        return cls(attempt, delay, str(error))


@dataclass(frozen=True, slots=True)
class Note:
    """A message of your own pipeline: `text` for people, `data` (JSON) for programs. Logs keep both."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One of several results of a job: `size` bytes at `path`."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Done:
    """The main result is complete at `path`; `size` is its bytes. `files`: all results, if there are several.

    `absent`: the outputs that the job wants and the engine did not make.
    """

    path: Path
    size: int
    files: tuple[ResultFile, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed: `why` is a sentence for people, `code` a word for programs."""

    why: str
    code: str = "error"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The wait named `stage` took longer than `seconds`."""

    stage: str
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was cancelled, here and at every worker that could be reached."""

    why: str = field(default="cancelled by the user")


Outcome = Done | Failed | TimedOut | Cancelled
Progress = (
    Queued | Waking | Granted | Online | Fingerprinted | Checked | Uploading | Uploaded | Submitted | Running | Rendered
    | Downloading | Storing | Stored | Remote | Delivered | Retrying | Note
)  # fmt: skip
JobEvent = Progress | Outcome
