"""`wakestream cancel JOB...`: stop jobs of the daemon everywhere."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import reason
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import DaemonRefused, open_daemon_client
from wakestream.adapters.runtime.printing import answer, say, say_json
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.recording.event_json import plain_text

EXAMPLES = ("cancel ws-0123456789abcdef", "cancel ws-0123456789abcdef ws-fedcba9876543210 --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="a job's id, as `wakestream jobs` lists it")
    parser.add_argument("--json", action="store_true", help="one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them was not to be cancelled."""
    begin(args)
    return run_program(lambda _: _cancel(args))


async def _cancel(args: argparse.Namespace) -> int:
    status = exit_codes.DONE
    async with open_daemon_client(args.state) as client:
        for job in args.jobs:
            try:
                found = await client.cancel(job)
                _say(args.json, job, found["state"])
            except DaemonRefused as error:
                status = exit_codes.FAILED
                say_refused(args.json, job, error)
    return status


def say_refused(as_json: bool, job: str, error: WakestreamError) -> None:
    """The daemon said no about one job."""
    if as_json:
        say_json({"job": plain_text(job), "code": error.code, "error": plain_text(str(error))})
    else:
        say(f"wakestream: {reason(error.code, str(error))}", error=True)


def _say(as_json: bool, job: str, state: str) -> None:
    said = t("is_cancelled" if state == "cancelled" else "is_being_cancelled", job=job)
    answer({"job": job, "state": state}, said, as_json=as_json)
