"""`wakestream cancel JOB...`: stop jobs of the daemon everywhere."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.at_daemon import for_each, listed, run_at_daemon
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused
from wakestream.adapters.runtime.printing import answer, say

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
    return run_at_daemon(args, _cancel)


async def _cancel(client: DaemonClient, args: argparse.Namespace) -> int:
    async def cancel(job: str) -> None:
        try:
            cancelled = await client.cancel(job)
        except DaemonRefused as error:
            if args.all and error.code == "ended":
                return  # since it was listed
            raise
        job, state = cancelled["id"], cancelled["state"]
        said = t("is_cancelled" if state == "cancelled" else "is_being_cancelled", job=job)
        answer({"job": job, "state": state}, said, as_json=args.json)

    if args.all:
        args.jobs = await listed(client, "open")  # the newest first: those that follow others before these
        if not args.jobs and not args.json:
            say(t("cancel.none"))
    return await for_each(args, cancel)
