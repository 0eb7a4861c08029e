"""Make a GPU that is usually switched off feel always on: everything that your own pipeline needs.

Each name is imported from its module when it is first used, so that a program loads only what it needs. docs/api.md
lists what else is public.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wakestream.adapters.client.client import Client, open_client
    from wakestream.adapters.net.webhook_post import post_json
    from wakestream.adapters.testing.fakes import FakeFiles, FakeWorker, FakeWorkers
    from wakestream.adapters.testing.pytest_replay import Replay
    from wakestream.adapters.testing.harness import PipelineHarness, asleep, awake, sample_job
    from wakestream.adapters.run_jobs import new_job, run_job, run_jobs, setting
    from wakestream.adapters.config.settings import Settings
    from wakestream.adapters.testing.virtual_loop import run_virtual
    from wakestream.operators import (
        Backoff, Barrier, Cancelled, Checked, Cost, Done, Downloading, Failed, Granted, Health, Job, JobEvent, LinkDown,
        LinkUp, LoopScheduler, Note, Online, Outcome, Policy, Queued, Rendered, Retrying, Running, StageTimeout,
        Submitted, TaskReceipt, TaskReport, TimedOut, Uploaded, Uploading, WakestreamError, Waking, Worker, Workers,
        all_done, before_outcome, costs, first_success, from_async, interval, is_outcome, merge_errors, note, of,
        of_type, poll, retry_backoff, start_with, stop_others, then, timeout, to_future,
    )
    from wakestream.streams import Build, Events, Log, Stages, World, guarded, job_pipeline, pipeline
    from wakestream.streams.jobs.hub_news import HubEvent, HubNews
    from wakestream.streams.protocol.messages import PowerState

    __version__: str

__all__ = [
    "Backoff", "Barrier", "Build", "Cancelled", "Checked", "Client", "Cost", "Done", "Downloading", "Events",
    "Failed", "FakeFiles", "FakeWorker", "FakeWorkers", "Granted", "Health", "HubEvent", "HubNews", "Job",
    "JobEvent", "LinkDown", "LinkUp", "Log", "LoopScheduler", "Note", "Online", "Outcome", "PipelineHarness",
    "Policy", "PowerState", "Queued", "Rendered", "Replay", "Retrying", "Running", "Settings", "StageTimeout",
    "Stages", "Submitted", "TaskReceipt", "TaskReport", "TimedOut", "Uploaded", "Uploading", "WakestreamError",
    "Waking", "Worker", "Workers", "World", "__version__", "all_done", "asleep", "awake", "before_outcome", "costs",
    "first_success", "from_async", "guarded", "interval", "is_outcome", "job_pipeline", "merge_errors", "new_job",
    "note", "of", "of_type", "open_client", "pipeline", "poll", "post_json", "retry_backoff", "run_job", "run_jobs",
    "run_virtual", "sample_job", "setting", "start_with", "stop_others", "then", "timeout", "to_future",
]

_HOMES = {
    "adapters.client.client": "Client open_client",
    "adapters.config.settings": "Settings",
    "adapters.net.webhook_post": "post_json",
    "adapters.run_jobs": "new_job run_job run_jobs setting",
    "adapters.testing.fakes": "FakeFiles FakeWorker FakeWorkers",
    "adapters.testing.harness": "PipelineHarness asleep awake sample_job",
    "adapters.testing.pytest_replay": "Replay",
    "adapters.testing.virtual_loop": "run_virtual",
    "streams": "Build Events Log Stages World guarded job_pipeline pipeline",
    "streams.jobs.hub_news": "HubEvent HubNews",
    "streams.protocol.messages": "PowerState",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # which would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = _version() if name == "__version__" else _imported(name)
        return value


def _version() -> str:
    from importlib.metadata import version

    return version("wakestream")


def _imported(name: str) -> Any:
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'operators')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
