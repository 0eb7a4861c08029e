"""Proxies of the incidents: one slows down in mid-transfer, one repeats or reorders the frames of a WebSocket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.faults.fault_proxy import Direction, Fault, FaultProxy, fault_proxy
from tests.support.incidents.scene import Scene
from wakestream.adapters.net.acceptor import accept_no_more

QUIET = 0.1
"""Seconds after which no more frames belong to a burst."""


SLOW = 200_000.0
"""Bytes a second that pass a proxy once it slows down."""


@asynccontextmanager
async def slow_after(scene: Scene, way: Direction, count: int) -> AsyncIterator[FaultProxy]:
    """A proxy before the worker: after `count` bytes in one direction, the next ones pass slowly."""
    async with fault_proxy(scene.worker_port) as proxy, asyncio.TaskGroup() as tasks:
        scene.worker_url = proxy.url()

        async def slow() -> None:
            await proxy.until(lambda proxy: proxy.passed[way] >= count)
            if not proxy.healed:
                proxy.set(**{way: Fault(rate=SLOW)})

        slowing = tasks.create_task(slow())
        yield proxy
        slowing.cancel()


Harm = Literal["twice", "reversed"]


@asynccontextmanager
async def wire(hub: str, harm: Harm) -> AsyncIterator[str]:
    """A WebSocket between a client and the hub that repeats every frame, or turns round each burst of them."""

    async def connected(client: ServerConnection) -> None:
        async with connect(hub, compression=None) as there:
            up = _repeated if harm == "twice" else _plain
            down = _repeated if harm == "twice" else _reversed
            with contextlib.suppress(ConnectionClosed):
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(_until_closed(up(client.recv, there.send), there.close))
                    pumps.create_task(_until_closed(down(there.recv, client.send), client.close))

    async with serve(connected, "127.0.0.1", 0, compression=None) as server:
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/dsp"
        finally:
            await accept_no_more(server)


Receive = Callable[[], Awaitable[Any]]
Pass = Callable[[Any], Awaitable[None]]


async def _until_closed(pump: Awaitable[None], close: Callable[[], Awaitable[None]]) -> None:
    try:
        await pump
    except ConnectionClosed:
        await close()


async def _plain(receive: Receive, send: Pass) -> None:
    while True:
        await send(await receive())


async def _repeated(receive: Receive, send: Pass) -> None:
    while True:
        frame = await receive()
        await send(frame)
        if b'"register"' not in _bytes(frame):  # a second registration gets an error, nothing more
            await send(frame)


async def _reversed(receive: Receive, send: Pass) -> None:
    frame = b""
    while b'"registered"' not in _bytes(frame):
        frame = await receive()
        await send(frame)
    while True:
        burst = [await receive()]
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(QUIET):
                    burst.append(await receive())
        for frame in reversed(burst):
            await send(frame)


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame
