"""`wakestream jobs`: what is in the daemon's outbox."""

from __future__ import annotations

import argparse
import time
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import LIST_MOST, open_daemon_client
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.streams.recording.event_from_json import event_from

EXAMPLES = ("jobs", "jobs --all --json | jq -r .id")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--all", "include finished jobs")
    flags.add(parser, "--json", "one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """List them, the newest first."""
    begin(args)
    return run_program(lambda _: _list(args))


async def _list(args: argparse.Namespace) -> int:
    async with open_daemon_client(args.state) as client:
        found, older = await client.jobs("all" if args.all else "open", LIST_MOST)
    if args.json:
        for job in found:
            say_json(job)
    elif found:
        say(*_table(found, time.time()))
    else:
        say(t("jobs.none" if args.all else "jobs.none_open"))
    if older:
        say(f"wakestream: {t('jobs.older', count=older)}", error=True)
    return exit_codes.DONE


def _table(jobs: list[dict[str, Any]], now: float) -> list[str]:
    """The jobs as lines with a heading; `now` is UNIX seconds."""
    rows = [[t(f"jobs.{name}") for name in ("job", "state", "since", "priority", "output")]]
    for job in jobs:
        state = _state(job, now)
        since = words.duration(max(0.0, now - (job["ended_at"] or job["accepted_at"])))
        rows.append([job["id"], state, since, str(job["priority"]), job["output"]])
    return table(rows)


def _state(job: dict[str, Any], now: float) -> str:
    """The stage of an open job, or how long it pauses still; how another one ended."""
    if job["state"] != "open":
        state = words.state(job["state"])
        return t("state.reused", state=state) if (job["outcome"] or {}).get("reused") else state
    last = job.get("last")
    left = words.pause_left(event_from(last), now - last.get("at", now)) if last else None
    return words.state(job["stage"]) if left is None else t("state.pauses", time=words.duration(left))
