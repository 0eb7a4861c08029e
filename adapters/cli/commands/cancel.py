"""`wakestream cancel JOB...`: stop jobs of the daemon everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import reason
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import DaemonRefused, open_daemon_client
from wakestream.adapters.runtime.printing import answer, say, say_json
from wakestream.streams.recording.event_json import plain_text

EXAMPLES = ("cancel ws-0123456789abcdef", "cancel ws-0123456789abcdef ws-fedcba9876543210 --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="a job's id, as `wakestream jobs` lists it")
    flags.add(parser, "--json", "one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them was not to be cancelled."""
    begin(args)
    return run_program(lambda _: _cancel(args))


async def _cancel(args: argparse.Namespace) -> int:
    async with open_daemon_client(args.state) as client:

        async def cancel(job: str) -> None:
            state = (await client.cancel(job))["state"]
            said = t("is_cancelled" if state == "cancelled" else "is_being_cancelled", job=job)
            answer({"job": job, "state": state}, said, as_json=args.json)

        return await for_each(args, cancel)


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
