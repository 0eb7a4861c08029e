"""`wakestream jobs`: what is in the daemon's outbox."""

from __future__ import annotations

import argparse
import time

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import run_at_daemon
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.live_jobs import live_jobs
from wakestream.adapters.cli.render.display import is_terminal
from wakestream.adapters.cli.render.jobs_table import Costs, JobProgress, jobs_table
from wakestream.adapters.cli.render.table import terminal_columns
from wakestream.adapters.cli.service import begin, run_program, unless_stopped
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.api_client import LIST_MOST, DaemonClient
from wakestream.adapters.runtime.printing import say, say_json

EXAMPLES = ("jobs", "jobs --live", "jobs --all --json | jq -r .id")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--all", "include finished jobs")
    how = parser.add_mutually_exclusive_group()
    flags.add(how, "--live", "keep the table up to date until Ctrl-C, as `watch` does")
    flags.add(how, "--json", "one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """List them, the newest first."""
    if not args.live:
        return run_at_daemon(args, _list)
    begin(args)
    if not is_terminal():
        raise SettingsError("--live needs a terminal; `wakestream watch` writes a line for each event instead")
    return run_program(lambda stop: unless_stopped(stop, live_jobs(args.state, ended=args.all)))


async def _list(client: DaemonClient, args: argparse.Namespace) -> int:
    jobs, older = await client.jobs("all" if args.all else "open", LIST_MOST)
    costs = Costs({}) if args.json or not jobs else Costs(*await client.costs())
    if args.json:
        for job in jobs:
            job.pop("first", None)  # it is only for the rate
            say_json(job)
    elif jobs:
        say(*jobs_table([(job, JobProgress.of(job)) for job in jobs], costs, time.time(), terminal_columns()))
    else:
        say(t("jobs.none" if args.all else "jobs.none_open"))
    if older:
        say(f"wakestream: {t('jobs.older', count=older)}", error=True)
    return exit_codes.DONE
