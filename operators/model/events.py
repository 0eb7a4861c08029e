"""The events of a job, as frozen types.

A job's observable emits only these. Each stage ends with the event that the next stage starts from. The last event of
a job is exactly one of `Done`, `Failed`, `TimedOut`, `Cancelled` (`Outcome`). Times are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Branch = Literal["online", "offline"]
Algorithm = Literal["md5", "blake3"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job: a video and an audio file, and where the result goes.

    Attributes:
        id: The idempotency key: a job with the same id is the same job.
        video: The video file.
        audio: The audio file.
        output: The file that the result is written to.
        task_type: What kind of task the worker runs.
    """

    id: str
    video: Path
    audio: Path
    output: Path
    task_type: str = "heygem_submit"


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
    """The GPU is off, and the hub has queued the job. `phase` is the GPU's power phase."""

    position: int | None = None
    phase: str = "booting"
    eta: Eta | None = None


@dataclass(frozen=True, slots=True)
class Waking:
    """The job waits for the GPU since `waited` seconds. Emitted every 10 s; `why` has details."""

    waited: float
    phase: str = "booting"
    position: int | None = None
    eta: Eta | None = None
    why: str = ""


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
    """Both files are hashed."""

    files: tuple[Fingerprint, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Checked:
    """The worker said which files it has; `missing` must be uploaded. `algorithm` is the hash that names files."""

    worker: Online
    video: Fingerprint
    audio: Fingerprint
    algorithm: Algorithm
    missing: tuple[Fingerprint, ...]

    def ref(self, file: Fingerprint) -> FileRef:
        """Return the name of `file` at this worker."""
        return FileRef(file.digests[self.algorithm], file.ext)

    @property
    def saved(self) -> int:
        """Bytes that need no upload."""
        distinct = {file.digests[self.algorithm]: file.size for file in (self.video, self.audio)}
        return sum(distinct.values()) - sum(file.size for file in self.missing)


@dataclass(frozen=True, slots=True)
class Uploading:
    """The worker has `bytes` of the `of` bytes of all missing files; `name` is the present file."""

    bytes: int
    of: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The worker has both files: `sent` bytes were sent, `saved` bytes were there before."""

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
    """The worker's report: `percent` is 0-100; `frame` of `frames` if the engine counts them."""

    percent: float
    status: str = "processing"
    frame: int | None = None
    frames: int | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """The result is ready at the worker."""

    task: Submitted


@dataclass(frozen=True, slots=True)
class Downloading:
    """`bytes` of the result are received, out of `of` (None: unknown)."""

    bytes: int
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """A retryable error happened (`why`): attempt `attempt` starts in `delay` seconds."""

    attempt: int
    delay: float
    why: str


@dataclass(frozen=True, slots=True)
class Note:
    """A message of your own pipeline: `text` for people, `data` (JSON) for programs. Logs keep both."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The result is complete at `path`; `size` is its bytes."""

    path: Path
    size: int


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
    | Downloading | Retrying | Note
)  # fmt: skip
JobEvent = Progress | Outcome
