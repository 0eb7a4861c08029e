"""The outbox's facts, events and commands.

Times are UNIX seconds, sizes bytes, paths absolute. Facts are kept for years: later fields have defaults.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from msgspec.structs import force_setattr

from wakestream.operators.model.events import LIPSYNC, Job, JobEvent, JobSpec, Outcome
from wakestream.streams.decider import Decision
from wakestream.streams.protocol.structs import Frozen
from wakestream.streams.webhooks import WebhookOwed, WebhookSettled


class _OfJob(Frozen, frozen=True):
    """A fact, event or command about the job with the id `job`."""

    job: str


# Facts


class _OfWebhook(_OfJob, frozen=True):
    """A fact about the webhook of a job. `delivery` is its id at each attempt."""

    delivery: str
    at: float


class FileStat(Frozen, frozen=True):
    """A file as it was when the job was submitted. `seconds` is its length; 0 if unknown."""

    path: str
    size: int
    mtime_ns: int
    seconds: float = 0.0


class Caller(Frozen, frozen=True, omit_defaults=True):
    """The program that asked for a job by the API for programs, and what it wants.

    Attributes:
        token: The name of its token.
        url: The address at which it reached the API.
        version: The version of the kind.
        input: The inputs and parameters as it named them; an address in place of each file, a mark in place of secrets.
        shape: What it gets of each output: `file`, `files` (a list), `text` or `json`.
        webhook: Where it wants to be notified; empty: nowhere.
        events: Of what it wants to be notified: `start`, `logs`, `output`, `completed`.
        until: When the job is cancelled; 0: never.
        ignored: What it named in the input and the kind does not know.
    """

    token: str
    url: str = ""
    version: str = ""
    input: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    shape: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    webhook: str = ""
    events: tuple[str, ...] = ()
    until: float = 0.0
    ignored: tuple[str, ...] = ()


_OF_PAIRS: Final = (
    "video", "audio", "video_size", "video_mtime_ns", "audio_size", "audio_mtime_ns", "video_s", "audio_s",
)  # fmt: skip
"""The fields that facts of earlier versions have for a job of a video and an audio file."""


class JobAccepted(_OfJob, JobSpec, frozen=True, omit_defaults=True):
    """The job is in the outbox and will have an end, even if this program is killed.

    The fields in `_OF_PAIRS` are read, and are empty afterwards.

    Attributes:
        output: The path of the main result.
        task_type: What the wire calls the kind.
        at: When the job was accepted.
        retry_of: The job that it repeats.
        inputs: The input files by name. A result of another job has the size 0, since it is not there yet.
        params: The parameters.
        outputs: The paths of the results by name, the main one first.
        after: The jobs for whose end it waits.
        sources: The inputs that are results of other jobs, as `JOB:NAME`.
        version: The fingerprint of the kind when the job was accepted.
        again: The result must be made for this job: the user wants that, or the results of the kind differ each time.
        gpus: The GPUs that may do it; any, if it is empty.
        requires: What the labels of its GPU must be.
        overwrite: Its results may replace files.
        unnamed: The endings of its results follow their content.
        batch: A name that it has in common with the jobs started together with it.
        kind: The kind of work.
        caller: The program that asked for it by the API for programs.
        family: The id of the first of the jobs of which it is a variation; empty if it is the first, or none.
        sidecar: A record of its results is written beside the main one.
    """

    video: str = ""
    audio: str = ""
    output: str = ""
    video_size: int = 0
    video_mtime_ns: int = 0
    audio_size: int = 0
    audio_mtime_ns: int = 0
    task_type: str = ""
    priority: int = 0
    at: float = 0.0
    retry_of: str = ""
    video_s: float = 0.0
    audio_s: float = 0.0
    inputs: dict[str, FileStat] = {}  # noqa: RUF012 - msgspec copies it
    params: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    outputs: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    after: tuple[str, ...] = ()
    sources: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    version: str = ""
    again: bool = False
    gpus: tuple[str, ...] = ()
    overwrite: bool = False
    unnamed: bool = False
    batch: str = ""
    kind: str = ""
    requires: tuple[str, ...] = ()
    caller: Caller | None = None
    family: str = ""
    sidecar: bool = False

    def __post_init__(self) -> None:
        """Give a fact of an earlier version the present form."""
        if self.kind:
            return
        new: dict[str, Any] = {"kind": self.task_type}
        if not self.outputs:
            video = FileStat(self.video, self.video_size, self.video_mtime_ns, self.video_s)
            audio = FileStat(self.audio, self.audio_size, self.audio_mtime_ns, self.audio_s)
            new = {"kind": LIPSYNC, "inputs": {"video": video, "audio": audio}, "outputs": {"video": self.output}}
        old = {name: type(getattr(self, name))() for name in _OF_PAIRS}
        for name, value in {**old, **new}.items():
            force_setattr(self, name, value)

    @classmethod
    def of(cls, job: Job, files: dict[str, FileStat], priority: int = 0, **more: Any) -> JobAccepted:
        """The fact about a job with these input files; `more` are other fields."""
        outputs = {name: str(path) for name, path in job.outputs.items()}
        fields = {name: getattr(job, name) for name in ("kind", "again", "gpus", "requires", "overwrite", "unnamed")}
        fields |= {"inputs": files, "outputs": outputs, "params": dict(job.params), "task_type": job.kind, **more}
        if job.old_shape:  # it has no version, however it was submitted, so that it finds the results of earlier ones
            fields |= {"outputs": {"video": str(job.output)}, "task_type": job.task_type, "version": ""}
        return cls(job.id, output=str(job.output), priority=priority, **fields)


class JobStage(_OfJob, frozen=True):
    """The job began a stage, or learned more in it.

    Attributes:
        worker: The worker's address, and
        task: the id of the task there; both empty until the worker has the job.
        size: The bytes of the result, once they are known.
        sent: The bytes that were sent to workers so far.
        reused: Where the result comes from, as far as it is known (`operators.lifecycle.reuse`).
    """

    stage: str
    at: float
    worker: str = ""
    task: str = ""
    size: int | None = None
    sent: int = 0
    reused: str = ""


class JobRead(_OfJob, frozen=True, omit_defaults=True):
    """Its files were hashed: in `inputs` the digests by algorithm, in `mtimes_ns` which state of each file that was.

    The other fields are those of earlier versions. They are read, and are empty afterwards.
    """

    video: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    audio: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    video_mtime_ns: int = 0
    audio_mtime_ns: int = 0
    inputs: dict[str, dict[str, str]] = {}  # noqa: RUF012 - msgspec copies it
    mtimes_ns: dict[str, int] = {}  # noqa: RUF012 - msgspec copies it

    def __post_init__(self) -> None:
        """Give a fact of an earlier version the present form."""
        if self.video or self.audio:
            force_setattr(self, "inputs", {"video": self.video, "audio": self.audio})
            force_setattr(self, "mtimes_ns", {"video": self.video_mtime_ns, "audio": self.audio_mtime_ns})
            for name, value in {"video": {}, "audio": {}, "video_mtime_ns": 0, "audio_mtime_ns": 0}.items():
                force_setattr(self, name, value)


class JobCancelling(_OfJob, frozen=True):
    """A cancel was requested; hub and worker may not have it yet."""

    at: float


class JobMoved(_OfJob, frozen=True):
    """The user moved the job before the job `before`, or to the end if that is empty. `priority` is its new one."""

    before: str
    priority: int
    at: float


class JobEnded(_OfJob, frozen=True):
    """`outcome` is the kind of its last event, the other fields that event's own; `mtime_ns` dates the result.

    `reused` is empty for a result that was made for this job: see `JobStage`. `files` are all results, if
    there are several: each an object with `name`, `path` and `size`. `absent` are outputs that were not made.
    """

    outcome: str
    at: float
    why: str = ""
    code: str = ""
    stage: str = ""
    seconds: float = 0.0
    path: str = ""
    size: int = 0
    mtime_ns: int = 0
    reused: str = ""
    files: tuple[dict[str, Any], ...] = ()
    absent: tuple[str, ...] = ()


class ReleaseConfirmed(_OfJob, frozen=True):
    """The hub confirmed that the job needs no GPU any more."""

    STORED_AS: ClassVar[str] = "JobReleased"
    at: float


class JobForgotten(_OfJob, frozen=True):
    """The ended job was removed, since the history is limited."""

    at: float


class WebhookDelivered(_OfWebhook, frozen=True):
    """The receiver accepted the webhook."""


class WebhookGivenUp(_OfWebhook, frozen=True):
    """The webhook is given up: the receiver refused it for good, or did not accept it in time."""

    why: str


WebhookFact = WebhookOwed | WebhookDelivered | WebhookGivenUp

JobFact = JobAccepted | JobStage | JobRead | JobCancelling | JobMoved | JobEnded | ReleaseConfirmed | JobForgotten

OutboxFact = JobFact | WebhookFact

# Events


class DaemonStarted(Frozen, frozen=True):
    """The program starts, with what the journal holds."""


class Submitting(Frozen, frozen=True):
    """A job is submitted, with files that were checked. `ticket` identifies the request that waits for the answer."""

    ticket: int
    asked: JobAccepted

    @property
    def job(self) -> str:
        """The job's id."""
        return self.asked.job


