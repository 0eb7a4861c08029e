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

    async def jobs(self, *_: object) -> tuple[list[dict[str, Any]], int]:
        """All."""
        return self.listed, 0

    async def retry(self, job: str) -> None:
        """A new job that fails."""
        assert len(self.tried) < 10
        self.tried.append(job)
        self.listed.insert(0, {"id": f"{job}-again", "state": "failed", "retry_of": job})


async def test_each_job_that_failed_before_is_tried_once() -> None:
    daemon = Daemon("job-2", "job-1")
    code = await _retry_failed(cast("DaemonClient", daemon), argparse.Namespace(json=True), daemon.retry)
    assert (code, daemon.tried) == (0, ["job-2", "job-1"])
