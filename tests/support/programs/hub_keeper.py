"""A user who runs a hub that can be started again at the same address."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.programs.client_scene import Running, User
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.protocol import messages as m


class Keeper:
    """A user who runs a hub in a folder, and has a key of each role."""

    def __init__(self, user: User, folder: Path) -> None:
        self.user, self.folder = user, folder
        book = LicenseBook(folder)
        self.keys = {role: book.issue(role, "", time.time())[1] for role in ("client", "worker", "monitor")}
        self.listen = "127.0.0.1:0"

    @asynccontextmanager
    async def hub(self) -> AsyncIterator[Running]:
        """The hub; each time at the same address."""
        flags = ("--listen", self.listen, "--state", str(self.folder), "--price-per-hour", "3600")
        async with self.user.runs("hub", *flags) as running:
            url = await running.address()
            self.listen = url.removeprefix("ws://").removesuffix("/dsp")
            self.user.environment |= {"API_SERVER_URL": url, "WAKESTREAM_KEY": self.keys["client"]}
            yield running

    @asynccontextmanager
    async def peer(self, register: m.Register, *says: m.Message) -> AsyncIterator[Link]:
        """A peer that registers so and sends this; the block begins when the hub has handled all of it."""
        link = open_link(self.user.environment["API_SERVER_URL"], lambda: register)
        answered = asyncio.Event()

        def hear(event: object) -> None:
            if isinstance(event, LinkUp):
                for message in (*says, m.Ping()):
                    link.send(message)
            elif isinstance(event, m.Pong):
                answered.set()

        subscription = link.events.subscribe(hear)
        try:
            async with asyncio.timeout(10):
                await answered.wait()
            yield link
        finally:
            subscription.dispose()
            await link.close()

    def worker(self) -> m.Register:
        return m.Register(role="worker", token=self.keys["worker"], gpu="studio", url="http://gpu.example:8383")

    def monitor(self) -> m.Register:
        return m.Register(role="gpu_monitor", token=self.keys["monitor"], gpus=("studio",), features=("power_state",))