class Cancelling(Frozen, frozen=True):
    """A cancel is requested."""

    ticket: int
    job: str


class Moving(Frozen, frozen=True):
    """A job that waits is to be moved before the job `before` or behind the job `after`; without both, to the end, or
    with `first` to the top."""

    ticket: int
    job: str
    before: str = ""
    first: bool = False
    after: str = ""


class Happened(_OfJob, frozen=True):
    """The job's pipeline emitted an event. `mtime_ns` is the modification time of the result of a job that is done."""

    event: JobEvent
    mtime_ns: int = 0


class Released(_OfJob, frozen=True):
    """The hub confirmed the job's end."""


OutboxEvent = DaemonStarted | Submitting | Cancelling | Moving | Happened | Released | WebhookSettled

# Commands, executed after the facts were journaled


class Answer(Frozen, frozen=True):
    """Answer the request `ticket`: an HTTP status, the job, and in a refusal a code and the reason."""

    ticket: int
    status: int
    job: str = ""
    code: str = ""
    reason: str = ""


class Start(_OfJob, frozen=True):
    """Run the job's pipeline."""


class Hold(_OfJob, frozen=True):
    """Publish that the job waits for the jobs `after`."""

    after: tuple[str, ...]


class Stop(_OfJob, frozen=True):
    """Stop the job's pipeline, which then says `Cancelled`."""


class Reorder(_OfJob, frozen=True):
    """The job has another place among those that wait."""


class Release(_OfJob, frozen=True):
    """The job ended in an earlier run, to which the hub did not confirm that: tell it again."""

    cancelled: bool


class CancelNotice(_OfJob, frozen=True):
    """The job was being cancelled when the program ended: tell the hub, and the worker that has its task."""

    worker: str = ""
    task: str = ""


class Tell(_OfJob, frozen=True):
    """Publish the job's end."""

    outcome: Outcome


class Notify(_OfJob, frozen=True):
    """Post this webhook."""

    pending: WebhookOwed


OutboxCommand = Answer | Start | Hold | Stop | Reorder | Release | CancelNotice | Tell | Notify


OutboxDecision = Decision[OutboxFact, OutboxCommand]
