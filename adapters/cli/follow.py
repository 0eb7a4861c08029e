"""Handing a job to a running daemon and following it, with the same display as a job in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection

from loguru import logger

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.base import Display
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.config.settings import WAITS, SettingsError, flag_of
from wakestream.adapters.daemon.api_client import NO_CHAIN, Chain, DaemonClient, DaemonRefused, Lengths
from wakestream.adapters.runtime.tasks import first_of, tasks_of_block
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model.events import Job, JobEvent, Note
from wakestream.streams.recording.event_json import event_from

AGAIN_WITHIN = 3
"""Seconds within which a second Ctrl-C cancels the job."""

THE_DAEMONS = ("worker", "record", "trace", *WAITS.values())
"""Settings of a submit that are the daemon's own to have."""


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
    found = await client.needed() if needed else await client.look()
    if found is None:
        return False
    if hub is not None and found.get("hub") != hub:
        why = f"the daemon of {client.state} serves the hub {found.get('hub')}, not {hub}"
        if needed:
            raise SettingsError(f"{why}; leave the hub out, or start another daemon with --state")
        logger.warning("{}: the job runs here, in the foreground", why)
        return False
    for name in ignored:
        logger.warning("{} is the daemon's to set, and of no effect here", flag_of(name))
    return True


async def hand_over(
    client: DaemonClient,
    job: Job,
    priority: int,
    shown: Display,
    stop: Stop,
    exit_code: Callable[[JobEvent], int],
    lengths: Lengths = (None, None),
    chain: Chain = NO_CHAIN,
    if_exists: str = "fail",
) -> int:
    """Submit to the daemon and follow the job to its end. Ctrl-C leaves it to the daemon; a second one cancels it."""
    await client.submit(job, priority, lengths, chain, if_exists)
    return await follow_or_cancel(client, job.id, shown, stop, exit_code)


async def follow_or_cancel(
    client: DaemonClient, job: str, shown: Display, stop: Stop, exit_code: Callable[[JobEvent], int]
) -> int:
    """Follow a job of the daemon to its end, as `hand_over` does."""
    async with tasks_of_block() as start:
        following = start(follow(client, job, shown))
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


async def follow(client: DaemonClient, job: str, shown: Display) -> JobEvent:
    """Show what happens to a job of the daemon; returns its outcome."""
    async for event, at in job_events(client, job):
        shown.show(event, max(0.0, time.time() - at))
        if is_outcome(event):
            return event
    raise AssertionError("the events of a job end with its outcome")


async def job_events(client: DaemonClient, job: str) -> AsyncIterator[tuple[JobEvent, float]]:
    """The events that this version knows, each with its time in UNIX seconds."""
    async with contextlib.aclosing(client.events(job)) as happened:  # type: ignore[type-var]
        async for plain in happened:
            event = event_from(plain)
            if event is not None:
                yield event, float(plain.get("at") or time.time())
