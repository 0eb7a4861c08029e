"""Asks the hub, with the user's own key or through the running daemon, which has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from wakestream.adapters.client.hub_query import Answer, Query, ask_hub, hub_statuses
from wakestream.adapters.client.hub_query import order as order_once
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, open_daemon_client
from wakestream.operators.model.ports import LinkDown
from wakestream.streams.protocol import messages as m

State = Path | str | None
"""The daemon's folder; None for the usual one."""


@asynccontextmanager
async def daemon_or_key(settings: Settings, state: State) -> AsyncIterator[tuple[Settings, DaemonClient | None]]:
    """Who asks the hub: without a key of the user's own, the running daemon.

    Args:
        settings: May name a hub and a key.
        state: The daemon's folder.

    Yields:
        The settings, with the daemon's hub if they name none, and the daemon if it has to ask.

    Raises:
        SettingsError: There is no key, and no daemon of this hub runs.
    """
    async with open_daemon_client(state) as client:
        health = None if settings.key is not None and settings.hub_url is not None else await client.look()
        if health is not None and addresses.serves(health.get("hub"), settings.hub_url):
            settings = replace(settings, hub_url=health.get("hub"))
            if settings.key is None and client.asks_hub:
                yield settings, client
                return
        settings.needs_hub()
        settings.needs_key()
        yield settings, None


async def hub_status(
    settings: Settings,
    state: State,
    since: int | None = None,
    *,
    costs: bool = False,
    history: tuple[int, int] | None = None,
) -> m.HubStatus:
    """The hub's status.

    Args:
        settings: May name a hub and a key.
        state: The daemon's folder.
        since: UNIX seconds; asks for the costs from that day on as well.
        costs: Asks for the costs by day, job and license, too.
        history: Asks for the arrivals of jobs from this day and job on, too.

    Raises:
        SettingsError: There is no key, and no daemon of this hub runs.
        HubError: The hub does not answer, refuses, or is too old.
        DaemonRefused: The daemon could not ask the hub; `code` says why.
    """
    async with daemon_or_key(settings, state) as (found, daemon):
        if daemon is None:
            return await ask_hub(found, since, costs=costs, history=history)
        query = m.HubStatusQuery(request_id="-", since=since, costs=costs or None, history=history)
        return await daemon.ask_hub(query, m.HubStatus)


async def order(settings: Settings, state: State, wanted: Query, kind: type[Answer]) -> Answer:
    """Give the hub an order; `kind` is the type of its answer. Other arguments and errors are those of `hub_status`."""
    async with daemon_or_key(settings, state) as (found, daemon):
        return await (order_once(found, wanted, kind) if daemon is None else daemon.ask_hub(wanted, kind))


async def statuses(settings: Settings, state: State, every: float) -> AsyncGenerator[m.HubStatus | LinkDown, None]:
    """The hub's status again and again.

    Args:
        settings: May name a hub and a key.
        state: The daemon's folder.
        every: Seconds between two questions.

    Yields:
        Each answer, and each failure to get one.

    Raises:
        SettingsError: There is no key, and no daemon of this hub runs.
        HubRefused: The hub refuses the connection, or is too old for this question.
    """
    async with daemon_or_key(settings, state) as (found, daemon):
        if daemon is None:
            async with aclosing(hub_statuses(found, every)) as answers:
                async for told in answers:
                    yield told
        while daemon is not None:
            try:
                yield await daemon.ask_hub(m.HubStatusQuery(request_id="-"), m.HubStatus)
            except DaemonRefused as refused:
                if refused.code != "hub_unreachable":
                    raise
                yield LinkDown(str(refused))
            await asyncio.sleep(every)
