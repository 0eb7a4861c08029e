"""The daemon's local web server: the API behind its guard, on a loopback address only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.api import auth as guard
from wakestream.adapters.daemon.api.requests import MAX_BODY
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.http_server import listening
from wakestream.adapters.net.refusals import counting, noted, quiet_logger
from wakestream.adapters.net.silent_callers import SilentCallers

_GRACE: Final = 1.0
_KEEP_ALIVE: Final = 30.0


def check_loopback(host: str) -> None:
    """`SettingsError` unless only this machine can reach `host`."""
    if not addresses.is_loopback(host):
        raise SettingsError(
            f"--listen: {host} can be reached from other machines; the daemon listens on 127.0.0.1 or [::1] only"
        )


@asynccontextmanager
async def local_server(
    routes: Sequence[web.RouteDef],
    host: str,
    port: int,
    doors: guard.Doors,
    room: Room | None = None,
) -> AsyncIterator[str]:
    """Serve `routes` to whom `doors` let in, until the block ends; gives the address. `OSError` if it is taken."""
    host = "127.0.0.1" if host == "localhost" else host  # which may be two addresses, and two free ports
    refused = noted("daemon")
    # All callers are of this machine, and answered at once: one that waits is not expected to have more to say.
    silent = SilentCallers(refused, room, fresh=0.0)
    allowed: set[str] = set()
    guards = [silent.middleware(), guard.errors_as_json, guard.guard(doors, allowed)]
    app = web.Application(middlewares=guards, client_max_size=MAX_BODY)
    app.add_routes(routes)
    runner = web.AppRunner(
        app,
        access_log_class=counting(refused),
        logger=quiet_logger("daemon"),
        auto_decompress=False,
        shutdown_timeout=_GRACE,
        lingering_time=_GRACE,
        keepalive_timeout=_KEEP_ALIVE,
    )
    async with listening(runner, silent, host, port) as taken:
        allowed |= guard.hosts(taken) | {addresses.at_port(host, taken)}
        yield f"http://{addresses.at_port(host, taken)}"
