"""The daemon as a whole: journal, outbox, hub link and local API, opened in this order and closed in the other."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.daemon.api.auth import Doors
from wakestream.adapters.daemon.api.routes import Api
from wakestream.adapters.daemon.api.server import check_loopback, local_server
from wakestream.adapters.daemon.console.app import Console
from wakestream.adapters.daemon.console.sessions import keep_port, last_port
from wakestream.adapters.daemon.console.timeline import Timeline
from wakestream.adapters.daemon.console.uploads import QUOTA
from wakestream.adapters.daemon.event_feed import EventFeed
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.result_reuse import ResultReuse
from wakestream.adapters.daemon.webhooks import Webhooks, receiver, telling
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.disk.journal import SqliteJournal, open_journal
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.state_folder import make_private
from wakestream.adapters.net.connection_limits import Room
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.policy import Policy
from wakestream.streams.jobs.daemon_pipeline import DURABLE, LANES, OWN, durable_pipeline, own_pipeline
from wakestream.streams.jobs.job import Build
from wakestream.streams.jobs.turn_stages import LaneLimits, lanes
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.facts import OutboxFact
from wakestream.streams.outbox.state import OPEN_MOST, OutboxState
from wakestream.streams.outbox.webhooks import AGAIN
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Tap, TapPair, untapped

JOURNAL = "outbox.sqlite3"


@dataclass(frozen=True, slots=True)
class OwnPipeline:
    """A pipeline of the user's own, and how `--pipeline` names it."""

    named: str
    build: Build


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What a daemon is told. `state` is its folder, `open_most` how many unfinished jobs it takes, `quota` bytes of the
    console's files, `own` what its jobs go through in place of the standard pipeline, `room` for its callers."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 0
    limits: LaneLimits = field(default_factory=LaneLimits)
    open_most: int = OPEN_MOST
    quota: int = QUOTA
    webhook_again: Backoff = AGAIN
    own: OwnPipeline | None = None
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon at work. `url` is where its API listens."""

    url: str
    outbox: Outbox
    console: Console
    journal: SqliteJournal[OutboxFact]
    webhooks: Webhooks | None = None


@asynccontextmanager
async def running_daemon(
    config: DaemonConfig, settings: Settings, policy: Policy | None = None, watch: Tap = untapped
) -> AsyncIterator[RunningDaemon]:
    """Serve until the block ends; unfinished jobs then stay in the outbox, and go on at the next start.

    `watch` follows what happens to the jobs.

    `SettingsError` for settings that are missing or an address that others can reach, `JournalError` when the journal
    cannot be opened, `OSError` when the address is taken.
    """
    check_loopback(config.host)
    settings.needs_hub()
    settings.needs_key()
    hears = receiver(settings)
    make_private(config.state)
    async with AsyncExitStack() as stack:
        state = OutboxState(open_most=config.open_most, place=path_key)
        path = config.state / JOURNAL
        journal: SqliteJournal[OutboxFact] = await stack.enter_async_context(
            open_journal(path, OutboxFact, program="daemon")
        )
        outbox.DECIDER.recover(journal.read(), state)
        journal.snapshot = lambda: outbox.DECIDER.snapshot(state)
        files = DiskFiles()
        stack.push_async_callback(files.close)
        timeline = Timeline()
        look_back, feed = ResultReuse(state, files), EventFeed(secrets.token_hex(4))
        box = Outbox(journal, state, feed, look_back.tell)
        shared = lanes(config.limits, lambda job: state.jobs[job].accepted.priority)
        build = durable_pipeline(shared, look_back) if config.own is None else own_pipeline(shared, config.own.build)
        client = await stack.enter_async_context(
            open_client(
                settings,
                policy or settings.policy(DURABLE),
                build,
                files=files,
                about=_about(config),
                lasting=True,
                watch=timeline.begin if watch is untapped else lambda header: TapPair(timeline.begin(header), watch),
            )
        )
        token = daemon_address.new_token()
        console = Console(config.state / "console", box, timeline, settings, config.quota)
        api = Api(box, _health(client, settings), console.cards.names)
        routes = [*api.routes(), *console.routes()]
        doors = Doors(token, console.is_open, console.admits)
        url = await _listen(stack, config, lambda port: local_server(routes, config.host, port, doors, config.room))
        await stack.enter_async_context(console.serving())
        stack.callback(feed.close)  # before the server waits for those who follow
        webhooks = None
        if hears is not None:
            state.webhook = True
            webhooks = await stack.enter_async_context(telling(hears, box.settle, config.webhook_again))
            box.on_webhook = webhooks.tell
        await stack.enter_async_context(box.serving(client))
        stack.enter_context(daemon_address.told(config.state, daemon_address.Address(url, token, os.getpid())))
        yield RunningDaemon(url, box, console, journal, webhooks)


def _about(config: DaemonConfig) -> dict[str, Any]:
    """What the header of a recording says of the jobs' pipeline."""
    own = {} if config.own is None else {OWN: config.own.named}
    return {LANES: plain_config(config.limits), **own}


async def _listen(
    stack: AsyncExitStack,
    config: DaemonConfig,
    server: Callable[[int], AbstractAsyncContextManager[str]],
) -> str:
    """Where any port will do, the last one if it is still free: pages that are open then find the program again."""
    port = last_port(config.state)
    if not config.port and port:
        with contextlib.suppress(OSError):
            url = await stack.enter_async_context(server(port))
            keep_port(config.state, port)  # a file of former versions also has a key
            return url
    url = await stack.enter_async_context(server(config.port))
    keep_port(config.state, int(url.rpartition(":")[2]))
    return url


def _health(client: Client, settings: Settings) -> Callable[[], dict[str, Any]]:
    def health() -> dict[str, Any]:
        return {
            "version": version("wakestream"), "pid": os.getpid(), "hub": settings.hub_url, "connected": client.link.up,
            "features": ["lengths"],
        }  # fmt: skip

    return health
