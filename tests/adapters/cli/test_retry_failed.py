"""`retry --failed` comes to an end, also if the new jobs fail at once."""

import argparse
from typing import Any, cast

from wakestream.adapters.cli.commands.retry import _retry_failed
from wakestream.adapters.daemon.api_client import DaemonClient


class Daemon:
    """Has these jobs, the newest first; each one that is tried again fails at once."""

    def __init__(self, *jobs: str) -> None:
        self.listed = [{"id": id_, "state": "failed", "retry_of": None} for id_ in jobs]
        self.tried: list[str] = []

    async def needed(self) -> None:
        """It runs."""

    async def jobs(self, _: str, limit: int, skip: int = 0) -> tuple[list[dict[str, Any]], int]:
        """One page."""
        page = self.listed[skip : skip + limit]
        return page, len(self.listed) - skip - len(page)

    async def retry(self, job: str) -> None:
        """A new job that fails."""
        assert len(self.tried) < 10
        self.tried.append(job)
        self.listed.insert(0, {"id": f"{job}-again", "state": "failed", "retry_of": job})


async def test_each_job_that_failed_before_is_tried_once() -> None:
    daemon = Daemon("job-2", "job-1")
    code = await _retry_failed(cast("DaemonClient", daemon), argparse.Namespace(json=True), daemon.retry)
    assert (code, daemon.tried) == (0, ["job-2", "job-1"])


async def test_a_failed_job_behind_thousands_of_later_ones_is_found() -> None:
    daemon = Daemon("job-2", "job-1", "old")
    daemon.listed[1:1] = [{"id": f"done-{number}", "state": "done", "retry_of": None} for number in range(2500)]
    daemon.listed[1]["retry_of"] = "old"
    code = await _retry_failed(cast("DaemonClient", daemon), argparse.Namespace(json=True), daemon.retry)
    assert (code, daemon.tried) == (0, ["job-2", "job-1"])
