"""Jobs through a pipeline of your own, with the settings of the folder: what a small program's `main` needs."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wakestream.adapters import logs, settings
from wakestream.adapters.cli import exit_codes, words
from wakestream.adapters.cli.submit import exit_code
from wakestream.adapters.client import open_client
from wakestream.operators.errors import WakestreamError
from wakestream.operators.events import Done, Job, JobEvent, Outcome
from wakestream.operators.policy import Policy
from wakestream.operators.ports import Workers
from wakestream.streams.daemon import Build
from wakestream.streams.job import job_pipeline

Show = Callable[[Job, JobEvent], Any]

HUB_PATIENCE = 10.0
"""Seconds that a job looks for a hub that it has never reached."""


def new_job(video: Path, audio: Path, output: Path) -> Job:
    """A job with a new id."""
    return Job(f"ws-{uuid.uuid4().hex[:16]}", video, audio, output)


def show_line(job: Job, event: JobEvent) -> None:
    """One event as a line on standard output."""
    print(f"{job.output.name}: {words.event(event)}", flush=True)  # noqa: T201 - it is the program's answer


def run_jobs(
    jobs: Sequence[Job], build: Build = job_pipeline, *, workers: Workers | None = None, show: Show = show_line
) -> int:
    """Run the jobs side by side, each through `build`, and show every event; returns the program's exit code.

    Settings are those of `wakestream submit`. `workers` are those of another protocol than ours. The exit code is that
    of the first job that was not done; whatever cannot even begin is told on standard error.
    """
    try:
        outcomes = asyncio.run(_run(jobs, build, workers, show))
    except WakestreamError as error:
        print(f"wakestream: {error}", file=sys.stderr)  # noqa: T201
        return exit_codes.of_word(error.code)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return next((exit_code(outcome) for outcome in outcomes if not isinstance(outcome, Done)), exit_codes.DONE)


async def _run(jobs: Sequence[Job], build: Build, workers: Workers | None, show: Show) -> Sequence[Outcome]:
    found = settings.load({})
    logs.configure("ERROR", found.secrets)
    async with open_client(found, found.policy(Policy(hub=HUB_PATIENCE)), build, workers) as client:
        return await asyncio.gather(*(client.run(job, partial(show, job)) for job in jobs))
