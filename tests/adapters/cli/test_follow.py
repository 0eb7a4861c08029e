"""`submit` follows a job of the daemon until it ends, also when one of both waits fails."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.at_daemon import follow_or_cancel
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonUnreachable


class Daemon:
    """Takes a job; its events end with this error, or do not come."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.cancelled = list[str]()

    async def events(self, job: str) -> AsyncIterator[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        yield {"job": job}

    async def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        raise DaemonUnreachable("the daemon has stopped")


async def handed_over(daemon: Daemon, stop: Stop) -> int:
    class Shown:
        def show(self, *_: object) -> None:
            """The user presses Ctrl-C again when the first one was answered."""
            if stop.again is not None:
                stop.again.set()

    return await follow_or_cancel(cast("DaemonClient", daemon), "job-1", cast("Any", Shown()), stop)


async def test_an_error_of_the_events_is_the_reason_itself() -> None:
    with pytest.raises(DaemonUnreachable, match="no daemon"):
        await handed_over(Daemon(DaemonUnreachable("no daemon")), Stop())


async def test_an_error_of_the_cancel_is_the_reason_itself() -> None:
    stop, daemon = Stop(), Daemon()
    stop.interrupted = True
    stop.set()
    with pytest.raises(DaemonUnreachable, match="has stopped"):
        await handed_over(daemon, stop)
    assert daemon.cancelled == ["job-1"]


async def test_the_end_of_the_terminal_leaves_the_job_to_the_daemon() -> None:
    stop = Stop()
    stop.set()
    assert await handed_over(Daemon(), stop) == exit_codes.INTERRUPTED
