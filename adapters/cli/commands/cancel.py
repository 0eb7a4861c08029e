"""`wakestream cancel JOB...`: stop jobs of the daemon everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import reason
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import LIST_MOST, DaemonClient, DaemonRefused, open_daemon_client
from wakestream.adapters.runtime.printing import answer, say, say_json
from wakestream.streams.recording.event_json import plain_text

EXAMPLES = ("cancel ws-0123456789abcdef", "cancel ws-0123456789abcdef ws-fedcba9876543210 --json", "cancel --all")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", metavar="JOB", nargs="*", default=[], help=flags.JOB)
    flags.add(which, "--all", "all open jobs")
    flags.add(parser, "--json", "one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them was not to be cancelled."""
    begin(args)
    return run_program(lambda _: _cancel(args))


async def _cancel(args: argparse.Namespace) -> int:
    async with open_daemon_client(args.state) as client:

        async def cancel(job: str) -> None:
            try:
                found = await client.cancel(job)
            except DaemonRefused as error:
                if args.all and error.code == "ended":
                    return  # since it was listed
                raise
            job, state = found["id"], found["state"]
            said = t("is_cancelled" if state == "cancelled" else "is_being_cancelled", job=job)
            answer({"job": job, "state": state}, said, as_json=args.json)

        if args.all:
            args.jobs = await listed(client, "open")  # the newest first: those that follow others before these
            if not args.jobs and not args.json:
                say(t("cancel.none"))
        return await for_each(args, cancel)


async def listed(client: DaemonClient, state: str) -> dict[str, dict[str, Any]]:
    """All jobs of a state (or group of states) by id, the newest first."""
    await client.needed()
    found, older = await client.jobs(state, LIST_MOST)
    while older > 0:
        more, older = await client.jobs(state, LIST_MOST, len(found))
        found += more
    return {job["id"]: job for job in found}  # a job that came between two pages moves one into the next page too


async def for_each(args: argparse.Namespace, ask: Callable[[str], Awaitable[None]]) -> int:
    """Ask the daemon about each job of the arguments; 1 if it refuses one of them."""
    status = exit_codes.DONE
    for job in args.jobs:
        try:
            await ask(job)
        except DaemonRefused as error:
            status = exit_codes.FAILED
            if args.json:
                say_json({"job": plain_text(job), "code": error.code, "error": plain_text(str(error))})
            else:
                say(f"wakestream: {reason(error.code, str(error))}", error=True)
    return status
