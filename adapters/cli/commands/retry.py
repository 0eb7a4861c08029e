"""`wakestream retry JOB...`: try jobs of the daemon at once that pause, or again that ended without a result."""

from __future__ import annotations

import argparse
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands.cancel import say_refused
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import DaemonRefused, open_daemon_client
from wakestream.adapters.runtime.printing import answer, say

EXAMPLES = ("retry ws-0123456789abcdef", "retry --all")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", metavar="JOB", nargs="*", default=[], help="a job's id, as `wakestream jobs` lists it")
    which.add_argument("--all", action="store_true", help="all paused jobs")
    parser.add_argument("--json", action="store_true", help="one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them could not be tried."""
    begin(args)
    return run_program(lambda _: _retry(args))


async def _retry(args: argparse.Namespace) -> int:
    status = exit_codes.DONE
    async with open_daemon_client(args.state) as client:
        if args.all:
            tried = await client.retry_all()
            for job in tried:
                _say(args.json, job, job)
            if not tried and not args.json:
                say(t("retry.none"))
        for job in args.jobs:
            try:
                _say(args.json, job, (await client.retry(job))["id"])
            except DaemonRefused as error:
                status = exit_codes.FAILED
                say_refused(args.json, job, error)
    return status


def _say(as_json: bool, job: str, tried: str) -> None:
    said: dict[str, Any] = {"job": tried} if tried == job else {"job": tried, "retry_of": job}
    words = t("retry.now", job=job) if tried == job else t("retry.again", job=job, new=tried)
    answer(said, words, as_json=as_json)
