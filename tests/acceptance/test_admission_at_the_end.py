"""A connection accepted while a server closes is closed too, with a reason; none stays open without an owner.

That is of plain connections: who is in the middle of a TLS handshake is let go when the time for that is over.
"""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiohttp import web
from yarl import URL

from tests.support.programs.our_peers import Joining, Place
from wakestream.adapters.daemon.api.auth import Doors
from wakestream.adapters.daemon.api.server import local_server
from wakestream.adapters.telemetry.metrics_server import metrics_listener

LOOPBACK = ("127.0.0.1", 0)


@asynccontextmanager
async def hub(place: Place) -> AsyncIterator[str]:
    async with place.hub() as running:
        yield running.url


@asynccontextmanager
async def worker(place: Place) -> AsyncIterator[str]:
    async with place.hub(), place.worker(Joining()) as running:
        yield running.address


def metrics(_: Place) -> AbstractAsyncContextManager[str]:
    return metrics_listener(LOOPBACK, list)


def console(place: Place) -> AbstractAsyncContextManager[str]:
    return local_server(list[web.RouteDef](), *LOOPBACK, Doors("token"), place.folder)


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("server", [hub, worker, metrics, console])
async def test_a_late_connection_is_closed(
    place: Place, server: Callable[[Place], AbstractAsyncContextManager[str]], turns: int
) -> None:
    async with server(place) as url:
        at = URL(url)
        caller = socket.create_connection((at.host, at.port))  # blocks: the server's loop has not turned since
        for _ in range(turns):
            await asyncio.sleep(0)
    with caller:
        caller.setblocking(False)
        async with asyncio.timeout(100):
            with contextlib.suppress(ConnectionResetError):
                while await asyncio.get_running_loop().sock_recv(caller, 1024):
                    pass
    gc.collect()  # which tells of what was left open
