"""The daemon's jobs as a table on a terminal that is kept up to date. A line above it names each job that ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.jobs_table import Costs, JobProgress, files, jobs_table
from wakestream.adapters.daemon import api_client as api
from wakestream.adapters.runtime import printing
from wakestream.streams.recording.event_json import event_from

ASK_EVERY = 1.0
"""Seconds between two looks at the jobs."""

COSTS_EVERY = 10.0
"""Seconds between two questions for the costs, which the hub answers."""

ENDED_MOST = 10
"""Ended jobs that stay in the table with `--all`."""

Listed = Mapping[str, Any]
"""A job as the daemon lists it."""


async def live_jobs(state: str | None, *, ended: bool = False) -> int:
    """Show the jobs of the daemon with the folder `state` until this is cancelled; with `ended` also the last ones.

    A daemon that restarts is waited for.

    Raises:
        DaemonUnreachable: None runs, or it does not come back.
    """
    async with api.open_daemon_client(state) as client:
        await client.needed()
        table = LiveJobs(printing.console(), ended=ended)
        with drawn(table):
            while True:
                await look(client, table)
                await asyncio.sleep(ASK_EVERY)


async def follow_jobs(
    client: api.DaemonClient, jobs: Collection[str], tell: Callable[[Listed], object] | None
) -> list[Listed]:
    """Follow these jobs to their ends: in a table on a terminal, or with a call of `tell` for each that has ended.

    Args:
        client: A client of their daemon, which is waited for if it restarts.
        jobs: Their ids.
        tell: Is called for each end; None for the table.

    Returns:
        The jobs as they ended, in the order of their ends.
    """
    table = LiveJobs(printing.console(), only=frozenset(jobs))
    ended: list[Listed] = []
    with contextlib.nullcontext() if tell is not None else drawn(table):
        while len(ended) < len(table.only or ()):
            for job in await look(client, table, told=tell is None):
                ended.append(job)
                if tell is not None:
                    tell(job)
            await asyncio.sleep(ASK_EVERY if len(ended) < len(jobs) else 0)
    return ended


def drawn(table: LiveJobs) -> Live:
    """Draws the table while the block runs."""
    # Its own stream for standard output has no encoding, from which the table knows the characters that it can use.
    return Live(get_renderable=table.picture, console=table.console, refresh_per_second=4, redirect_stdout=False)


async def look(client: api.DaemonClient, table: LiveJobs, *, told: bool = True) -> list[Listed]:
    """Ask the daemon once; one that is away is looked for until its time is over.

    Args:
        client: Asks the daemon.
        table: Takes over what it says.
        told: Tell above the table how jobs have ended.

    Returns:
        The jobs that have ended since the last look.
    """
    ends: list[Listed] = []
    gone: list[str] = []
    try:
        jobs, _ = await client.jobs("all" if table.ended else "open", api.LIST_MOST)
        table.show(jobs)
        gone = table.gone(jobs)
        while gone:
            job = await _known(client, gone[0])
            id_ = gone.pop(0)
            if job["outcome"] is None:  # the list does not have all jobs
                table.open_again(id_)
                continue
            ends.append(job)
            if told:
                table.tell_end(job)
        if told and table.asks_costs():
            table.costs = Costs(*await client.costs())
    except api.DaemonUnreachable:
        for id_ in gone:  # how they ended is asked again
            table.open_again(id_)
        table.away_since = table.away_since or time.monotonic()
        if time.monotonic() - table.away_since > client.patience:
            raise
        await client.look()
    return ends


async def _known(client: api.DaemonClient, job: str) -> Listed:
    """The job; one that the daemon has forgotten since its end counts as failed."""
    try:
        return await client.job(job)
    except api.DaemonRefused as error:
        outcome = {"event": "failed", "why": str(error), "code": error.code}
        return {"id": job, "state": "failed", "names": {}, "kind": job, "outcome": outcome}


class LiveJobs:
    """The table.

    Args:
        console: Where it is drawn.
        ended: Whether ended jobs are shown, too.
        only: The ids of the jobs that are shown; None for all.
    """

    def __init__(self, console: Console, *, ended: bool = False, only: frozenset[str] | None = None) -> None:
        self.console, self.ended, self.only = console, ended, only
        self.costs = Costs({})
        self.away_since = 0.0
        self._costs_at = float("-inf")
        self._jobs: list[Listed] = []
        self._progress = {job: JobProgress() for job in only or ()}

    def show(self, jobs: Sequence[Listed]) -> None:
        """Take over what the daemon says now, the newest first."""
        self.away_since = 0.0
        jobs = [job for job in jobs if self.only is None or job["id"] in self.only]
        open_ = [job for job in jobs if not job["outcome"]]
        self._jobs = [*sorted(open_, key=_turn), *[job for job in jobs if job["outcome"]][:ENDED_MOST]]
        for job in open_:
            self._progress.setdefault(job["id"], JobProgress()).read(job)

    def gone(self, jobs: Sequence[Listed]) -> list[str]:
        """The jobs that were open and are not any more, each once."""
        open_ = {job["id"] for job in jobs if not job["outcome"]}
        ended = [job for job in self._progress if job not in open_]
        for job in ended:
            del self._progress[job]
        return ended

    def open_again(self, job: str) -> None:
        """Note that a job may be open, although it was not in the list."""
        self._progress[job] = JobProgress()

    def asks_costs(self) -> bool:
        """Whether it is time to ask for the costs again."""
        if not self._jobs or time.monotonic() - self._costs_at < COSTS_EVERY:
            return False
        self._costs_at = time.monotonic()
        return True

    def tell_end(self, job: Listed) -> None:
        """Say above the table how a job has ended."""
        outcome = event_from(job["outcome"]) if job["outcome"] else None
        if outcome is not None:
            line = words.outcome(outcome, job["outcome"].get("reused", ""))
            self.console.print(Text(f"{files(job)}  {line}", "green" if job["state"] == "done" else "red"))

    def picture(self) -> RenderableType:
        """What stands on the screen now."""
        foot = Text(t("jobs.away" if self.away_since else "jobs.leave"), "dim")
        if not self._jobs:
            return Group(Text(t("jobs.none_open")), foot)
        most = max(1, self.console.height - 4)
        shown = [(job, self._progress.get(job["id"], JobProgress())) for job in self._jobs[:most]]
        head, *lines = jobs_table(shown, self.costs, time.time(), self.console.width)
        rest = len(self._jobs) - len(shown)
        more = [Text(t("jobs.more", count=rest), "dim")] if rest else []
        rows = [Text(line, no_wrap=True, overflow="crop") for line in lines]
        return Group(Text(head, "bold", no_wrap=True), *rows, *more, foot)


def _turn(job: Listed) -> tuple[bool, int, int, float]:
    """Jobs at work first, then those that are next. An earlier version of the daemon does not tell their places."""
    return job["stage"] in ("submit", "wake"), job.get("place") or 0, -job["priority"], job["accepted_at"]
