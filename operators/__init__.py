"""HOW: what a pipeline is made of. Events, errors, ports, the policy, the flow operators and a job's stages.

Each name is imported from its module when it is first used: a program pays only for what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wakestream.operators.errors import (
        BootFailed, Corrupt, FileChanged, FileError, FileUnusable, GpuError, GpuLost, HubError, HubRefused,
        HubUnreachable, JournalError, NoCapacity, NoSpace, PowerError, Stalled, StageTimeout, TaskFailed, TaskLost,
        WakestreamError, WorkerError, WorkerRefused, WorkerUnreachable, mendable,
    )
    from wakestream.operators.events import (
        Algorithm, Branch, Cancelled, Checked, Done, Downloading, Eta, Failed, FileRef, Fingerprint, Fingerprinted,
        Granted, Job, JobEvent, Note, Online, Outcome, Progress, Queued, Rendered, Retrying, Running, Submitted,
        TimedOut, Uploaded, Uploading, Waking,
    )
    from wakestream.operators.policy import Policy
    from wakestream.operators.ports import (
        Accepted, Asleep, BootFailure, Effects, Engine, Files, Frame, Health, Hub, Journal, LinkDown, LinkUp, Power,
        PowerReading, Refused, Reply, Resumed, Stirring, TaskReceipt, TaskReport, Woken, Worker, Workers,
    )
    from wakestream.operators.flow.all_done import all_done
    from wakestream.operators.flow.batch import Batch, Gathering
    from wakestream.operators.flow.branch import branch
    from wakestream.operators.flow.emit import begin_with, beside, emit
    from wakestream.operators.flow.every import every
    from wakestream.operators.flow.first_done import first_done
    from wakestream.operators.flow.first_for import each_for, first_for
    from wakestream.operators.flow.from_async import from_async
    from wakestream.operators.flow.of_type import of_type
    from wakestream.operators.flow.once import Once
    from wakestream.operators.flow.poll import poll
    from wakestream.operators.flow.retry_backoff import Backoff, always, retry_backoff
    from wakestream.operators.flow.scheduler import LoopScheduler, seconds_now
    from wakestream.operators.flow.then import then
    from wakestream.operators.flow.timeout_idle import timeout_idle
    from wakestream.operators.flow.timeout_total import timeout_total
    from wakestream.operators.flow.timeout_unchanged import timeout_unchanged
    from wakestream.operators.flow.to_future import to_future
    from wakestream.operators.flow.turns import Turns
    from wakestream.operators.flow.unless import unless
    from wakestream.operators.job.before_outcome import before_outcome
    from wakestream.operators.job.cancellable import cancellable
    from wakestream.operators.job.costs import Cost, costs
    from wakestream.operators.job.dedupe import dedupe
    from wakestream.operators.job.download import download
    from wakestream.operators.job.effect import effect
    from wakestream.operators.job.fingerprint import Readings
    from wakestream.operators.job.follow import follow
    from wakestream.operators.job.note import note
    from wakestream.operators.job.online import online
    from wakestream.operators.job.outcome import is_outcome, outcome, outcome_of
    from wakestream.operators.job.stop_others import stop_others
    from wakestream.operators.job.submit import submit
    from wakestream.operators.job.synthesize import synthesize
    from wakestream.operators.job.upload import upload

__all__ = [
    "Accepted", "Algorithm", "Asleep", "Backoff", "Batch", "BootFailed", "BootFailure", "Branch", "Cancelled",
    "Checked", "Corrupt", "Cost", "Done", "Downloading", "Effects", "Engine", "Eta", "Failed", "FileChanged",
    "FileError", "FileRef", "FileUnusable", "Files", "Fingerprint", "Fingerprinted", "Frame", "Gathering", "GpuError",
    "GpuLost", "Granted", "Health", "Hub", "HubError", "HubRefused", "HubUnreachable", "Job", "JobEvent", "Journal",
    "JournalError", "LinkDown", "LinkUp", "LoopScheduler", "NoCapacity", "NoSpace", "Note", "Once", "Online", "Outcome",
    "Policy", "Power", "PowerError", "PowerReading", "Progress", "Queued", "Readings", "Refused", "Rendered", "Reply",
    "Resumed", "Retrying", "Running", "StageTimeout", "Stalled", "Stirring", "Submitted", "TaskFailed", "TaskLost",
    "TaskReceipt", "TaskReport", "TimedOut", "Turns", "Uploaded", "Uploading", "WakestreamError", "Waking", "Woken",
    "Worker", "WorkerError", "WorkerRefused", "WorkerUnreachable", "Workers", "all_done", "always", "before_outcome",
    "begin_with", "beside", "branch", "cancellable", "costs", "dedupe", "download", "each_for", "effect", "emit",
    "every", "first_done", "first_for", "follow", "from_async", "is_outcome", "mendable", "note", "of_type", "online",
    "outcome", "outcome_of", "poll", "retry_backoff", "seconds_now", "stop_others", "submit", "synthesize", "then",
    "timeout_idle", "timeout_total", "timeout_unchanged", "to_future", "unless", "upload",
]

_HOMES = {
    "errors": (
        "BootFailed Corrupt FileChanged FileError FileUnusable GpuError GpuLost HubError HubRefused HubUnreachable "
        "JournalError NoCapacity NoSpace PowerError Stalled StageTimeout TaskFailed TaskLost WakestreamError "
        "WorkerError WorkerRefused WorkerUnreachable mendable"
    ),
    "events": (
        "Algorithm Branch Cancelled Checked Done Downloading Eta Failed FileRef Fingerprint Fingerprinted Granted "
        "Job JobEvent Note Online Outcome Progress Queued Rendered Retrying Running Submitted TimedOut Uploaded "
        "Uploading Waking"
    ),
    "policy": "Policy",
    "ports": (
        "Accepted Asleep BootFailure Effects Engine Files Frame Health Hub Journal LinkDown LinkUp Power "
        "PowerReading Refused Reply Resumed Stirring TaskReceipt TaskReport Woken Worker Workers"
    ),
    "flow.all_done": "all_done",
    "flow.batch": "Batch Gathering",
    "flow.branch": "branch",
    "flow.emit": "begin_with beside emit",
    "flow.every": "every",
    "flow.first_done": "first_done",
    "flow.first_for": "each_for first_for",
    "flow.from_async": "from_async",
    "flow.of_type": "of_type",
    "flow.once": "Once",
    "flow.poll": "poll",
    "flow.retry_backoff": "Backoff always retry_backoff",
    "flow.scheduler": "LoopScheduler seconds_now",
    "flow.then": "then",
    "flow.timeout_idle": "timeout_idle",
    "flow.timeout_total": "timeout_total",
    "flow.timeout_unchanged": "timeout_unchanged",
    "flow.to_future": "to_future",
    "flow.turns": "Turns",
    "flow.unless": "unless",
    "job.before_outcome": "before_outcome",
    "job.cancellable": "cancellable",
    "job.costs": "Cost costs",
    "job.dedupe": "dedupe",
    "job.download": "download",
    "job.effect": "effect",
    "job.fingerprint": "Readings",
    "job.follow": "follow",
    "job.note": "note",
    "job.online": "online",
    "job.outcome": "is_outcome outcome outcome_of",
    "job.stop_others": "stop_others",
    "job.submit": "submit",
    "job.synthesize": "synthesize",
    "job.upload": "upload",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # which would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
