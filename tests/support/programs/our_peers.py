"""Our own hub and worker inside the test's loop, on loopback, with fresh keys."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.engines.pair import PairEngine
from tests.support.looking_loop import LookingLoop
from tests.support.programs.client_scene import User
from wakestream.adapters.depot.store import DepotStore
from wakestream.adapters.engines import Ffmpeg
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import License, LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.engine import Engine, Frame
from wakestream.streams.hub.events import Fact
from wakestream.streams.hub.hub import Limits

SECRET = "swordfish-0123456789"


class Joining(PairEngine):
    """An engine whose result is its two inputs, one after the other, once the test permits it."""

    def __init__(self, *, held: bool = False) -> None:
        self.go_on = asyncio.Event()
        self.stopped = asyncio.Event()
        if not held:
            self.go_on.set()

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        yield Frame(1, 2, 50.0)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        output.write_bytes(video.read_bytes() + audio.read_bytes())


class Place:
    """A state folder: the keys of the hub and its programs, and the user who is given the settings for the hub."""

    def __init__(self, folder: Path, user: User | None = None) -> None:
        self.folder = folder
        self.user = user
        self.book = LicenseBook(folder / "hub")
        self.licenses: dict[str, License] = {}
        self.keys: dict[str, str] = {}
        for role in ("client", "worker", "monitor"):
            self.licenses[role], self.keys[role] = self.book.issue(role, "", time.time())
        self.hub_url = ""

    @asynccontextmanager
    async def hub(self, port: int = 0, bucket: DepotStore | None = None, **limits: Any) -> AsyncIterator[HubServer]:
        """A hub that remembers nothing of the one before."""
        limits |= {"depot": bucket is not None}
        book, journal = LicenseBook(self.folder / "hub"), FakeJournal[Fact]()
        async with open_hub(HubConfig(book, port=port, limits=Limits(**limits), bucket=bucket), journal) as hub:
            self.hub_url = hub.url
            if self.user is not None:
                self.user.environment |= self.client_settings()
            yield hub

    def worker(
        self, engine: Engine | None = None, port: int = 0, **more: Any
    ) -> AbstractAsyncContextManager[RunningWorker]:
        """A worker that joins the hub as soon as it is there."""
        config = WorkerConfig(
            self.folder / "worker", engine or Ffmpeg(limit=40), SECRET,
            port=port, gpu="gpu", key=self.keys["worker"], **more,
        )  # fmt: skip
        return running_worker(config, lambda register: Link(self.hub_url, register))

    def client_settings(self) -> dict[str, str]:
        """The environment of a user of this hub, who learns the worker's address from it."""
        return {
            "API_SERVER_URL": self.hub_url, "WAKESTREAM_KEY": self.keys["client"], "HEYGEM_API_SECRET": SECRET,
        }  # fmt: skip


def held(hub: HubServer) -> list[str]:
    """The jobs that wait at the hub or hold a GPU."""
    state = hub.state
    return sorted({*state.jobs, *(job for gpu in state.gpus.values() for job in gpu.leases)})


async def gpu_online(hub: HubServer) -> None:
    """Returns when the hub has a GPU to give."""
    await until(lambda: any(gpu.online for gpu in hub.state.gpus.values()))


async def until(holds: Callable[[], object]) -> None:
    """Returns when this holds, of which no event tells."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(100):
        if isinstance(loop, LookingLoop):
            await loop.until(holds)
        else:
            while not holds():  # noqa: ASYNC110 - another loop
                await asyncio.sleep(0)
