"""What commands ask of the daemon of the user: once, for each of several jobs, or about a job until it has ended."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from typing import Any

from loguru import logger

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.display import Display
from wakestream.adapters.cli.render.job_text import reason
from wakestream.adapters.cli.service import Stop, begin, run_program
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import WAITS, SettingsError, flag_of
from wakestream.adapters.daemon.api_client import LIST_MOST, DaemonClient, DaemonRefused, open_daemon_client
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.adapters.runtime.tasks import first_of, tasks_of_block
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Cancelled, Done, Failed, JobEvent, Note, Stored, TimedOut
from wakestream.streams.recording.event_json import event_from, plain_text

AGAIN_WITHIN = 3
"""Seconds within which a second Ctrl-C cancels the job."""

THE_DAEMONS = ("worker", "record", "trace", *WAITS.values())
"""Settings of a submit that are the daemon's own to have."""


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


def daemons_own(args: argparse.Namespace) -> tuple[str, ...]:
    """The settings among the arguments of a submit that a daemon does not take from a job."""
    return tuple(name for name in THE_DAEMONS if getattr(args, name) is not None)


async def daemon_for(client: DaemonClient, hub: str | None, *, needed: bool, ignored: Collection[str]) -> bool:
    """Whether a daemon runs that can take this user's job.

    Args:
        client: Looks for the daemon.
        hub: The user's hub; None for that of the daemon.
        needed: The job must not run in the foreground instead.
        ignored: The names of settings that the user gave and that the daemon does not take from a job.

    Raises:
        DaemonUnreachable: one is needed, and none runs.
        SettingsError: one is needed, and it serves another hub.
    """
    health = await client.needed() if needed else await client.look()
    if health is None:
        return False
    if not addresses.serves(health.get("hub"), hub):
        why = f"the daemon of {client.state} serves the hub {health.get('hub')}, not {hub}"
        if needed:
            raise SettingsError(f"{why}; leave the hub out, or start another daemon with --state")
        logger.warning("{}: the job runs here, in the foreground", why)
        return False
    for name in ignored:
        logger.warning("{} is the daemon's to set, and of no effect here", flag_of(name))
    return True


async def follow_or_cancel(client: DaemonClient, job: str, shown: Display, stop: Stop, *, leave: bool = False) -> int:
    """Follow a job of the daemon to its end. Ctrl-C leaves it to the daemon; a second one cancels it.

    With `leave` it is followed until its files are in the depot.
    """
    async with tasks_of_block() as start:
        following = start(follow(client, job, shown, leave=leave))
        await first_of(stop.wait(), following)
        if stop.interrupted and not following.done():
            stop.again = asyncio.Event()
            shown.show(Note(t("leaving", seconds=AGAIN_WITHIN)))
            await first_of(stop.again.wait(), asyncio.sleep(AGAIN_WITHIN), following)
        if stop.cancels and not following.done():
            shown.show(Note(t("cancelling")))
            try:
                await client.cancel(job)
            except DaemonRefused as error:
                if error.code != "ended":  # it was faster
                    raise
        elif not following.done():
            logger.info("job {} goes on in the daemon; `wakestream watch {}` follows it", job, job)
            return exit_codes.INTERRUPTED
        return exit_code(await following)


async def follow(client: DaemonClient, job: str, shown: Display, *, leave: bool = False) -> JobEvent:
    """Show what happens to a job of the daemon; returns its outcome, or with `leave` also `Stored`."""
    async for event, at in job_events(client, job):
        shown.show(event, max(0.0, time.time() - at))
        if is_outcome(event) or (leave and isinstance(event, Stored)):
            return event
    raise AssertionError("the events of a job end with its outcome")


async def job_events(client: DaemonClient, job: str) -> AsyncIterator[tuple[JobEvent, float]]:
    """The events that this version knows, each with its time in UNIX seconds."""
    async with contextlib.aclosing(client.events(job)) as happened:  # type: ignore[type-var]
        async for plain in happened:
            event = event_from(plain)
            if event is not None:
                yield event, float(plain.get("at") or time.time())


def exit_code(outcome: JobEvent) -> int:
    """The exit code of a job's outcome."""
    match outcome:
        case Done() | Stored():
            return exit_codes.DONE
        case TimedOut():
            return exit_codes.TIMED_OUT
        case Cancelled():
            return exit_codes.INTERRUPTED
        case Failed():
            return exit_codes.of_word(outcome.code)
        case _:
            return exit_codes.FAILED
