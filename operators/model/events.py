"""What a job goes through, as frozen types: the words used everywhere.

A job's observable carries these and nothing else. Every stage ends with the event that the next one starts from;
the last event of a job is exactly one of `Done`, `Failed`, `TimedOut`, `Cancelled` (`Outcome`).
Times are seconds, sizes are bytes.
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
    """One piece of work: a video and an audio file, and where the result goes. `id` is its idempotency key."""

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
    """One reading of a file. `digests` maps algorithm to lower-case hex; `mtime_ns` and `size` date the reading."""

    path: Path
    size: int
    mtime_ns: int
    digests: Mapping[str, str]

    @property
    def ext(self) -> str:
        """The extension with its dot, lower case (`.mp4`)."""
        return self.path.suffix.lower()


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file by content, as the worker names it: the hex digest of one algorithm, and the extension."""

    hash: str
    ext: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The GPU is off; the hub keeps the job. `phase` says what the GPU is doing about it."""

    position: int | None = None
    phase: str = "booting"
    eta: Eta | None = None


@dataclass(frozen=True, slots=True)
class Waking:
    """Still waiting, `waited` seconds since the first submit. Repeated every 10 s; `why` where there is more to say."""

    waited: float
    phase: str = "booting"
    position: int | None = None
    eta: Eta | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """A GPU is ours. `branch` tells whether it was on or had to be waited for; `url` None is left to settings."""

    branch: Branch
    waited: float
    gpu: str | None = None
    url: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Online:
    """The worker at `url` answers and is initialized; `features` are what it announced."""

    url: str
    gpu: str | None = None
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fingerprinted:
    """Both files were read once."""

    files: tuple[Fingerprint, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Checked:
    """The worker was asked what it has: `missing` is what it lacks, `algorithm` the hash it is addressed by."""

    worker: Online
    video: Fingerprint
    audio: Fingerprint
    algorithm: Algorithm
    missing: tuple[Fingerprint, ...]

    def ref(self, file: Fingerprint) -> FileRef:
        """How this worker names `file`."""
        return FileRef(file.digests[self.algorithm], file.ext)

    @property
    def saved(self) -> int:
        """Bytes that need not be sent."""
        distinct = {file.digests[self.algorithm]: file.size for file in (self.video, self.audio)}
        return sum(distinct.values()) - sum(file.size for file in self.missing)


@dataclass(frozen=True, slots=True)
class Uploading:
    """`bytes` of `of` are with the worker, over all files that it lacked."""

    bytes: int
    of: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Everything the worker needs is there: `sent` bytes went over the wire, `saved` were there before."""

    checked: Checked
    sent: int
    saved: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """The worker took the task; `cached` means that it had the result already."""

    worker: Online
    task_id: str
    cached: bool = False
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """The worker's own report; `percent` is 0-100, `frame` of `frames` where the engine counts them."""

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
    """`bytes` of `of` are here; `of` is None when the worker does not say."""

    bytes: int
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """Something broke that trying again can mend: attempt `attempt` starts in `delay` seconds."""

    attempt: int
    delay: float
    why: str


@dataclass(frozen=True, slots=True)
class Note:
    """Whatever a pipeline of your own wants to say: `text` for people, `data` (JSON) for programs. Logs keep both."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The result lies at `path`, whole."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The job ended without a result; `why` is a sentence for a person, `code` a word for programs."""

    why: str
    code: str = "error"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The wait named `stage` ended after `seconds`."""

    stage: str
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for the job to stop, and it was stopped everywhere that could be reached."""

    why: str = field(default="cancelled by the user")


Outcome = Done | Failed | TimedOut | Cancelled
Progress = (
    Queued | Waking | Granted | Online | Fingerprinted | Checked | Uploading | Uploaded | Submitted | Running | Rendered
    | Downloading | Retrying | Note
)  # fmt: skip
JobEvent = Progress | Outcome
