"""Runs jobs through a pipeline of your own, for the `main` of a small program."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import exit_code
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.submission import job_of
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config import settings
from wakestream.adapters.config.setting_files import SettingsError, read_env
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.telemetry import logs
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Done, Job, JobEvent, Outcome
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Workers
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build

Show = Callable[[Job, JobEvent], Any]
N = TypeVar("N", str, int, float)

HUB_WITHIN = 10.0
"""Seconds that a job waits for the first connection to the hub."""


@overload
def setting(name: str) -> str: ...
@overload
def setting(name: str, default: N) -> N: ...
def setting(name: str, default: Any = "") -> Any:
    """Read a setting of your own program from the environment or from `.env`.

    When it is missing or of another type, the program ends with a sentence on standard error and exit code 2.

    Args:
        name: The name of the variable.
        default: The value when it is not set. It also sets the type: text, a whole number or a number.

    Example:
        >>> setting("COPIES", 1)
        1
    """
    kind = type(default)
    try:
        in_file = read_env(Path(".env")).get(name)
        given = os.environ.get(name) or (str(in_file.value) if in_file else "") or default
        if given == "":
            raise SettingsError(f"{name} is not set; set it in the environment or in .env")
        return kind(given)
    except ValueError:
        number = "a whole number" if kind is int else "a number"
        sys.exit(_complain(SettingsError(f"{name} is {str(given)[:40]!r}; it must be {number}")))
    except WakestreamError as error:
        sys.exit(_complain(error))


def new_job(video: Path, audio: Path, output: Path) -> Job:
    """A job with a new id."""
    return Job.lipsync(f"ws-{uuid.uuid4().hex[:16]}", video, audio, output)


def show_line(job: Job, event: JobEvent) -> None:
    """One event as a line on standard output."""
    say(f"{job.output.name}: {words.event(event)}")


def run_job(
    build: Build = job_pipeline,
    *,
    about: str | None = None,
    workers: Workers | None = None,
    show: Show = show_line,
    arguments: Sequence[str] | None = None,
) -> int:
    """A complete program for one job: `PROGRAM VIDEO AUDIO [RESULT] [--hub URL] [--record DIR] …`.

    RESULT is VIDEO's name + .synced.mp4 by default; `--record DIR` records the run. `--hub`, `--key-file` and `--ca`
    are those of `wakestream submit`.

    Args:
        build: The pipeline.
        about: The first text of `--help`, such as the program's `__doc__`.
        workers: Workers with another protocol.
        show: Is called with every event.
        arguments: The command line arguments by default.

    Returns:
        The exit code, as of `run_jobs`.

    Example:
        >>> sys.exit(run_job(my_pipeline, about=__doc__))
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", metavar="VIDEO", type=Path, help="the video file")
    parser.add_argument("audio", metavar="AUDIO", type=Path, help="the audio file that the video is to speak")
    goes = "the result's path (default VIDEO's name + .synced.mp4)"
    parser.add_argument("output", type=Path, nargs="?", metavar="RESULT", help=goes)
    flags.connection(parser)
    given = parser.parse_args(arguments)
    try:
        job = job_of(given.video, given.audio, given.output)
    except WakestreamError as error:
        return _complain(error)
    return _run_all([job], build, workers, show, vars(given))


def run_jobs(
    jobs: Sequence[Job],
    build: Build = job_pipeline,
    *,
    workers: Workers | None = None,
    show: Show = show_line,
    record: str | None = None,
) -> int:
    """Run jobs concurrently, with the settings of `wakestream submit`.

    Args:
        jobs: The jobs.
        build: The pipeline of each job.
        workers: Workers with another protocol.
        show: Is called with every event.
        record: A folder for a recording of the run.

    Returns:
        The program's exit code: 0, or that of the first job that is not done. Errors before the start are printed on
        standard error.
    """
    return _run_all(jobs, build, workers, show, {"record": record})


def _run_all(
    jobs: Sequence[Job], build: Build, workers: Workers | None, show: Show, given: Mapping[str, object]
) -> int:
    try:
        outcomes = asyncio.run(_run(jobs, build, workers, show, given))
    except WakestreamError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return next((exit_code(outcome) for outcome in outcomes if not isinstance(outcome, Done)), exit_codes.DONE)


def _complain(error: WakestreamError) -> int:
    say(f"wakestream: {error}", error=True)
    return exit_codes.of_word(error.code)


async def _run(
    jobs: Sequence[Job], build: Build, workers: Workers | None, show: Show, given: Mapping[str, object]
) -> Sequence[Outcome]:
    found = settings.load(given)
    hide(*found.secrets)
    logs.configure("ERROR")
    policy = found.policy(Policy(hub=HUB_WITHIN))
    async with open_client(found, policy, build, workers) as client:
        outcomes = await asyncio.gather(*(client.run(job, partial(show, job)) for job in jobs))
        await client.releases(policy.release)
    return outcomes
