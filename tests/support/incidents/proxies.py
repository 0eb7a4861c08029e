"""What does harm between two programs: a pipe that slows down in mid-transfer, a wire that repeats and reorders."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from wakestream.adapters.net.stop_accepting import accept_no_more

QUIET = 0.1
"""Seconds after which no more frames belong to a burst."""

DRIP = 0.3
"""Seconds that each block takes on a line that has slowed down."""

_BUFFER = 65536


@dataclass
class Valve:
    """How many bytes may pass in a direction at full speed; then `reached` is set, and they drip until `open`."""

    left: int | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        """Everything passes from now on."""
        self.left = None
        self.opened.set()

    async def passed(self, count: int) -> None:
        """Returns when so many bytes may pass."""
        if self.left is None:
            return
        self.left -= count
        if self.left <= 0:
            self.reached.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRIP):
                    await self.opened.wait()


@asynccontextmanager
async def pipe(port: int, up: Valve, down: Valve) -> AsyncIterator[str]:
    """Passes on the bytes of TCP connections to a loopback port; gives its own address."""

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", port, limit=_BUFFER)
        except OSError:
            writer.transport.abort()
            return
        pumps = [asyncio.create_task(_pump(*each)) for each in ((reader, there[1], up), (there[0], writer, down))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for each in (writer, there[1]):
            each.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_BUFFER)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await accept_no_more(server)
        server.close()


async def _pump(reader: StreamReader, writer: StreamWriter, valve: Valve) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BUFFER):
            await valve.passed(len(data))
            writer.write(data)
            await writer.drain()


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
