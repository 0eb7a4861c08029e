"""The daemon's local web server, on a loopback address only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.api import auth
from wakestream.adapters.daemon.api.requests import MAX_BODY
from wakestream.adapters.daemon.discovery import keep_port, last_port
from wakestream.adapters.net.http_server import listening

_KEEP_ALIVE: Final = 30.0


def check_loopback(host: str) -> None:
    """`SettingsError` unless only this machine can reach `host`."""
    if not addresses.is_loopback(host):
        raise SettingsError(
            f"--listen: {host} can be reached from other machines; the daemon listens on 127.0.0.1 or [::1] only"
        )


@asynccontextmanager
async def local_server(
    routes: Sequence[web.RouteDef], host: str, port: int, doors: auth.Doors, state: Path
) -> AsyncIterator[str]:
    """Serve `routes` until the block ends; yields the URL. `doors` authorizes. `OSError` if the address is taken.

    Without a `port` it uses the last one of the daemon in the folder `state` if it is free, so that pages reconnect.
    """
    host = "127.0.0.1" if host == "localhost" else host  # localhost may be two addresses with different free ports
    allowed: set[str] = set()

    def served(port: int) -> AbstractAsyncContextManager[int]:
        app = web.Application(middlewares=[auth.errors_as_json, auth.guard(doors, allowed)], client_max_size=MAX_BODY)
        app.add_routes(routes)
        return listening(app, "daemon", None, host, port, keepalive_timeout=_KEEP_ALIVE)

    async with AsyncExitStack() as stack:
        taken = 0
        with suppress(OSError):
            taken = 0 if port or not last_port(state) else await stack.enter_async_context(served(last_port(state)))
        taken = taken or await stack.enter_async_context(served(port))
        keep_port(state, taken)
        allowed |= auth.hosts(taken) | {addresses.at_port(host, taken)}
        yield f"http://{addresses.at_port(host, taken)}"
