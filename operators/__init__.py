"""What a pipeline is made of: events, errors, ports, the policy, reactive operators and the stages of a job.

Each name is imported from its module when it is first used, so that a program loads only what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from typing import TYPE_CHECKING

from wakestream.operators.lazy_names import lazy_names

if TYPE_CHECKING:
    from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Slot, Work
    from wakestream.operators.model.errors import (
        BootFailed, Corrupt, Denied, EngineUnreachable, FileChanged, FileError, FileUnusable, Gone, GpuError, GpuLost,
        HubError, HubRefused, HubUnreachable, JournalError, NoCapacity, NoSpace, PowerError, QuotaExceeded, Stalled,
        StageTimeout, TaskFailed, TaskLost, Transient, WakestreamError, WorkerError, WorkerRefused, WorkerUnreachable,
        WrongInput, is_retryable,
    )
    from wakestream.operators.model.events import (
        Algorithm, Branch, Cancelled, Checked, Done, Downloading, Eta, Failed, FileRef, Fingerprint, Fingerprinted,
        Granted, Job, JobEvent, Note, Online, Outcome, Progress, Queued, Rendered, Retrying, Running, Submitted,
        TimedOut, Uploaded, Uploading, Waking,
    )
    from wakestream.operators.model.policy import Policy
    from wakestream.operators.model.ports import (
        Accepted, OfflineReply, BootFailure, Effects, Files, Health, Hub, Journal, LinkDown, LinkUp,
        Power, PowerState, Reading, Refused, Reply, Resumed, PowerNotice, TaskReceipt, TaskReport, OnlineNotice,
        Worker, Workers,
    )
    from wakestream.operators.rx.all_done import all_done
    from wakestream.operators.contrib.batch import Barrier, BatchState
    from wakestream.operators.rx.switch_by_type import switch_by_type
    from wakestream.operators.rx.sources import start_with, merge_errors, of
    from wakestream.operators.rx.interval import interval
    from wakestream.operators.rx.first_success import first_success
    from wakestream.operators.rx.from_async import from_async
    from wakestream.operators.rx.of_type import of_type
    from wakestream.operators.rx.shared import Shared
    from wakestream.operators.rx.poll import poll
    from wakestream.operators.model.backoff import Backoff, always
    from wakestream.operators.rx.retry_backoff import retry_backoff
    from wakestream.operators.rx.core.scheduler import LoopScheduler, seconds_now
    from wakestream.operators.rx.then import then
    from wakestream.operators.rx.timeout import each_item, timeout
    from wakestream.operators.rx.each import Stage, each
    from wakestream.operators.rx.to_future import to_future
    from wakestream.operators.rx.limiter import Limiter
    from wakestream.operators.rx.concat_unless import concat_unless
    from wakestream.operators.lifecycle.before_outcome import before_outcome
    from wakestream.operators.lifecycle.cancellable import cancellable
    from wakestream.operators.contrib.costs import Cost, costs
    from wakestream.operators.stages.dedupe import dedupe
    from wakestream.operators.stages.download import download
    from wakestream.operators.stages.effect import effect
    from wakestream.operators.stages.fingerprint import Fingerprints
    from wakestream.operators.stages.follow import follow
    from wakestream.operators.stages.note import note
    from wakestream.operators.stages.online import online
    from wakestream.operators.lifecycle.outcome import is_outcome, outcome, outcome_of
    from wakestream.operators.contrib.stop_others import stop_others
    from wakestream.operators.stages.synthesize import synthesize
    from wakestream.operators.stages.upload import upload

__all__ = [
    "Accepted", "Algorithm", "Backoff", "Barrier", "BatchState", "BootFailed", "BootFailure", "Branch", "Cancelled",
    "Checked", "Corrupt", "Cost", "Denied", "Done", "Downloading", "Effects", "Engine", "EngineUnreachable", "Eta",
    "Failed", "FileChanged", "FileError", "FileRef", "FileUnusable", "Files", "Fingerprint", "Fingerprinted",
    "Fingerprints", "Frame", "Gone", "GpuError", "GpuLost", "Granted", "Health", "Hub", "HubError", "HubRefused",
    "HubUnreachable", "Job", "JobEvent", "Journal", "JournalError", "Kind", "Limiter", "Line", "LinkDown", "LinkUp",
    "LoopScheduler", "Made", "NoCapacity", "NoSpace", "Note", "OfflineReply", "Online", "OnlineNotice", "Outcome",
    "Policy", "Power", "PowerError", "PowerNotice", "PowerState", "Progress", "Queued", "QuotaExceeded",
    "Readiness", "Reading", "Refused", "Rendered", "Reply", "Resumed", "Retrying", "Running", "Shared", "Slot",
    "Stage", "StageTimeout", "Stalled", "Submitted", "TaskFailed", "TaskLost", "TaskReceipt", "TaskReport",
    "TimedOut", "Transient", "Uploaded", "Uploading", "WakestreamError", "Waking", "Work", "Worker", "WorkerError",
    "WorkerRefused", "WorkerUnreachable", "Workers", "WrongInput", "all_done", "always", "before_outcome",
    "cancellable", "concat_unless", "costs", "dedupe", "download", "each", "each_item", "effect", "first_success",
    "follow", "from_async", "interval", "is_outcome", "is_retryable", "merge_errors", "note", "of", "of_type",
    "online", "outcome", "outcome_of", "poll", "retry_backoff", "seconds_now", "start_with", "stop_others",
    "switch_by_type", "synthesize", "then", "timeout", "to_future", "upload",
]

_HOMES = {
    "contrib.batch": "Barrier BatchState",
    "contrib.costs": "Cost costs",
    "contrib.*": "stop_others",
    "lifecycle.*": "before_outcome cancellable",
    "lifecycle.outcome": "is_outcome outcome outcome_of",
    "model.backoff": "Backoff always",
    "model.errors": (
        "BootFailed Corrupt Denied EngineUnreachable FileChanged FileError FileUnusable Gone GpuError GpuLost HubError "
        "HubRefused HubUnreachable JournalError NoCapacity NoSpace PowerError QuotaExceeded StageTimeout Stalled "
        "TaskFailed TaskLost Transient WakestreamError WorkerError WorkerRefused WorkerUnreachable WrongInput "
        "is_retryable"
    ),
    "model.events": (
        "Algorithm Branch Cancelled Checked Done Downloading Eta Failed FileRef Fingerprint Fingerprinted "
        "Granted Job JobEvent Note Online Outcome Progress Queued Rendered Retrying Running Submitted "
        "TimedOut Uploaded Uploading Waking"
    ),
    "model.engine": "Engine Frame Kind Line Made Readiness Slot Work",
    "model.policy": "Policy",
    "model.ports": (
        "Accepted BootFailure Effects Files Health Hub Journal LinkDown LinkUp OfflineReply "
        "OnlineNotice Power PowerNotice PowerState Reading Refused Reply Resumed TaskReceipt TaskReport Worker "
        "Workers"
    ),
    "rx.*": (
        "all_done concat_unless first_success from_async interval of_type poll retry_backoff switch_by_type then "
        "to_future"
    ),
    "rx.each": "Stage each",
    "rx.timeout": "each_item timeout",
    "rx.core.scheduler": "LoopScheduler seconds_now",
    "rx.limiter": "Limiter",
    "rx.shared": "Shared",
    "rx.sources": "merge_errors of start_with",
    "stages.*": "dedupe download effect follow note online synthesize upload",
    "stages.fingerprint": "Fingerprints",
}
if not TYPE_CHECKING:  # type checkers would accept any name
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
