"""The page that `wakestream daemon --open` shows where no hub is set: paste a code, try the demo, or read."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Any

from aiohttp import web

from wakestream.adapters.cli.first_start import CLIENT, hub_and_code
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.i18n.catalog import in_chinese
from wakestream.adapters.cli.setup.joining import Joined, join
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, Doors
from wakestream.adapters.daemon.api.server import check_loopback, local_server
from wakestream.adapters.daemon.console.open_browser import address, in_browser
from wakestream.adapters.daemon.console.sessions import keep_port, last_port
from wakestream.adapters.daemon.console.static_files import Page
from wakestream.adapters.disk.state_folder import make_private
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.runtime.tasks import first_of
from wakestream.operators.model.errors import WakestreamError


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
    make_private(state)
    page = _SetUp()
    doors = Doors(page.token, lambda request: request.path in page.files)
    async with contextlib.AsyncExitStack() as stack:
        url = await _served(stack, page, doors, host, port, state)
        keep_port(state, int(url.rpartition(":")[2]))
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


async def _served(
    stack: contextlib.AsyncExitStack, page: _SetUp, doors: Doors, host: str, port: int, state: Path
) -> str:
    before = last_port(state)
    if not port and before:
        with contextlib.suppress(OSError):
            return await stack.enter_async_context(local_server(page.routes(), host, before, doors))
    return await stack.enter_async_context(local_server(page.routes(), host, port, doors))
