"""A hub, a GPU that sleeps, a daemon and its web console, all within the test's loop, and a browser before them."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines.pair import PairEngine, rendered
from tests.support.ports import free_port
from tests.support.programs.our_peers import SECRET, Place, until
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.daemon.console import uploads
from wakestream.adapters.daemon.console.sessions import address
from wakestream.adapters.daemon.program import DaemonConfig, RunningDaemon, running_daemon
from wakestream.adapters.engines import Ffmpeg
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.engine import Engine, Frame
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.outbox.state import Entry
from wakestream.streams.protocol import messages as m

Media = tuple[Path, Path]
"""A video file and a voice file."""

QUICK = {"poll_every": 0.05, "health_every": 0.05, "line_every": 0.5}


class Paced(PairEngine):
    """ffmpeg, which begins when it may and then tells of as many frames as the test lets it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """The frames that the test puts in, until it says `go_on`; then the work itself."""
        going = asyncio.ensure_future(self.go_on.wait())
        try:
            while not going.done():
                telling = asyncio.ensure_future(self.frames.get())
                await asyncio.wait((going, telling), return_when=asyncio.FIRST_COMPLETED)
                if telling.done():
                    yield telling.result()
                telling.cancel()
        finally:
            going.cancel()
        async for frame in rendered(Ffmpeg(limit=40), video, audio, output):
            yield frame


class Disk:
    """Where uploads are written to: at once, or from `hold` on when the test says `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.begun, self._go_on = asyncio.Event(), threading.Event()

    def hold(self) -> None:
        """Blocks wait from now on; the first of them sets `begun`."""
        loop, write = asyncio.get_running_loop(), uploads.write_all

        def slow(file: Any, block: bytearray) -> None:
            loop.call_soon_threadsafe(self.begun.set)
            self._go_on.wait()
            write(file, block)

        self._monkeypatch.setattr(uploads, "write_all", slow)

    def go_on(self) -> None:
        """All of them are written, and later ones at once."""
        self._go_on.set()


class House:
    """Hub and daemon run from the beginning; the GPU when it is switched on."""

    daemon: RunningDaemon
    _running: AsyncExitStack
    _worker: AsyncExitStack

    def __init__(self, place: Place, stack: AsyncExitStack, hub_server: HubServer, hub_stack: AsyncExitStack) -> None:
        self.place, self._stack = place, stack
        self.hub_server, self.hub_stack = hub_server, hub_stack
        self.engine = Paced()
        self.asked_to_boot = asyncio.Event()
        self.released = asyncio.Event()
        self.quota = 50_000_000
        self.probe = False  # most files of the tests only look like media

    @property
    def state(self) -> Path:
        """The daemon's folder."""
        return self.place.folder / "daemon"

    @property
    def url(self) -> str:
        """Where the console is."""
        return self.daemon.url

    @property
    def token(self) -> str:
        """What programs of this user show at the API."""
        found = daemon_address.read(self.state)
        assert found is not None
        return found.token

    def link(self) -> str:
        """A link that opens the console."""
        return address(self.daemon.url, self.daemon.console.sessions.new_link())

    async def start_daemon(self) -> None:
        """The daemon starts, with what it has kept."""
        settings = Settings(
            hub_url=self.place.hub_url, api_secret=Secret(SECRET), key=Secret(self.place.keys["client"]), waits=QUICK,
            probe=self.probe,
        )  # fmt: skip
        self._running = AsyncExitStack()
        config = DaemonConfig(self.state, port=0, quota=self.quota)
        self.daemon = await self._running.enter_async_context(running_daemon(config, settings))
        self._stack.push_async_callback(self._running.aclose)

    async def stop_daemon(self) -> None:
        """The daemon stops, its jobs stay."""
        await self._running.aclose()

    def delivered(self) -> asyncio.Event:
        """Set when a job that is done from now on has its results in the user's folder too."""
        delivered, holdings = asyncio.Event(), self.daemon.console.holdings
        deliver = holdings.on_done

        async def told(entry: Entry) -> None:
            await deliver(entry)
            delivered.set()

        holdings.on_done = told
        return delivered

    async def gpu_on(self, whole: Engine | None = None) -> None:
        """The GPU's worker comes online, and the daemon knows its kinds; `whole` is an engine of other kinds."""
        self._worker = AsyncExitStack()
        await self._worker.enter_async_context(self.place.worker(whole or self.engine))
        self._stack.push_async_callback(self._worker.aclose)
        if whole is not None:
            kinds, wanted = self.daemon.console.kinds, {kind.name for kind in getattr(whole, "kinds", ())}
            await until(lambda: wanted <= {known.kind.name for known in kinds.known.kinds})

    async def gpu_off(self) -> None:
        """The GPU's worker goes."""
        await self._worker.aclose()

    async def hub_off(self) -> None:
        """The hub goes."""
        await self.hub_stack.aclose()

    async def monitor(self, past_boots: int = 0, gpu: str = "gpu") -> Link:
        """A monitor that says `starting` when it is asked for a boot, and leaves the rest to the test."""
        register = m.Register(
            role="gpu_monitor", token=self.place.keys["monitor"], gpus=(gpu,), features=("power_state", "release")
        )
        link = Link(self.place.hub_url, lambda: register)
        self._stack.push_async_callback(link.close)
        self.power = lambda state, **more: link.send(m.PowerState(gpu=gpu, state=state, **more))
        self.boot_fails = lambda why: link.send(m.BootResult(success=False, status="failed", msg=why))

        def hear(event: object) -> None:
            if isinstance(event, m.Submit):
                self.power("starting")
                self.asked_to_boot.set()
            elif isinstance(event, m.Release):
                self.released.set()

        ready = asyncio.Event()
        link.events.subscribe(lambda event: ready.set() if getattr(event, "features", None) is not None else None)
        link.events.subscribe(hear)
        async with asyncio.timeout(100):
            await ready.wait()
        self.power("off")
        return link


@asynccontextmanager
async def house(folder: Path, *, price: float | None = 1.2, **limits: Any) -> AsyncIterator[House]:
    """A house for as long as the block runs; `limits` are the hub's."""
    place = Place(folder / "place")
    async with AsyncExitStack() as stack:
        of_hub = await stack.enter_async_context(AsyncExitStack())
        config = HubConfig(LicenseBook(place.folder / "hub"), limits=replace(hub.Limits(), price=price, **limits))
        server = await of_hub.enter_async_context(open_hub(config, FakeJournal[f.Fact]()))
        place.hub_url = server.url
        home = House(place, stack, server, of_hub)
        home.state.mkdir()
        daemon_address.keep_port(home.state, free_port())  # between two runs nothing else gets it
        await home.start_daemon()
        yield home


async def samples(folder: Path, seconds: float = 2.0) -> Media:
    """A video and a voice."""
    video, audio = folder / "interview.mp4", folder / "narration.wav"
    await make_video(video, seconds)
    await make_speech(audio, seconds)
    return video, audio


def now() -> float:
    """UNIX seconds."""
    return time.time()
