"""`wakestream move JOB`: change the order of the daemon's jobs that wait."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import run_at_daemon
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.daemon.api_client import DaemonClient
from wakestream.adapters.runtime.printing import answer

EXAMPLES = ("move ws-0123456789abcdef --first", "move ws-0123456789abcdef --before ws-fedcba9876543210")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("job", metavar="JOB", help=flags.JOB)
    where = parser.add_mutually_exclusive_group(required=True)
    flags.add(where, "--before OTHER", "before this job; if it no longer waits, to the top")
    flags.add(where, "--after OTHER", "behind this job; if it no longer waits, to the top")
    flags.add(where, "--first", "to the top: it is the next one")
    flags.add(where, "--last", "to the end")
    flags.add(parser, "--json", "one JSON object")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Move the job."""
    return run_at_daemon(args, _move)


async def _move(client: DaemonClient, args: argparse.Namespace) -> int:
    moved = await client.move(args.job, args.before, after=args.after, first=args.first)
    where = next((name for name in ("before", "after", "first") if getattr(args, name)), "last")
    said = t(f"move.{where}", job=moved["id"], other=args.before or args.after or "")
    answer({"job": moved["id"], "priority": moved["priority"]}, said, as_json=args.json)
    return exit_codes.DONE
