"""What a pipeline is made of: events, errors, ports, the policy, reactive operators and the stages of a job.

Each name is imported from its module when it is first used, so that a program loads only what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from typing import TYPE_CHECKING

from wakestream.operators.lazy_names import lazy_names

if TYPE_CHECKING:
    from wakestream.operators.contrib.batch import Barrier as Barrier, BatchState as BatchState
    from wakestream.operators.contrib.costs import Cost as Cost, costs as costs
    from wakestream.operators.contrib.stop_others import stop_others as stop_others
    from wakestream.operators.lifecycle.before_outcome import before_outcome as before_outcome
    from wakestream.operators.lifecycle.cancellable import cancellable as cancellable
    from wakestream.operators.lifecycle.outcome import (
        is_outcome as is_outcome, outcome as outcome, outcome_of as outcome_of,
    )
    from wakestream.operators.model.backoff import Backoff as Backoff, always as always
    from wakestream.operators.model.engine import (
        Engine as Engine, Frame as Frame, Kind as Kind, Line as Line, Made as Made, Readiness as Readiness,
        Slot as Slot, Waits as Waits, Work as Work,
    )
    from wakestream.operators.model.errors import (
        BootFailed as BootFailed, Corrupt as Corrupt, Denied as Denied, EngineUnreachable as EngineUnreachable,
        FileChanged as FileChanged, FileError as FileError, FileUnusable as FileUnusable, Gone as Gone,
        GpuError as GpuError, GpuLost as GpuLost, HubError as HubError, HubRefused as HubRefused,
        HubUnreachable as HubUnreachable, JournalError as JournalError, NoCapacity as NoCapacity,
        NoSpace as NoSpace, PowerError as PowerError, QuotaExceeded as QuotaExceeded, StageTimeout as StageTimeout,
        Stalled as Stalled, TaskFailed as TaskFailed, TaskLost as TaskLost, Transient as Transient,
        TryAgain as TryAgain, WakestreamError as WakestreamError, WorkerError as WorkerError,
        WorkerFull as WorkerFull, WorkerRefused as WorkerRefused, WorkerUnreachable as WorkerUnreachable,
        WrongInput as WrongInput,
        is_retryable as is_retryable,
    )
    from wakestream.operators.model.events import (
        Algorithm as Algorithm, Branch as Branch, Cancelled as Cancelled, Checked as Checked, Done as Done,
        Delivered as Delivered, Downloading as Downloading, Eta as Eta, Failed as Failed, FileRef as FileRef,
        Fingerprint as Fingerprint,
        Fingerprinted as Fingerprinted, Granted as Granted, Job as Job, JobEvent as JobEvent, Note as Note,
        Online as Online, Outcome as Outcome, Progress as Progress, Queued as Queued, Rendered as Rendered,
        Retrying as Retrying, Running as Running, Submitted as Submitted, TimedOut as TimedOut,
        Remote as Remote, Stored as Stored, Storing as Storing, Uploaded as Uploaded, Uploading as Uploading,
        Waking as Waking,
    )
    from wakestream.operators.model.policy import Policy as Policy
    from wakestream.operators.model.ports import (
        Accepted as Accepted, BootFailure as BootFailure, Effects as Effects, Files as Files, Health as Health,
        Hub as Hub, Journal as Journal, LinkDown as LinkDown, LinkUp as LinkUp, OfflineReply as OfflineReply,
        OnlineNotice as OnlineNotice, Power as Power, PowerNotice as PowerNotice, PowerState as PowerState,
        Reading as Reading, Refused as Refused, Reply as Reply, Resumed as Resumed, TaskReceipt as TaskReceipt,
        TaskReport as TaskReport, Worker as Worker, Workers as Workers,
    )
    from wakestream.operators.rx.all_done import all_done as all_done
    from wakestream.operators.rx.concat_unless import concat_unless as concat_unless
    from wakestream.operators.rx.core.scheduler import LoopScheduler as LoopScheduler, seconds_now as seconds_now
    from wakestream.operators.rx.each import Stage as Stage, each as each
    from wakestream.operators.rx.first_success import first_success as first_success
    from wakestream.operators.rx.from_async import from_async as from_async
    from wakestream.operators.rx.interval import interval as interval
    from wakestream.operators.rx.limiter import Limiter as Limiter
    from wakestream.operators.rx.of_type import of_type as of_type
    from wakestream.operators.rx.poll import poll as poll
    from wakestream.operators.rx.retry_backoff import retry_backoff as retry_backoff
    from wakestream.operators.rx.shared import Shared as Shared
    from wakestream.operators.rx.sources import merge_errors as merge_errors, of as of, start_with as start_with
    from wakestream.operators.rx.switch_by_type import switch_by_type as switch_by_type
    from wakestream.operators.rx.then import then as then, then_by_type as then_by_type
    from wakestream.operators.rx.timeout import each_item as each_item, timeout as timeout
    from wakestream.operators.rx.to_future import to_future as to_future
    from wakestream.operators.stages.dedupe import dedupe as dedupe
    from wakestream.operators.stages.download import download as download
    from wakestream.operators.stages.effect import effect as effect
    from wakestream.operators.stages.fingerprint import Fingerprints as Fingerprints
    from wakestream.operators.stages.follow import follow as follow
    from wakestream.operators.stages.note import note as note
    from wakestream.operators.stages.online import online as online
    from wakestream.operators.stages.synthesize import synthesize as synthesize
    from wakestream.operators.stages.upload import upload as upload
else:  # type checkers would accept any name
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
