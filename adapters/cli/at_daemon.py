"""What commands ask of the daemon of the user, once or for each of several jobs."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.render.job_text import reason
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import LIST_MOST, DaemonClient, DaemonRefused, open_daemon_client
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.recording.event_json import plain_text


def run_at_daemon(
    args: argparse.Namespace, ask: Callable[[DaemonClient, argparse.Namespace], Coroutine[Any, Any, int]]
) -> int:
    """Run what asks the daemon of `--state`; returns its exit code."""

    async def asking() -> int:
        async with open_daemon_client(args.state) as client:
            return await ask(client, args)

    begin(args)
    return run_program(lambda _: asking())


async def listed(client: DaemonClient, state: str) -> dict[str, dict[str, Any]]:
    """All jobs of a state (or group of states) by id, the newest first."""
    await client.needed()
    jobs, older = await client.jobs(state, LIST_MOST)
    while older > 0:
        more, older = await client.jobs(state, LIST_MOST, len(jobs))
        jobs += more
    return {job["id"]: job for job in jobs}  # a job that came between two pages moves one into the next page too


async def for_each(args: argparse.Namespace, ask: Callable[[str], Awaitable[None]]) -> int:
    """Ask the daemon about each job of the arguments; 1 if it refuses one of them."""
    status = exit_codes.DONE
    for job in args.jobs:
        try:
            await ask(job)
        except DaemonRefused as error:
            status = exit_codes.FAILED
            refused(job, error, as_json=args.json)
    return status


def refused(job: str, error: WakestreamError, *, as_json: bool) -> int:
    """Say why a job was not accepted, or not changed; returns the exit code for that."""
    if as_json:
        say_json({"job": plain_text(job), "code": error.code, "error": plain_text(str(error))})
    else:
        say(f"wakestream: {reason(error.code, str(error))}", error=True)
    return exit_codes.of_word(error.code)
