"""`wakestream retry JOB...`: try jobs of the daemon at once that pause, or again that ended without a result."""

from __future__ import annotations

import argparse
from typing import Any

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.commands.cancel import for_each
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.runtime.printing import answer, say

EXAMPLES = ("retry ws-0123456789abcdef", "retry --all")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", metavar="JOB", nargs="*", default=[], help="a job's id, as `wakestream jobs` lists it")
    flags.add(which, "--all", "all paused jobs")
    flags.add(parser, "--json", "one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them could not be tried."""
    begin(args)
    return run_program(lambda _: _retry(args))


async def _retry(args: argparse.Namespace) -> int:
    async with open_daemon_client(args.state) as client:

        async def retry(job: str) -> None:
            _say(args.json, job, (await client.retry(job))["id"])

        if args.all:
            tried = await client.retry_all()
            for job in tried:
                _say(args.json, job, job)
            if not tried and not args.json:
                say(t("retry.none"))
        return await for_each(args, retry)


def _say(as_json: bool, job: str, tried: str) -> None:
    said: dict[str, Any] = {"job": tried} if tried == job else {"job": tried, "retry_of": job}
    words = t("retry.now", job=job) if tried == job else t("retry.again", job=job, new=tried)
    answer(said, words, as_json=as_json)
