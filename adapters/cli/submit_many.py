"""Several jobs at once: all into the daemon, or one after the other in the foreground."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.at_daemon import daemon_for, exit_code, follow, refused
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.live_jobs import Listed, follow_jobs
from wakestream.adapters.cli.render import cost_text
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.display import Display, JsonLines, PlainLines
from wakestream.adapters.cli.render.jobs_table import files
from wakestream.adapters.cli.service import Stop, unless_stopped
from wakestream.adapters.cli.submission import JobFlags, Submission, checked, run_one, submission_of
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, open_daemon_client
from wakestream.adapters.engines.probe import AT_ONCE, MediaUnusable, both_probed
from wakestream.adapters.runtime.desktop import notify
from wakestream.adapters.runtime.printing import answer, say, say_json
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.errors import FileError, WakestreamError, WrongInput
from wakestream.operators.model.events import LIPSYNC, Job
from wakestream.streams.recording.event_json import event_from

LENGTHS_WITHIN = 5.0
"""Seconds for the lengths of the files, before the question whether to submit the jobs."""

OF_ONE_JOB = (DaemonRefused, FileError, WrongInput)
"""Why a job may be refused while the others go on."""


async def submit_many(jobs: Sequence[JobFlags], settings: Settings, stop: Stop, *, wait: bool) -> int:
    """Submit all jobs; a job that is refused does not stop the others.

    Args:
        jobs: The flags of each, which differ in their files only.
        settings: All settings.
        stop: Set when the user asks to stop.
        wait: Follow the jobs of the daemon to their ends, and show a notification if one is wanted.

    Returns:
        0 if all jobs were accepted, and are done if they were followed; otherwise the code of one that failed.
    """
    several, code = _usable(jobs, settings)
    if not several:
        return code
    flags = several[0].flags
    if not flags.foreground:
        async with open_daemon_client(flags.state) as client:
            if await daemon_for(client, settings.hub_url, needed=flags.detach, ignored=flags.ignored):
                return max(code, await unless_stopped(stop, _to_daemon(client, several, wait=wait)))
    # Run them one after the other; `--notify` tells each end. Ctrl-C cancels the one that runs, and ends it.
    codes = []
    for asked in several:
        if stop.is_set():
            codes.append(exit_codes.INTERRUPTED)
            break
        try:
            codes.append(await run_one(asked, stop))
        except OF_ONE_JOB as error:
            codes.append(refused(asked.id, error, as_json=flags.as_json))
    return max(code, max(codes))


async def estimated(jobs: Sequence[JobFlags], *, probe: bool) -> list[str]:
    """What the jobs take, as lines for people; none without a daemon, or if too little is known.

    Args:
        jobs: The flags of each.
        probe: Whether the lengths of the files may be looked up.
    """
    estimate: dict[str, Any] = {}
    with suppress(WakestreamError):
        async with open_daemon_client(jobs[0].state) as client:
            if await client.look() is not None:
                lengths = await _lengths(jobs) if probe else [None] * len(jobs)
                estimate = await client.estimate(jobs[0].kind or LIPSYNC, lengths)
    return cost_text.estimate(estimate)


async def _lengths(jobs: Sequence[JobFlags]) -> list[float | None]:
    """The seconds of the longest file of each pair, as far as they are known within `LENGTHS_WITHIN`."""
    lengths: list[float | None] = [None] * len(jobs)
    room = asyncio.Semaphore(AT_ONCE)

    async def look(at: int, video: Path, audio: Path) -> None:
        async with room:
            with suppress(MediaUnusable):  # it is refused when it is submitted
                lengths[at] = max(await both_probed(video, audio), key=lambda seconds: seconds or 0.0)

    with suppress(TimeoutError):
        async with asyncio.timeout(LENGTHS_WITHIN), tasks_of_block() as start:
            pairs = ((at, job.video, job.audio) for at, job in enumerate(jobs) if job.video and job.audio)
            await asyncio.gather(*(start(look(*pair)) for pair in pairs))
    return lengths


def _usable(jobs: Sequence[JobFlags], settings: Settings) -> tuple[list[Submission], int]:
    """The jobs whose files can be used, and the exit code for the others."""
    usable, code = [], exit_codes.DONE
    for flags in jobs:
        try:
            usable.append(submission_of(flags, settings))
        except FileError as error:
            code = refused("", error, as_json=flags.as_json)
    return usable, code


async def _to_daemon(client: DaemonClient, several: Sequence[Submission], *, wait: bool) -> int:
    codes, submitted, left, flags = [exit_codes.DONE], list[str](), list(several), several[0].flags
    batch = t("many.batch", time=f"{datetime.now():%Y-%m-%d %H:%M:%S}") if len(several) > 1 else ""
    held: list[Callable[[], None]] = []  # what is printed only if the jobs cannot be followed
    try:
        while left:
            asked = left[0]
            try:
                job, lengths = await checked(asked, client.kinds)
                told = await client.submit(job, lengths, asked.chain, asked.if_exists, batch, sidecar=flags.sidecar)
            except OF_ONE_JOB as error:
                codes.append(refused(asked.id, error, as_json=flags.as_json))
            else:
                submitted.append(job.id)
                line = job.id if flags.detach or flags.quiet else _line(job)
                held.append(partial(answer, told, line, as_json=flags.as_json))
            del left[0]
            if not wait:
                _print(held)
    finally:
        if left:  # the daemon is gone, or the user stops: these jobs go on
            _print(held)
            if not flags.as_json:
                jobs = words.count(len(several))
                going_on = t("many.broken", done=len(submitted), jobs=jobs, id=left[0].id)
                say(f"wakestream: {going_on}", error=True)
    for id_ in submitted if flags.leave else ():
        shown: Display = JsonLines(id_) if flags.as_json else PlainLines(f"{id_}  ")
        codes.append(exit_code(await follow(client, id_, shown, leave=True)))
    if wait and submitted:
        codes.append(await _followed(client, submitted, flags))
    return max(codes)


def _print(held: list[Callable[[], None]]) -> None:
    while held:
        held.pop(0)()


def _line(job: Job) -> str:
    return f"{job.id}  " + " + ".join(path.name for path in job.inputs.values())


async def _followed(client: DaemonClient, jobs: Sequence[str], flags: JobFlags) -> int:
    try:
        ended = await follow_jobs(client, jobs, partial(_tell, as_json=flags.as_json) if flags.lines else None)
    except asyncio.CancelledError:
        if flags.lines and not flags.as_json:  # otherwise the foot of the table says it
            say(t("many.go_on"))
        raise
    codes = [exit_code(outcome) for job in ended if (outcome := event_from(job["outcome"])) is not None]
    if flags.notify:
        notify("wakestream", t("many.ended", done=codes.count(exit_codes.DONE), jobs=words.count(len(jobs))))
    return max(codes, default=exit_codes.FAILED)


def _tell(job: Listed, *, as_json: bool) -> None:
    outcome = event_from(job["outcome"])
    if as_json:
        say_json({"job": job["id"], **job["outcome"]})
    elif outcome is not None:
        say(f"{files(job)}  {words.outcome(outcome, job['outcome'].get('reused', ''))}")
