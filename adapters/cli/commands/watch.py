"""`wakestream watch [JOB]`: follow one job of the daemon, or all."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import exit_code, follow
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.live_jobs import live_jobs
from wakestream.adapters.cli.render.display import Display, PlainLines, display, is_terminal
from wakestream.adapters.cli.service import begin, run_program, unless_stopped
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, DaemonUnreachable, open_daemon_client
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.streams.recording.event_json import OUTCOME_KINDS, event_from, job_from

EXAMPLES = ("watch", "watch ws-0123456789abcdef", "watch --json")

LOOK_EVERY = 1.0
"""Seconds between two looks at what the engine has so far."""

_ENDS = (*OUTCOME_KINDS, "missed")
"""What `-q` shows, too. After `missed` some events of before are kept no longer: a job may have ended unheard."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("job", metavar="JOB", nargs="?", help=f"{flags.JOB} (default: all jobs, from now on)")
    flags.add(parser, "--json", "events as JSON lines on standard output")
    flags.add(parser, "--plain", "plain lines even on a terminal")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show what happens, as a table or in lines; with a JOB the exit code tells its outcome. Ctrl-C only leaves."""
    begin(args)
    return run_program(lambda stop: unless_stopped(stop, _one(args) if args.job else _all(args)))


def _all(args: argparse.Namespace) -> Coroutine[Any, Any, int]:
    lines = args.json or args.plain or flags.is_quiet(args) or not is_terminal()
    return _lines(args) if lines else live_jobs(args.state)


async def _one(args: argparse.Namespace) -> int:
    async with open_daemon_client(args.state) as client:
        listed = await client.job(args.job)
        job = job_from(listed["id"], listed)
        with display(job, as_json=args.json, plain=args.plain, quiet=flags.is_quiet(args)) as shown:
            async with tasks_of_block() as start:
                start(_look_on(client, job.id, shown))
                return exit_code(await follow(client, job.id, shown))


async def _look_on(client: DaemonClient, job: str, shown: Display) -> None:
    """Show what the engine has so far, again and again."""
    number, text = 0, None
    while shown.previews:
        with suppress(DaemonRefused, DaemonUnreachable):  # the events tell of a daemon that is away
            if preview := await client.preview(job, number):
                number, text = int(preview.get("number", 0)), str(preview.get("text", ""))
        if text is not None:
            shown.preview(text)
        await asyncio.sleep(LOOK_EVERY)


async def _lines(args: argparse.Namespace) -> int:
    start = time.monotonic()
    async with open_daemon_client(args.state) as client:
        await client.needed()
        shown = _Lines(client)
        async for plain in client.events():
            if flags.is_quiet(args) and plain.get("event") not in _ENDS:
                continue
            if args.json:
                say_json({"t": round(time.monotonic() - start, 3), **plain})
            else:
                await shown.show(str(plain.get("job", "")), plain)
    return exit_codes.DONE


class _Lines:
    """The events of all jobs as lines, each job under the name of its files."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client
        self._jobs: dict[str, tuple[str, PlainLines]] = {}

    async def show(self, job: str, plain: Mapping[str, Any]) -> None:
        """One event, as the daemon tells it; nothing for a kind that this version does not know."""
        kind = plain.get("event")
        if kind == "missed":
            say(t("missed"))
            return
        name, lines = await self._of(job)
        event = event_from(plain)
        if event is not None:
            lines.show(event)
        elif kind == "accepted":
            say(t("accepted", job=name))
        if kind in _ENDS:
            del self._jobs[job]

    async def _of(self, job: str) -> tuple[str, PlainLines]:
        if job not in self._jobs:
            name = await _name(self._client, job, [name for name, _ in self._jobs.values()])
            self._jobs[job] = name, PlainLines(f"{name}  ")
        return self._jobs[job]


async def _name(client: DaemonClient, job: str, others: Collection[str]) -> str:
    """The job's file names, with the id if another job has the same names; the id alone if they are unknown."""
    try:
        names = (await client.job(job))["names"]
    except (DaemonRefused, DaemonUnreachable, KeyError):
        return job
    name = " + ".join(name for field, name in names.items() if field != "output")
    return f"{name} ({job})" if name in others else name
