"""How the deployed parts hold their connection to a hub: JSON text frames at `/dsp`, and a new try after each loss."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

Frame = dict[str, Any]


class Watched:
    """Something whose changes a test can wait for."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()

    def changed(self) -> None:
        """Wake all who wait in `until`."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when `holds()` is true; looked at after each change."""
        while not holds():
            await self._moved.wait()


class HubLine(Watched):
    """A connection that opens again after each loss; `heard` and `said` are all its frames.

    `pauses` are the seconds before the next try; the first one again once a connection had been open.
    """

    def __init__(
        self,
        api_server_url: str,
        opened: Callable[[HubLine], Awaitable[None]],
        hear: Callable[[Frame], Awaitable[None]],
        *,
        pauses: Sequence[float] = (5.0, 10.0, 20.0, 30.0),
        ping_every: float | None = None,
        origin: str | None = None,
    ) -> None:
        super().__init__()
        self.url = api_server_url.replace("http", "ws", 1).rstrip("/").removesuffix("/dsp") + "/dsp"
        self.heard: list[Frame] = []
        self.said: list[Frame] = []
        self.socket: ClientConnection | None = None
        self._opened, self._hear = opened, hear
        self._pauses, self._ping_every, self._origin = pauses, ping_every, origin

    async def say(self, frame: Frame) -> None:
        """Send one frame; lost without a word while there is no connection."""
        if self.socket is None:
            return
        with suppress(ConnectionClosed):
            await self.socket.send(orjson.dumps(frame).decode())
            self.said.append(frame)
            self.changed()

    async def drop(self) -> None:
        """End the connection as a failing network would."""
        if self.socket is not None:
            self.socket.transport.abort()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[HubLine]:
        """Hold the connection within this block, which begins when the hub has registered this peer."""
        task = asyncio.create_task(self._keep(), name="hub-line")
        try:
            await self.until(lambda: any(frame["type"] == "registered" for frame in self.heard))
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self) -> None:
        tries = 0
        while True:
            with suppress(OSError, WebSocketException, TimeoutError):
                async with connect(
                    self.url, origin=self._origin, compression=None, ping_interval=None, close_timeout=0.2, proxy=None
                ) as socket:
                    tries = 0
                    await self._talk(socket)
            self.socket = None
            self.changed()
            await asyncio.sleep(self._pauses[min(tries, len(self._pauses) - 1)])
            tries += 1

    async def _talk(self, socket: ClientConnection) -> None:
        self.socket = socket
        await self._opened(self)
        pings = asyncio.create_task(self._ping())
        try:
            async for raw in socket:
                frame = orjson.loads(raw)
                self.heard.append(frame)
                self.changed()
                await self._hear(frame)
        finally:
            pings.cancel()

    async def _ping(self) -> None:
        for _ in itertools.count():
            if self._ping_every is None:
                return
            await asyncio.sleep(self._ping_every)
            await self.say({"type": "ping"})
