"""`wakestream cancel JOB...`: stop jobs of the daemon everywhere."""

from __future__ import annotations

import argparse
from typing import Any

from wakestream.adapters.cli import exit_codes, flags

HELP = "cancel jobs of the running daemon, at the hub and the worker too"
EXAMPLES = ("cancel ws-0123456789abcdef", "cancel ws-0123456789abcdef ws-fedcba9876543210 --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="a job's id, as `wakestream jobs` lists it")
    parser.add_argument("--json", action="store_true", help="one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them was not to be cancelled."""
    from wakestream.adapters.cli.program import begin, run_program

    begin(args)
    return run_program(lambda _: _cancel(args))


async def _cancel(args: argparse.Namespace) -> int:
    from wakestream.adapters.daemon_address import folder
    from wakestream.adapters.daemon_client import DaemonRefused, open_daemon_client

    status = exit_codes.DONE
    async with open_daemon_client(folder(args.state)) as client:
        for job in args.jobs:
            try:
                found = await client.cancel(job)
                _tell(args.json, job, {"job": job, "state": found["state"]})
            except DaemonRefused as error:
                status = exit_codes.FAILED
                _tell(args.json, job, {"job": job, "code": error.code, "error": str(error)})
    return status


def _tell(as_json: bool, job: str, said: dict[str, Any]) -> None:
    import orjson

    from wakestream.adapters.cli.following import say
    from wakestream.adapters.cli.words import reason
    from wakestream.adapters.words import tell
    from wakestream.streams.event_json import plain_text

    if as_json:
        say(orjson.dumps({name: plain_text(text) for name, text in said.items()}).decode())
    elif "error" in said:
        say(f"wakestream: {reason(said['code'], said['error'])}", error=True)
    else:
        say(tell("is_cancelled" if said["state"] == "cancelled" else "is_being_cancelled", job=job))
