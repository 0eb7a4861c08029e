"""`wakestream rerun JOB`: the same work once more, as a new job whose result is made for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import any_kind, exit_codes, flags
from wakestream.adapters.cli.at_daemon import follow_or_cancel
from wakestream.adapters.cli.render.display import display
from wakestream.adapters.cli.service import Stop, begin, run_program
from wakestream.adapters.cli.submission import id_of
from wakestream.adapters.daemon.api_client import DaemonClient, open_daemon_client
from wakestream.adapters.runtime.known_secrets import hide_params
from wakestream.adapters.runtime.printing import answer
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.recording.event_json import job_from

EXAMPLES = ("rerun ws-0123456789abcdef", "rerun ws-0123456789abcdef --param seed=7 -o other.png")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("job", metavar="JOB", help=flags.JOB)
    changed = "a parameter that replaces that of the job; once for each"
    flags.add(parser, "--param NAME=VALUE", changed, action="append", dest="params", default=[])
    out = "the file of the main result (default: the name of the job's own with the next number)"
    flags.add(parser, "-o --output OUT", out, type=Path)
    flags.add(parser, "--overwrite", "replace the file OUT if it exists")
    flags.add(parser, "--detach", "print the id of the new job and return")
    flags.add(parser, "--json", "events as JSON lines on standard output")
    flags.add(parser, "--plain", "plain lines even on a terminal")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Submit the job again and follow it; the exit code is its outcome."""
    begin(args)
    return run_program(lambda stop: _rerun(args, any_kind.pairs("--param", args.params), stop))


async def _rerun(args: argparse.Namespace, texts: dict[str, str], stop: Stop) -> int:
    async with open_daemon_client(args.state) as client:
        before = await client.job(args.job)
        params = await _values(client, str(before.get("kind", LIPSYNC)), texts)
        outputs = {} if args.output is None else {next(iter(before.get("outputs", {"video": ""}))): args.output}
        if_exists = "replace" if args.overwrite else "fail" if outputs else "number"
        told = await client.rerun(before["id"], params, outputs, if_exists)
        if args.detach:
            answer(told, told["id"], as_json=args.json)
            return exit_codes.DONE
        shown = display(job_from(told["id"], told), as_json=args.json, plain=args.plain, quiet=flags.is_quiet(args))
        with shown:
            return await follow_or_cancel(client, told["id"], shown, stop)


async def _values(client: DaemonClient, kind: str, texts: dict[str, str]) -> dict[str, Any]:
    """The changed parameters, with the types of the kind."""
    if not texts:
        return {}
    named = (await client.kinds()).named(kind)
    params = any_kind.values_of(texts, named[0] if named else None, id_of(None))
    hide_params(named, params)
    return params
