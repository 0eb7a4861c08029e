"""The outbox's facts, events and commands.

Times are UNIX seconds, sizes bytes, paths absolute. Facts are kept for years: later fields have defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from wakestream.operators.model.events import JobEvent, Outcome
from wakestream.streams.decider import Decision

# Facts


@dataclass(frozen=True, slots=True)
class JobAccepted:
    """The job is in the outbox and will have an end, even if this program is killed. `retry_of` is the job it repeats.

    `video_s` and `audio_s` are the lengths of the files in seconds; 0 if unknown.
    """

    job: str
    video: str
    audio: str
    output: str
    video_size: int
    video_mtime_ns: int
    audio_size: int
    audio_mtime_ns: int
    task_type: str
    priority: int
    at: float
    retry_of: str = ""
    video_s: float = 0.0
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobStage:
    """The job's progress. `worker` and `task` once the worker has the job, `size` once the size of the result is known.

    `sent` are the bytes that went to workers so far, `reused` whose result it gets (`operators.job.reuse`).
    """

    job: str
    stage: str
    at: float
    worker: str = ""
    task: str = ""
    size: int | None = None
    sent: int = 0
    reused: str = ""


@dataclass(frozen=True, slots=True)
class JobRead:
    """Its files were hashed: digests by algorithm, and which state of each file that was."""

    job: str
    video: dict[str, str]
    audio: dict[str, str]
    video_mtime_ns: int
    audio_mtime_ns: int


@dataclass(frozen=True, slots=True)
class JobCancelling:
    """A cancel was requested; hub and worker may not have it yet."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class JobEnded:
    """`outcome` is the kind of its last event, the other fields that event's own; `mtime_ns` dates the result.

    `reused` is empty for a result that was made for this job: see `operators.job.reuse`.
    """

    job: str
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


@dataclass(frozen=True, slots=True)
class ReleaseConfirmed:
    """The hub confirmed that the job needs no GPU any more."""

    STORED_AS: ClassVar[str] = "JobReleased"
    job: str
    at: float


@dataclass(frozen=True, slots=True)
class JobForgotten:
    """The ended job was removed, since the history is limited."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class WebhookOwed:
    """A webhook about the job's end, `news`, is pending. `delivery` is its id at each attempt."""

    job: str
    delivery: str
    at: float
    news: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookDelivered:
    """The receiver accepted the webhook."""

    job: str
    delivery: str
    at: float


@dataclass(frozen=True, slots=True)
class WebhookGivenUp:
    """The webhook is given up: the receiver refused it for good, or did not accept it in time."""

    job: str
    delivery: str
    at: float
    why: str


WebhookFact = WebhookOwed | WebhookDelivered | WebhookGivenUp

OutboxFact = JobAccepted | JobStage | JobRead | JobCancelling | JobEnded | ReleaseConfirmed | JobForgotten | WebhookFact

# Events


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file as it was when the job was submitted. `seconds` is its length; 0 if unknown."""

    path: str
    size: int
    mtime_ns: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DaemonStarted:
    """The program starts, with what the journal holds."""


@dataclass(frozen=True, slots=True)
class Submitting:
    """A job is submitted, with files that were checked. `ticket` identifies the request that waits for the answer."""

    ticket: int
    job: str
    video: FileStat
    audio: FileStat
    output: str
    task_type: str = "heygem_submit"
    priority: int = 0
    retry_of: str = ""


@dataclass(frozen=True, slots=True)
class Cancelling:
    """A cancel is requested."""

    ticket: int
    job: str


@dataclass(frozen=True, slots=True)
class Happened:
    """The job's pipeline emitted an event. `mtime_ns` is the modification time of the result of a job that is done."""

    job: str
    event: JobEvent
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """The hub confirmed the job's end."""

    job: str


@dataclass(frozen=True, slots=True)
class WebhookSettled:
    """A webhook was taken, or will never be; then `reason` says why."""

    delivery: str
    reason: str = ""


OutboxEvent = DaemonStarted | Submitting | Cancelling | Happened | Released | WebhookSettled

# Commands, executed after the facts were journaled


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the request `ticket`: an HTTP status, the job, and in a refusal a code and the reason."""

    ticket: int
    status: int
    job: str = ""
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Run the job's pipeline."""

    job: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the job's pipeline, which then says `Cancelled`."""

    job: str


@dataclass(frozen=True, slots=True)
class Release:
    """The job ended in an earlier run, to which the hub did not confirm that: tell it again."""

    job: str
    cancelled: bool


@dataclass(frozen=True, slots=True)
class CancelNotice:
    """The job was being cancelled when the program ended: tell the hub, and the worker that has its task."""

    job: str
    worker: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class Tell:
    """Publish the job's end."""

    job: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Notify:
    """Post this webhook."""

    job: str
    pending: WebhookOwed


OutboxCommand = Answer | Start | Stop | Release | CancelNotice | Tell | Notify


OutboxDecision = Decision[OutboxFact, OutboxCommand]
