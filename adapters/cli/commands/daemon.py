"""`wakestream daemon`: runs jobs from a durable outbox on the user's machine. With `--open`, a page joins the hub."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web
from loguru import logger

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.first_start import CLIENT, hub_and_code, is_first_start
from wakestream.adapters.cli.i18n.catalog import in_chinese, t
from wakestream.adapters.cli.render.job_text import event
from wakestream.adapters.cli.replay import pipeline_option as pipelines
from wakestream.adapters.cli.serve import announce, listening, serve_metrics
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.cli.setup.roles import Joined, join
from wakestream.adapters.config.addresses import is_loopback
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, Doors
from wakestream.adapters.daemon.api.server import check_loopback, local_server
from wakestream.adapters.daemon.console.sessions import address, in_browser, shown
from wakestream.adapters.daemon.console.static_files import Page
from wakestream.adapters.daemon.discovery import folder
from wakestream.adapters.daemon.metrics import DaemonMetrics, JobWatch
from wakestream.adapters.daemon.program import ApiConfig, DaemonConfig, OwnPipeline, running_daemon
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.net.silent_callers import MOST
from wakestream.adapters.net.tls import server_tls
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.runtime.rlimits import connections_allowed
from wakestream.adapters.runtime.tasks import first_of
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.jobs.turn_stages import LaneLimits
from wakestream.streams.recording.recording import untapped

EXAMPLES = (
    "daemon --hub http://hub.example:8765 --key-file client.key",
    "daemon --open --api 127.0.0.1:8399",
    "daemon --watch ~/Videos/incoming",
    "daemon --webhook https://shop.example/hooks/video --log-file daemon.log",
)
DEFAULT_LISTEN = "127.0.0.1:0"

_LANES = {
    "running": "jobs that run at once (default 200); others wait in the outbox",
    "uploads": "jobs that upload at once (default 2)",
    "gpu": "jobs at the worker at once, including its queue (default 8)",
    "downloads": "jobs that download at once (default 2)",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The daemon's own flags."""
    flags.daemon(parser)
    flags.listen(parser, DEFAULT_LISTEN)
    flags.worker_url(parser)
    flags.add(parser, "--open", "open the web console in a browser")
    flags.add(parser, "--console-quota SIZE", "disk limit for files of the web console (default 10GB)", type=flags.size)
    text = "start a job for each pair of a video and an audio file in this folder; the results go to DIR/results"
    flags.add(parser, "--watch DIR", text, type=Path)
    text = "your own pipeline instead of the standard one, or a call that makes it; this folder is searched too"
    pipelines.flag(parser, text)
    for name, help_text in _LANES.items():
        parser.add_argument(f"--max-{name}", metavar="N", type=flags.whole(1, 10_000), help=help_text)
    text = "notify this address when a job is done or failed (WAKESTREAM_WEBHOOK_URL, WAKESTREAM_WEBHOOK_SECRET)"
    flags.add(parser, "--webhook URL", text, dest="webhook_url")
    _api(parser)
    flags.connection(parser)
    flags.probe(parser)
    flags.trace(parser)
    flags.waits(parser)
    flags.program(parser)


