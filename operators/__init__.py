"""HOW: what a pipeline is made of. Events, errors, ports, the policy, the flow operators and a job's stages.

Each name is imported from its module when it is first used: a program pays only for what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wakestream.operators.model.errors import (
        BootFailed,
        Corrupt,
        FileChanged,
        FileError,
        FileUnusable,
        GpuError,
        GpuLost,
        HubError,
        HubRefused,
        HubUnreachable,
        JournalError,
        NoCapacity,
        NoSpace,
        PowerError,
        Stalled,
        StageTimeout,
        TaskFailed,
        TaskLost,
        WakestreamError,
        WorkerError,
        WorkerRefused,
        WorkerUnreachable,
        mendable,
    )
    from wakestream.operators.model.events import (
        Algorithm,
        Branch,
        Cancelled,
        Checked,
        Done,
        Downloading,
        Eta,
        Failed,
        FileRef,
        Fingerprint,
        Fingerprinted,
        Granted,
        Job,
        JobEvent,
        Note,
        Online,
        Outcome,
        Progress,
        Queued,
        Rendered,
        Retrying,
        Running,
        Submitted,
        TimedOut,
        Uploaded,
        Uploading,
        Waking,
    )
    from wakestream.operators.model.policy import Policy
    from wakestream.operators.model.ports import (
        Accepted,
        Asleep,
        BootFailure,
        Effects,
        Engine,
        Files,
        Frame,
        Health,
        Hub,
        Journal,
        LinkDown,
        LinkUp,
        Power,
        PowerReading,
        Refused,
        Reply,
        Resumed,
        Stirring,
        TaskReceipt,
        TaskReport,
        Woken,
        Worker,
        Workers,
    )
    from wakestream.operators.rx.all_done import all_done
    from wakestream.operators.contrib.batch import Batch, Gathering
    from wakestream.operators.rx.branch import branch
    from wakestream.operators.rx.emit import begin_with, beside, emit
    from wakestream.operators.rx.interval import every
    from wakestream.operators.rx.first_success import first_done
    from wakestream.operators.rx.first_by_key import each_for, first_for
    from wakestream.operators.rx.from_async import from_async
    from wakestream.operators.rx.of_type import of_type
    from wakestream.operators.rx.shared import Once
    from wakestream.operators.rx.poll import poll
    from wakestream.operators.model.backoff import Backoff, always
    from wakestream.operators.rx.retry_backoff import retry_backoff
    from wakestream.operators.rx.core.scheduler import LoopScheduler, seconds_now
    from wakestream.operators.rx.then import then
    from wakestream.operators.rx.timeout_idle import timeout_idle
    from wakestream.operators.rx.timeout_total import timeout_total
    from wakestream.operators.rx.timeout_no_progress import timeout_unchanged
    from wakestream.operators.rx.to_future import to_future
    from wakestream.operators.rx.limiter import Turns
    from wakestream.operators.rx.concat_unless import unless
    from wakestream.operators.lifecycle.before_outcome import before_outcome
    from wakestream.operators.lifecycle.cancellable import cancellable
    from wakestream.operators.contrib.costs import Cost, costs
    from wakestream.operators.stages.dedupe import dedupe
    from wakestream.operators.stages.download import download
    from wakestream.operators.stages.effect import effect
    from wakestream.operators.stages.fingerprint import Readings
    from wakestream.operators.stages.follow import follow
    from wakestream.operators.stages.note import note
    from wakestream.operators.stages.online import online
    from wakestream.operators.lifecycle.outcome import is_outcome, outcome, outcome_of
    from wakestream.operators.contrib.stop_others import stop_others
    from wakestream.operators.stages.submit import submit
    from wakestream.operators.stages.synthesize import synthesize
    from wakestream.operators.stages.upload import upload

__all__ = [
    "Accepted", "Algorithm", "Asleep", "Backoff", "Batch", "BootFailed", "BootFailure", "Branch", "Cancelled",
    "Checked", "Corrupt", "Cost", "Done", "Downloading", "Effects", "Engine", "Eta", "Failed", "FileChanged",
    "FileError", "FileRef", "FileUnusable", "Files", "Fingerprint", "Fingerprinted", "Frame", "Gathering", "GpuError",
    "GpuLost", "Granted", "Health", "Hub", "HubError", "HubRefused", "HubUnreachable", "Job", "JobEvent", "Journal",
    "JournalError", "LinkDown", "LinkUp", "LoopScheduler", "NoCapacity", "NoSpace", "Note", "Once", "Online",
    "Outcome", "Policy", "Power", "PowerError", "PowerReading", "Progress", "Queued", "Readings", "Refused",
    "Rendered", "Reply", "Resumed", "Retrying", "Running", "StageTimeout", "Stalled", "Stirring", "Submitted",
    "TaskFailed", "TaskLost", "TaskReceipt", "TaskReport", "TimedOut", "Turns", "Uploaded", "Uploading",
    "WakestreamError", "Waking", "Woken", "Worker", "WorkerError", "WorkerRefused", "WorkerUnreachable", "Workers",
    "all_done", "always", "before_outcome", "begin_with", "beside", "branch", "cancellable", "costs", "dedupe",
    "download", "each_for", "effect", "emit", "every", "first_done", "first_for", "follow", "from_async",
    "is_outcome", "mendable", "note", "of_type", "online", "outcome", "outcome_of", "poll", "retry_backoff",
    "seconds_now", "stop_others", "submit", "synthesize", "then", "timeout_idle", "timeout_total",
    "timeout_unchanged", "to_future", "unless", "upload",
]

_HOMES = {
    "contrib.batch": "Batch Gathering",
    "contrib.costs": "Cost costs",
    "contrib.stop_others": "stop_others",
    "lifecycle.before_outcome": "before_outcome",
    "lifecycle.cancellable": "cancellable",
    "lifecycle.outcome": "is_outcome outcome outcome_of",
    "model.errors": (
        "BootFailed Corrupt FileChanged FileError FileUnusable GpuError GpuLost HubError HubRefused "
        "HubUnreachable JournalError NoCapacity NoSpace PowerError StageTimeout Stalled TaskFailed TaskLost "
        "WakestreamError WorkerError WorkerRefused WorkerUnreachable mendable"
    ),
    "model.events": (
        "Algorithm Branch Cancelled Checked Done Downloading Eta Failed FileRef Fingerprint Fingerprinted "
        "Granted Job JobEvent Note Online Outcome Progress Queued Rendered Retrying Running Submitted "
        "TimedOut Uploaded Uploading Waking"
    ),
    "model.policy": "Policy",
    "model.ports": (
        "Accepted Asleep BootFailure Effects Engine Files Frame Health Hub Journal LinkDown LinkUp Power "
        "PowerReading Refused Reply Resumed Stirring TaskReceipt TaskReport Woken Worker Workers"
    ),
    "rx.all_done": "all_done",
    "rx.branch": "branch",
    "rx.concat_unless": "unless",
    "rx.core.scheduler": "LoopScheduler seconds_now",
    "rx.emit": "begin_with beside emit",
    "rx.first_by_key": "each_for first_for",
    "rx.first_success": "first_done",
    "rx.from_async": "from_async",
    "rx.interval": "every",
    "rx.limiter": "Turns",
    "rx.of_type": "of_type",
    "rx.poll": "poll",
    "model.backoff": "Backoff always",
    "rx.retry_backoff": "retry_backoff",
    "rx.shared": "Once",
    "rx.then": "then",
    "rx.timeout_idle": "timeout_idle",
    "rx.timeout_no_progress": "timeout_unchanged",
    "rx.timeout_total": "timeout_total",
    "rx.to_future": "to_future",
    "stages.dedupe": "dedupe",
    "stages.download": "download",
    "stages.effect": "effect",
    "stages.fingerprint": "Readings",
    "stages.follow": "follow",
    "stages.note": "note",
    "stages.online": "online",
    "stages.submit": "submit",
    "stages.synthesize": "synthesize",
    "stages.upload": "upload",
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
