"""Make a GPU that is usually switched off feel always on: everything that your own pipeline needs.

Each name is imported from its module when it is first used, so that a program loads only what it needs. docs/api.md
lists what else is public.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wakestream.operators.lazy_names import lazy_names

if TYPE_CHECKING:
    from wakestream.adapters.client.client import Client as Client, open_client as open_client
    from wakestream.adapters.config.settings import Settings as Settings
    from wakestream.adapters.net.webhooks import post_json as post_json
    from wakestream.adapters.run_jobs import (
        new_job as new_job, run_job as run_job, run_jobs as run_jobs, setting as setting,
    )
    from wakestream.adapters.testing.fakes import (
        FakeFiles as FakeFiles, FakeWorker as FakeWorker, FakeWorkers as FakeWorkers,
    )
    from wakestream.adapters.testing.harness import (
        PipelineHarness as PipelineHarness, asleep as asleep, awake as awake, sample_job as sample_job,
    )
    from wakestream.adapters.testing.pytest_replay import Replay as Replay
    from wakestream.adapters.testing.virtual_loop import run_virtual as run_virtual
    from wakestream.operators import (
        Backoff as Backoff, Barrier as Barrier, Cancelled as Cancelled, Checked as Checked, Cost as Cost,
        Delivered as Delivered, Done as Done, Downloading as Downloading, Failed as Failed, Granted as Granted,
        Health as Health, Job as Job, JobEvent as JobEvent, LinkDown as LinkDown, LinkUp as LinkUp,
        LoopScheduler as LoopScheduler,
        Note as Note, Online as Online, Outcome as Outcome, Policy as Policy, Queued as Queued,
        Remote as Remote, Rendered as Rendered, Retrying as Retrying, Running as Running,
        StageTimeout as StageTimeout, Stored as Stored, Storing as Storing, Submitted as Submitted,
        TaskReceipt as TaskReceipt, TaskReport as TaskReport, TimedOut as TimedOut,
        Uploaded as Uploaded, Uploading as Uploading, WakestreamError as WakestreamError, Waking as Waking,
        Worker as Worker, Workers as Workers, all_done as all_done, before_outcome as before_outcome,
        costs as costs, first_success as first_success, from_async as from_async, interval as interval,
        is_outcome as is_outcome, merge_errors as merge_errors, note as note, of as of, of_type as of_type,
        poll as poll, retry_backoff as retry_backoff, start_with as start_with, stop_others as stop_others,
        then as then, then_by_type as then_by_type, timeout as timeout, to_future as to_future,
    )
    from wakestream.streams import (
        Build as Build, Events as Events, Log as Log, Stages as Stages, World as World, guarded as guarded,
        job_pipeline as job_pipeline, pipeline as pipeline,
    )
    from wakestream.streams.jobs.hub_client import HubEvent as HubEvent, HubNews as HubNews
    from wakestream.streams.protocol.messages import PowerState as PowerState

    __version__: str
else:  # type checkers would accept any name
    _get, _dir, __all__ = lazy_names(__name__, __file__)
    __all__ += ["__version__"]

    def __dir__() -> list[str]:
        return [*_dir(), "__version__"]

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("wakestream")
        return _get(name)
