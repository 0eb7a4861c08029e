"""The daemon: journal, outbox, hub connection and local API, opened in this order and closed in reverse."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from aiohttp import web
from loguru import logger

from wakestream.adapters.client.client import open_client
from wakestream.adapters.client.hub_query import ask
from wakestream.adapters.config.addresses import at_port
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api.auth import Doors
from wakestream.adapters.daemon.api.routes import Api
from wakestream.adapters.daemon.api.server import check_loopback, local_server
from wakestream.adapters.daemon.console import preferences
from wakestream.adapters.daemon.console.app import Console
from wakestream.adapters.daemon.console.timeline import Timeline
from wakestream.adapters.daemon.console.uploads import QUOTA
from wakestream.adapters.daemon.discovery import Address, announced
from wakestream.adapters.daemon.event_feed import EventFeed
from wakestream.adapters.daemon.folder_watch import FolderWatch
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.previews import Previews
from wakestream.adapters.daemon.replicate.api import Api as Programs
from wakestream.adapters.daemon.replicate.hooks import Hooks
from wakestream.adapters.daemon.replicate.http import BODY_MOST, guard
from wakestream.adapters.daemon.replicate.predictions import Predictions
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.daemon.result_reuse import ResultReuse
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.net.connection_limits import Network, Proxies
from wakestream.adapters.net.http_server import listening
from wakestream.adapters.net.silent_callers import SilentCallers
from wakestream.adapters.net.tls import ServerTls, client_context
from wakestream.adapters.net.webhooks import Webhooks, receiver, telling
from wakestream.adapters.runtime.gc_tuning import MANY_JOBS, few_collections
from wakestream.adapters.runtime.tasks import supervised
from wakestream.operators.model.events import JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.streams.jobs.daemon_pipeline import DURABLE, LANES, OWN, durable_pipeline, own_pipeline
from wakestream.streams.jobs.turn_stages import LaneLimits, Lanes
from wakestream.streams.jobs.world import Build
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.facts import OutboxFact
from wakestream.streams.outbox.state import OutboxState
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Tap, TapPair, untapped
from wakestream.streams.webhooks import WebhookOwed

JOURNAL = "outbox.sqlite3"


@dataclass(frozen=True, slots=True)
class OwnPipeline:
    """A user's pipeline and its name in `--pipeline`."""

    named: str
    build: Build


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Settings of the API for programs."""

    host: str
    port: int
    text: Callable[[JobEvent], str]
    """Makes the line of an event in a prediction's log."""
    tls: ServerTls | None = None
    webhook_hosts: tuple[str, ...] = ()
    """Hosts of webhooks that may be in a local network."""
    proxies: tuple[Network, ...] = ()
    """Are trusted to say for whom they call."""


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Settings of a daemon."""

    state: Path
    """Its folder."""
    host: str = "127.0.0.1"
    """The address of its API."""
    port: int = 0
    """The port of its API; 0: a free one."""
    limits: LaneLimits = field(default_factory=LaneLimits)
    """How many jobs may do each thing at once."""
    quota: int = QUOTA
    """How many bytes the console's files may have."""
    own: OwnPipeline | None = None
    """Replaces the standard pipeline."""
    watch: Path | None = None
    """A folder whose pairs of files become jobs."""
    api: ApiConfig | None = None
    """Settings of the API for programs; None: the daemon does not serve it."""
    chinese: Callable[[str], str | None] = lambda _: None
    """Translates a sentence for the page; None if it cannot."""


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A running daemon. `url` is the address of its API, `api_url` that of the API for programs."""

    url: str
    outbox: Outbox
    console: Console
    journal: StoredJournal[OutboxFact]
    previews: Previews
    webhooks: Webhooks | None = None
    api_url: str = ""


@asynccontextmanager
async def running_daemon(
    config: DaemonConfig, settings: Settings, policy: Policy | None = None, watch: Tap = untapped
) -> AsyncIterator[RunningDaemon]:
    """Serve until the block ends. Unfinished jobs stay in the outbox and continue at the next start.

    Args:
        config: The settings of the daemon.
        settings: The settings of the user.
        policy: The time limits of jobs.
        watch: Receives what happens to the jobs.

    Raises:
        SettingsError: a setting is missing, or other machines can reach the address.
        JournalError: the journal cannot be opened.
        OSError: the address is in use.
    """
    check_loopback(config.host)
    settings.needs_hub()
    settings.needs_key()
    to = receiver("webhook_url", settings)
    prepare_state(config.state)
    at_once_most, config = config.limits.running, _preferred(config)
    async with AsyncExitStack() as stack:
        state = OutboxState(place=path_key)
        journal: StoredJournal[OutboxFact] = await stack.enter_async_context(
            open_journal(config.state / JOURNAL, OutboxFact, program="daemon")
        )
        outbox.DECIDER.recover(journal.read(), state, journal.restore())
        files = DiskFiles()
        stack.push_async_callback(files.close)
        timeline = Timeline()
        reuse, feed = ResultReuse(state, files), EventFeed(secrets.token_hex(4))
        box = Outbox(journal, state, feed, reuse.tell)
        kinds = DaemonKinds(settings.needs_hub(), config.state)
        box.hidden = kinds.hidden
        jobs, own = state.jobs, config.own
        shared = Lanes(config.limits, lambda job: jobs[job].accepted.priority, lambda job: jobs[job].stage is not None)
        client = await stack.enter_async_context(
            open_client(
                settings,
                policy or settings.policy(DURABLE),
                durable_pipeline(shared, reuse) if own is None else own_pipeline(shared, own.build),
                files=files,
                about={LANES: plain_config(config.limits)} | ({} if own is None else {OWN: own.named}),
                lasting=True,
                secrets=kinds.secrets,
                watch=timeline.begin if watch is untapped else lambda header: TapPair(timeline.begin(header), watch),
            )
        )
        folder, link = config.state / "console", client.link
        console = Console(
            folder, box, timeline, link, config.quota, kinds, at_once_most, config.chinese, probe=settings.probe
        )
        stack.push_async_callback(kinds.close)
        stack.callback(kinds.follow(link).dispose)
        box.on_settled = lambda: kinds.secrets.keep(chain(box.params(), console.waiting_params))
        box.on_settled()

        def health() -> dict[str, Any]:
            features = (
                "lengths", "kinds", "costs", "wake_to_ask", "gpus", "hub", "again", "estimate", "rerun", "batch",
                "requires", "records", "previews",
            )  # fmt: skip
            return {
                "version": version("wakestream"), "pid": os.getpid(), "hub": settings.hub_url,
                "connected": link.up, "features": features, "hub_features": sorted(console.gpu.features),
            }  # fmt: skip

        def ended(job: str) -> None:
            reuse.tell(job)
            console.records.due(job)

        box.on_ended = ended
        api = Api(
            box,
            health,
            console.cards.names,
            kinds,
            lambda: console.costs.by_job(wait=link.up),
            console.records.of,
            partial(ask, link),
        )
        previews = Previews(state, client)
        stack.push_async_callback(previews.close)
        token, routes = secrets.token_urlsafe(32), [*api.routes(), *previews.routes(), *console.routes()]
        doors = Doors(token, console.is_open, console.admits)
        url = await stack.enter_async_context(local_server(routes, config.host, config.port, doors, config.state))
        await stack.enter_async_context(console.serving())
        webhooks = None
        if to is not None:
            state.webhook = True
            webhooks = await stack.enter_async_context(telling(to, box.report_webhook))
            box.on_webhook = partial(_tell, webhooks)
        programs, api_url = None, ""
        if config.api is not None:
            programs, api_url = await stack.enter_async_context(
                for_programs(config, config.api, box, console, settings, previews)
            )
        stack.callback(feed.close)  # before the servers wait for their event streams
        await stack.enter_async_context(box.serving(client))
        tasks = await stack.enter_async_context(supervised("the daemon"))
        if programs is not None and config.api is not None:
            tasks.keeps("the deadlines of predictions", programs.keep_deadlines)
            tasks.keeps("the webhooks of programs", programs.hooks.run)
            tasks.keeps("the removal of files of programs", programs.tidy)
            if config.api.tls is not None:
                tasks.keeps("the certificate", config.api.tls.watch)
        tasks.keeps("the console's waiting jobs", console.calls.go_on)
        if config.watch is not None:
            tasks.keeps("--watch", FolderWatch(config.watch, config.state, box, settings.probe).run)
        stack.enter_context(announced(config.state, Address(url, token, os.getpid())))
        stack.enter_context(few_collections(*MANY_JOBS))
        yield RunningDaemon(url, box, console, journal, previews, webhooks, api_url)


def _tell(webhooks: Webhooks, owed: WebhookOwed) -> None:
    """Deliver a webhook; those without news are for programs, and wait until their API is served again."""
    if owed.news:
        webhooks.tell(owed)


@asynccontextmanager
async def for_programs(
    config: DaemonConfig, asked: ApiConfig, box: Outbox, console: Console, settings: Settings, previews: Previews
) -> AsyncIterator[tuple[Programs, str]]:
    """Serve the API for programs while the block runs; yields it and its address."""
    tokens, predictions, ours = Tokens(config.state), Predictions(box, console, asked.text), box.on_webhook
    hooks = Hooks(box, predictions, tokens, asked.webhook_hosts, client_context(settings.ca))
    programs = Programs(box, console, predictions, tokens, hooks, previews)
    async with AsyncExitStack() as stack:
        hooks.webhooks = await stack.enter_async_context(
            aclosing(Webhooks(hooks.post, box.report_webhook, whose=hooks.whose))
        )
        box.on_webhook = lambda owed: ours(owed) if owed.news else hooks.webhooks.tell(owed)
        console.costs.always = True
        silent = SilentCallers(proxies=Proxies(asked.proxies))
        app = web.Application(middlewares=[guard(tokens)], client_max_size=BODY_MOST)
        app.add_routes(programs.routes())
        tls = None if asked.tls is None else asked.tls.context
        try:
            port = await stack.enter_async_context(listening(app, "api", silent, asked.host, asked.port, tls=tls))
        except OSError as error:
            raise SettingsError(f"--api: {error.strerror or error}; choose another address") from None
        yield programs, f"http{'s' if tls else ''}://{at_port(asked.host, port)}"


def _preferred(config: DaemonConfig) -> DaemonConfig:
    """The settings with what the user chose on the page: a recording has the limits that the jobs ran with."""
    wanted, most = preferences.load(config.state).at_once, config.limits.running
    if not wanted:
        return config
    at_once = min(wanted, most)
    logger.info("the settings of the web console say {} jobs at a time, --max-running says {}", wanted, most)
    return replace(config, limits=replace(config.limits, running=at_once))
