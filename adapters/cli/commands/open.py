"""`wakestream open [JOB]`: shows the result of a job with the system's own player or viewer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import run_at_daemon
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.daemon.api_client import DaemonClient
from wakestream.adapters.disk.media_types import TYPES, media_type
from wakestream.adapters.runtime.desktop import open_file
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.operators.model.errors import WakestreamError

EXAMPLES = ("open", "open ws-0123456789abcdef", "open ws-0123456789abcdef --print")


class NoResult(WakestreamError):
    """There is no result that could be shown."""

    code = "no_result"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("job", metavar="JOB", nargs="?", help=f"{flags.JOB} (default: the last one that is done)")
    flags.add(parser, "--result NAME", "which one, if the job has several results (default: the main one)")
    how = parser.add_mutually_exclusive_group()
    flags.add(how, "--print", "print the path instead")
    flags.add(how, "--json", "print how it was made instead: parameters, version of the kind, GPU, seconds, cost")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show the result, or print its path."""
    return run_at_daemon(args, _open)


async def _open(client: DaemonClient, args: argparse.Namespace) -> int:
    if args.json:
        await client.costs()  # the daemon asks the hub for them
    # The path of a result that is there. Raises `NoResult`.
    job = await client.job(args.job or (await _last(client))["id"])
    if job["state"] != "done":
        how = f"; `wakestream why {job['id']}` says why" if job["outcome"] is None else ""
        raise NoResult(f"job {job['id']} has no result: it is {job['state']}{how}")
    outcome = job["outcome"]
    named = {file["name"]: file["path"] for file in outcome.get("files") or ()}
    if args.result is not None and args.result not in (named or job.get("outputs") or {"video": ""}):
        known = ", ".join(named or job.get("outputs") or ("video",))
        raise NoResult(f"job {job['id']} has no result {args.result!r}; it has {known}")
    path = Path(named.get(args.result or "", outcome["path"]))
    if not path.is_file():
        raise NoResult(f"{path}: the result was removed or moved")
    if args.json:
        say_json(job.get("record") or {"job": job["id"], "params": job.get("params", {})})
        return exit_codes.DONE
    if args.print:
        say(str(path))
        return exit_codes.DONE
    if path.suffix.lower() not in TYPES or not media_type(path).shown:
        raise NoResult(f"{path}: only video, audio, pictures and text are opened; --print gives the path")
    if not open_file(path):
        raise NoResult(f"{path}: no program to open it was found here; --print gives the path")
    say(t("open.shown", path=path))
    return exit_codes.DONE


async def _last(client: DaemonClient) -> dict[str, Any]:
    """The job that was done last."""
    await client.needed()
    jobs, _ = await client.jobs("done", 1000)
    if not jobs:
        raise NoResult("no job is done yet; `wakestream jobs` shows how far they are")
    return max(jobs, key=lambda job: job["ended_at"])
