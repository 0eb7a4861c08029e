"""A hub with keys of each role, and raw peers that speak its wire: what several tests of the hub share."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from wakestream.adapters.disk.documents import Documents
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.front import Front, FrontConfig, open_front
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub import events as f

WITHIN = 30.0
Frame = dict[str, Any]


class Peer:
    """One connection, speaking JSON frames as the field does."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.fd = 0

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def get(self) -> Frame:
        async with asyncio.timeout(WITHIN):
            frame = json.loads(await self.socket.recv())
        assert isinstance(frame, dict)
        return frame

    async def ask(self, **frame: Any) -> Frame:
        await self.send(**frame)
        return await self.get()

    async def first(self, *kinds: str) -> Frame:
        """The next frame of one of these types."""
        while (frame := await self.get()).get("type") not in kinds:
            pass
        return frame

    async def silent(self) -> None:
        """Nothing was sent to this peer before the answer to a ping."""
        assert await self.ask(type="ping") == {"type": "pong"}

    async def closed(self) -> int | None:
        async with asyncio.timeout(WITHIN):
            await self.socket.wait_closed()
        return self.socket.close_code


class Place:
    """A state folder with a key of each role, and the peers of one test, which come to a front if it is `fronted`."""

    def __init__(self, state: Path | Documents, stack: contextlib.AsyncExitStack, *, fronted: bool = False) -> None:
        self.book = LicenseBook(state)
        self.keys = {role: self.book.issue(role, "", 0.0)[1] for role in ("client", "worker", "monitor", "front")}
        self.stack = stack
        self.url = ""
        self.fronted = fronted

    async def hub(self, **options: Any) -> HubServer:
        journal = options.pop("journal", None) or FakeJournal[f.Fact]()
        running = await self.stack.enter_async_context(
            open_hub(HubConfig(LicenseBook(self.book.path.parent), port=options.pop("port", 0), **options), journal)
        )
        self.url = running.url
        if self.fronted:
            room = {"room": options["room"]} if "room" in options else {}
            await self.front(running.url, per_address=running.state.limits.per_address, **room)
        return running

    async def front(self, *hubs: str, key: str | None = None, **options: Any) -> Front:
        """A front of these hubs, once it is connected; the peers then come to it."""
        config = FrontConfig(
            ",".join(hubs), key or self.keys["front"], **{"per_address": 500, "room": Room(1000, 500)} | options
        )
        front = await self.stack.enter_async_context(open_front(config))
        self.url = front.url
        async with asyncio.timeout(WITHIN):
            await front.connected.wait()
        return front

    async def connect(self, url: str | None = None, **options: Any) -> Peer:
        options = {"compression": None, "max_size": None, "max_queue": None} | options
        peer = Peer(await self.stack.enter_async_context(connect(url or self.url, **options)))
        connected = await peer.get()
        assert connected["type"] == "connected"
        peer.fd = connected["fd"]
        return peer

    async def client(self, key: str | None = None) -> Peer:
        peer = await self.connect()
        assert (await peer.ask(type="register", key=key or self.keys["client"]))["type"] == "registered"
        return peer

    async def worker(self, gpu: str = "gpu") -> Peer:
        peer = await self.connect()
        answer = await peer.ask(type="register", role="worker", token=self.keys["worker"], gpu=gpu, url="http://w:1")
        assert answer["type"] == "registered"
        return peer

    async def monitor(self, *gpus: str) -> Peer:
        peer = await self.connect()
        answer = await peer.ask(type="register", role="gpu_monitor", token=self.keys["monitor"], gpus=list(gpus))
        assert answer["type"] == "registered"
        return peer


class FirstHandshake(float):
    """A limit for handshakes: so many seconds for the first one, and 100 for others. `used`: the first has begun."""

    used = False

    def __radd__(self, now: float) -> float:
        seconds, self.used = 100.0 if self.used else float(self), True
        return now + seconds


ONLINE = {
    "type": "gpu.power.online",
    "version": "1.0",
    "source": "gpu",
    "target": "client",
    "data": {"status": "online"},
}
