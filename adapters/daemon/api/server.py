"""The daemon's local web server, on a loopback address only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.api import auth
from wakestream.adapters.daemon.api.requests import MAX_BODY
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.http_server import listening
from wakestream.adapters.net.refusals import noted
from wakestream.adapters.net.silent_callers import SilentCallers

_KEEP_ALIVE: Final = 30.0


def check_loopback(host: str) -> None:
    """`SettingsError` unless only this machine can reach `host`."""
    if not addresses.is_loopback(host):
        raise SettingsError(
            f"--listen: {host} can be reached from other machines; the daemon listens on 127.0.0.1 or [::1] only"
        )


@asynccontextmanager
async def local_server(
    routes: Sequence[web.RouteDef], host: str, port: int, doors: auth.Doors, room: Room | None = None
) -> AsyncIterator[str]:
    """Serve `routes` until the block ends; yields the URL. `doors` authorizes. `OSError` if the address is taken."""
    host = "127.0.0.1" if host == "localhost" else host  # localhost may be two addresses with different free ports
    # All callers are on this machine and send their requests at once, so an idle connection may be closed at any time.
    silent = SilentCallers(noted("daemon"), room, fresh=0.0)
    allowed: set[str] = set()
    middlewares = [silent.middleware(), auth.errors_as_json, auth.guard(doors, allowed)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app.add_routes(routes)
    async with listening(app, "daemon", silent, host, port, keepalive_timeout=_KEEP_ALIVE) as taken:
        allowed |= auth.hosts(taken) | {addresses.at_port(host, taken)}
        yield f"http://{addresses.at_port(host, taken)}"
