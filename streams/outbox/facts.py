"""The outbox's words: what happens to it, what becomes so, and what is to be done about it.

Times are UNIX seconds, sizes bytes, paths absolute. Facts are kept for years: later fields have defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wakestream.operators.model.events import JobEvent, Outcome
from wakestream.streams.decider import Decision

# What becomes so


@dataclass(frozen=True, slots=True)
class JobAccepted:
    """The job is in the outbox: it will end, whatever happens to this program. `retry_of` is the job it repeats.

    `video_s` and `audio_s` are how many seconds the files last; 0 where nobody knows.
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
    """How far it came. `worker` and `task` once the worker has it, `size` once the result's is known.

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
    """Somebody asked for it to stop; it is not stopped everywhere yet."""

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
class JobReleased:
    """The hub knows that it needs no GPU any more, and keeps that."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class JobForgotten:
    """It ended long ago, and only so much history is kept."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class WebhookOwed:
    """Somebody is to be told `news` of the job's end. `delivery` names it, also to the receiver, at each attempt."""

    job: str
    delivery: str
    at: float
    news: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookDelivered:
    """The receiver took it."""

    job: str
    delivery: str
    at: float


@dataclass(frozen=True, slots=True)
class WebhookGivenUp:
    """It will not be told: the receiver wants no more, or too long did not take it."""

    job: str
    delivery: str
    at: float
    why: str


WebhookFact = WebhookOwed | WebhookDelivered | WebhookGivenUp

OutboxFact = JobAccepted | JobStage | JobRead | JobCancelling | JobEnded | JobReleased | JobForgotten | WebhookFact

# What happens


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file as it was when the job was handed in. It lasts `seconds`, 0 where nobody knows."""

    path: str
    size: int
    mtime_ns: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """The program starts, with what the journal holds."""


@dataclass(frozen=True, slots=True)
class Submitting:
    """Somebody hands a job in. `ticket` finds whoever waits for the answer. The files were looked at, and are fit."""

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
    """Somebody wants a job to stop."""

    ticket: int
    job: str


@dataclass(frozen=True, slots=True)
class Happened:
    """The job's pipeline said so. `mtime_ns` dates the result of one that is done."""

    job: str
    event: JobEvent
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """The hub confirmed the job's end."""

    job: str


@dataclass(frozen=True, slots=True)
class WebhookSettled:
    """A webhook was taken, or will never be; then `why` says why."""

    delivery: str
    why: str = ""


OutboxEvent = Started | Submitting | Cancelling | Happened | Released | WebhookSettled

# What is to be done, once the facts are kept


@dataclass(frozen=True, slots=True)
class Answer:
    """To whoever waits under `ticket`: an HTTP status, and the job it is about or why not."""

    ticket: int
    status: int
    job: str = ""
    code: str = ""
    why: str = ""


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
    """To all who follow the job: it ended so."""

    job: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Notify:
    """To the webhook: this is owed."""

    job: str
    owed: WebhookOwed


OutboxCommand = Answer | Start | Stop | Release | CancelNotice | Tell | Notify


OutboxDecision = Decision[OutboxFact, OutboxCommand]
