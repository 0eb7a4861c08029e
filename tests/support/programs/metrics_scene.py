"""All four programs in the test's loop, each with its metrics on a real port; a job can run to its end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import depot_scene
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import SECRET, Joining, Place
from tests.support.streams.submitting import submitting
from wakestream.adapters.config import settings
from wakestream.adapters.config.settings import Secret
from wakestream.adapters.daemon.metrics import DaemonMetrics, JobWatch
from wakestream.adapters.daemon.program import DaemonConfig, RunningDaemon, running_daemon
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.hub.config import HubConfig, Leadership
from wakestream.adapters.hub.front import FrontConfig, open_front
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.metrics import HubMetrics
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.monitor.program import MonitorMetrics, PowerWatch
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.adapters.telemetry.metrics_server import Collect, metrics_listener
from wakestream.adapters.testing.fakes import FakePower
from wakestream.adapters.testing.power_watch import no_health
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.metrics import WorkerMetrics
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.policy import Policy
from wakestream.streams.hub.events import Fact
from wakestream.streams.hub.hub import Limits
from wakestream.streams.hub.state import Budgets
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.persistence import MachineKept
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.outbox import facts as f
from wakestream.streams.protocol import messages as m

LOOPBACK = ("127.0.0.1", 0)
QUICK = Policy(hub=None, poll_every=0.05, health_every=0.05)

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""By a sample's name: its values by its labels."""


def read(text: str) -> Samples:
    """What a scrape says."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def families(text: str) -> set[str]:
    """The names of our families, as they stand on the page: counters with their `_total`."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
        if family.name.startswith("wakestream_")
    }


class House:
    """The programs, and where each is scraped."""

    def __init__(self, user: User, place: Place, stack: AsyncExitStack) -> None:
        self.user, self.place, self._stack = user, place, stack
        self.urls: dict[str, str] = {}
        self.hub: HubServer
        self.worker: RunningWorker
        self.daemon: RunningDaemon
        self.session: aiohttp.ClientSession

    async def _served(self, program: str, collect: Collect) -> None:
        self.urls[program] = await self._stack.enter_async_context(metrics_listener(LOOPBACK, collect))

    async def scrape(self, program: str) -> str:
        """The text of one scrape."""
        async with self.session.get(self.urls[program]) as response:
            assert response.status == 200
            return await response.text()

    async def says(self, program: str, name: str, **labels: str) -> float:
        """One sample."""
        return read(await self.scrape(program))[name][tuple(sorted(labels.items()))]

    async def comes(self, value: float, program: str, name: str, **labels: str) -> None:
        """Returns when this sample has this value."""
        async with asyncio.timeout(100):
            while await self.says(program, name, **labels) != value:
                pass

    async def begin_hub(self) -> None:
        folder = self.place.folder / "hub"
        journal = await self._stack.enter_async_context(open_journal(folder / "hub.sqlite3", Fact, program="hub"))
        book = LicenseBook(folder)
        limits = Limits(price=3.6, budgets=Budgets({"": (1000.0, None)}))
        self.hub = await self._stack.enter_async_context(open_hub(HubConfig(book, limits=limits), journal))
        self.place.hub_url = self.hub.url
        metrics = HubMetrics(folder, Leadership())
        metrics.lead(self.hub, journal)
        await self._served("hub", metrics)

    async def begin_worker(self, engine: Joining) -> None:
        link, url = LinkWatch(), self.hub.url
        config = WorkerConfig(
            self.place.folder / "worker", engine, SECRET, port=0, gpu="gpu", key=self.place.keys["worker"]
        )
        self.worker = await self._stack.enter_async_context(
            running_worker(config, lambda register: Link(url, register, tap=link))
        )
        await self._served("worker", WorkerMetrics(self.worker, link))

    async def begin_depot(self) -> None:
        link, url, key = LinkWatch(), self.hub.url, self.place.book.issue("depot", "", time.time())[1]
        config = depot_scene.config(self.place.folder / "depot", key=Secret(key))
        running = running_worker(config, lambda register: Link(url, register, tap=link))
        await self._served("depot", WorkerMetrics(await self._stack.enter_async_context(running), link))

    async def begin_front(self) -> None:
        key = self.place.book.issue("front", "", time.time())[1]
        running = open_front(FrontConfig(self.hub.url, key, 500, Room(10, 10)))
        await self._served("front", (await self._stack.enter_async_context(running)).metrics)

    async def begin_monitor(self) -> None:
        path = self.place.folder / "monitor" / "gpu.sqlite3"
        journal = await self._stack.enter_async_context(open_journal(path, MachineKept, program="monitor"))
        watch = PowerWatch()
        register = m.Register(role="gpu_monitor", token=self.place.keys["monitor"], gpus=("gpu",))
        link = Link(self.hub.url, lambda: register, tap=watch)
        self._stack.push_async_callback(link.close)
        monitor = Monitor(PowerPolicy(gpu="gpu"), Random(1))
        program = MonitorProgram(monitor, link, FakePower(on=True), no_health, tap=watch, tick=0.05, journal=journal)
        await self._running(program.run)
        await self._served("monitor", MonitorMetrics(program, watch, path.parent))

    async def _running(self, run: Callable[[asyncio.Event], Any]) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(run(stop))

        async def end() -> None:
            stop.set()
            await running

        self._stack.push_async_callback(end)

    async def begin_daemon(self, webhook: str | None = None) -> None:
        environment = self.place.client_settings()
        if webhook is not None:
            environment |= {"WAKESTREAM_WEBHOOK_URL": webhook, "WAKESTREAM_WEBHOOK_SECRET": "whsec"}
        found = settings.load({}, environment=environment, folder=self.user.folder)
        state, watch = self.user.folder.parent / "daemon", JobWatch()
        self.daemon = await self._stack.enter_async_context(
            running_daemon(DaemonConfig(state), found, QUICK, watch=watch)
        )
        await self._served("daemon", DaemonMetrics(self.daemon, watch, state))

    async def submit(self, job: str = "job-1") -> None:
        """Hand the user's files in."""
        looks = [f.FileStat(str(path), (at := path.stat()).st_size, at.st_mtime_ns) for path in self._inputs()]
        answer = await self.daemon.outbox.submit(
            submitting(0, job, dict(zip(("video", "audio"), looks, strict=True)), {"video": str(self.user.out)})
        )
        assert answer.status == 201

    def _inputs(self) -> Iterable[Path]:
        return self.user.video, self.user.audio


@asynccontextmanager
async def house(user: User, place: Place) -> AsyncIterator[House]:
    """The scene before any program has started."""
    async with AsyncExitStack() as stack:
        made = House(user, place, stack)
        made.session = await stack.enter_async_context(aiohttp.ClientSession())
        yield made