def _api(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the API for programs")
    text = "serve an API that clients of Replicate speak, such as 127.0.0.1:8399; `wakestream token add` makes tokens"
    flags.add(group, "--api HOST:PORT", text, type=flags.address)
    flags.add(
        group, "--api-tls FILE", "serve it with TLS: the certificate (chain) and its key in one PEM file", type=Path
    )
    flags.add(group, "--api-insecure", "serve it without TLS also where other machines can reach it")
    text = "a host in the local network that it may call as a webhook; may be repeated"
    flags.add(group, "--api-webhook-host HOST", text, action="append", default=[])
    flags.behind_proxy(group)


def _served_api(args: argparse.Namespace) -> ApiConfig | None:
    """What the flags say of the API. `SettingsError` if other machines could read what it says."""
    if args.api is None:
        return None
    host, port = args.api
    try:
        tls = server_tls(args.api_tls, args.api_tls)
    except SettingsError as error:
        raise SettingsError(f"--api-tls: {str(error).partition(': ')[2]}") from None
    if tls is None and not is_loopback(host) and not args.api_insecure:
        why = f"--api: {host} can be reached from other machines, which could read tokens and files"
        raise SettingsError(f"{why}; give --api-tls FILE, or --api-insecure if a proxy with TLS is in front")
    return ApiConfig(host, port, event, tls, tuple(args.api_webhook_host), tuple(args.behind_proxy))


def run(args: argparse.Namespace) -> int:
    """Serve until the user stops it."""
    settings = begin(args)
    first = args.open and is_first_start(settings, args.state)
    host, port = flags.listen_on(settings, DEFAULT_LISTEN)
    given = {name: value for name in _LANES if (value := getattr(args, f"max_{name}")) is not None}
    quota = {} if args.console_quota is None else {"quota": args.console_quota}
    lanes, own = LaneLimits(**given), _own(args.pipeline)
    watch = None if args.watch is None else args.watch.expanduser().absolute()
    connections_allowed(2 * MOST)  # of jobs and pages, each with a file
    api = _served_api(args)
    config = DaemonConfig(
        folder(args.state), host, port, lanes, own=own, watch=watch, api=api, chinese=in_chinese, **quota
    )

    async def main(stop: asyncio.Event) -> None:
        current = settings
        if first:
            with listening(host, port):
                hub = await joined_on_page(config.state, host, port, stop)
            if hub is None:  # the user stops it
                return
            say(t("first.joined", hub=hub))
            current = begin(args)
        async with AsyncExitStack() as stack:
            watch = JobWatch() if current.metrics is not None else None
            with listening(config.host, config.port):
                daemon = await stack.enter_async_context(running_daemon(config, current, watch=watch or untapped))
            if current.metrics is not None and watch is not None:
                await serve_metrics(stack, current.metrics, DaemonMetrics(daemon, watch, config.state))
            announce("daemon", daemon.url)
            if daemon.api_url:
                say(t("api.listening", url=daemon.api_url))
            stack.enter_context(shown(config.state, daemon.url, daemon.console.sessions.new_link, browser=args.open))
            await stop.wait()

    return run_program(main, exit_with_stdin=args.exit_with_stdin)


def _own(named: str | None) -> OwnPipeline | None:
    """The user's pipeline; `SettingsError` if there is no such pipeline."""
    if named is None:
        return None

    try:
        build = pipelines.pipeline(named)()
    except pipelines.NoPipeline as error:
        raise SettingsError(str(error)) from None
    logger.info("the jobs go through the pipeline {}", named)
    return OwnPipeline(named, build)


async def joined_on_page(state: Path, host: str, port: int, stop: asyncio.Event) -> str | None:
    """Show the page until a hub was joined on it; returns the hub's address, or None if the user stops the program.

    Args:
        state: The folder of the daemon that comes next. It gets the same port.
        host: The address to listen on.
        port: The port; 0 for that of the last daemon, or any.
        stop: Set when the user asks to stop.

    Raises:
        SettingsError: Other machines can reach the address.
        OSError: The address is in use.
    """
    check_loopback(host)
    prepare_state(state)
    page = _SetUp()
    doors = Doors(page.token, lambda request: request.path in page.files)
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(local_server(page.routes(), host, port, doors, state))
        link = address(url, page.token)
        say(t("first.page", url=link), t("first.page.or"))
        in_browser(state, link)
        await first_of(stop.wait(), page.done.wait())
        return page.hub if page.done.is_set() else None


class _SetUp:
    """The page's files and its one call, for those who have the link's token."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self.files = Page("wakestream.adapters.cli.setup")
        self.done = asyncio.Event()
        self.hub = ""
        self._turn = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [*self.files.routes(), web.post("/setup/join", self.join)]

    async def join(self, request: web.Request) -> web.Response:
        """Join the hub of the pasted line; 400 with the reason if that is not possible."""
        body = await requests.json_object(request)
        async with self._turn:
            if not self.done.is_set():
                self.hub = (await _joined(body)).paired.hub_url
                self.done.set()
        return web.json_response({"hub": self.hub})


async def _joined(body: dict[str, Any]) -> Joined:
    try:
        return await join(*hub_and_code(str(body.get("line", ""))[:500]), lambda _: {}, only=CLIENT)
    except WakestreamError as error:
        why = in_chinese(str(error)) if body.get("lang") == "zh" else None
        raise ApiError(400, error.code, why or str(error)) from None
