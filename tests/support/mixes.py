"""A GPU machine that a test's cloud starts and stops, and our monitor for it: for mixes of old and new parts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import cast

from tests.support.field.monitor import FieldCloud
from tests.support.field.text_worker import field_text_worker
from tests.support.field.worker import FieldWorker, field_worker
from tests.support.ports import free_port
from tests.support.programs.our_peers import until
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.net.hub_link import Link
from wakestream.operators.model.ports import PowerState, Reading
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.protocol import messages as m


def address(hub: HubServer) -> str:
    """What deployed programs have in `API_SERVER_URL`."""
    return hub.url.replace("ws", "http", 1).removesuffix("/dsp")


class OldMachine:
    """A machine with a deployed worker and text worker: they come up with it and go down with it.

    `hub` is the address before `/dsp`. `worker` is the one that runs now; its files outlive it, as on a disk.
    """

    def __init__(self, hub: str, *, secret: str = "", held: bool = False, texts: bool = True) -> None:
        self.cloud = FieldCloud(on_start=self._up, on_stop=self._down)
        self.worker: FieldWorker | None = None
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._hub, self._secret, self._held, self._texts = hub, secret, held, texts
        self._life: AsyncExitStack | None = None

    async def _up(self) -> None:
        self._life = AsyncExitStack()
        files = self.worker.files if self.worker is not None else None
        made = field_worker(self._secret, hub=self._hub, port=self._port, held=self._held, files=files)
        self.worker = await self._life.enter_async_context(made)
        if self._texts:
            await self._life.enter_async_context(field_text_worker(self._hub))

    async def _down(self) -> None:
        if self._life is not None:
            await self._life.aclose()
            self._life = None

    async def __aenter__(self) -> OldMachine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._down()


class CloudPower:
    """The cloud as our monitor's power."""

    def __init__(self, cloud: FieldCloud) -> None:
        self._cloud = cloud

    async def start(self) -> None:
        await self._cloud.start()

    async def stop(self) -> None:
        await self._cloud.stop()

    async def inspect(self) -> Reading:
        return Reading(cast("PowerState", await self._cloud.look()))


class States(Counter[str]):
    """How often a machine came into each state; `changed` is set at each."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def __setitem__(self, state: str, count: int) -> None:
        super().__setitem__(state, count)
        self.changed.set()


async def comes_into(monitor: MonitorProgram, state: str) -> None:
    """Returns when the machine of `our_monitor` is in that state."""
    assert isinstance(monitor.entered, States)
    while monitor.machine.state != state:
        monitor.entered.changed.clear()
        await monitor.entered.changed.wait()


@asynccontextmanager
async def our_monitor(
    hub_url: str,
    cloud: FieldCloud,
    worker_url: str,
    *,
    key: str | None = None,
    idle_after: float = 1800.0,
    **more: float,
) -> AsyncIterator[MonitorProgram]:
    """Our monitor, registered at `hub_url` (with `/dsp`), and quick in all it does; `more` of its policy."""
    quick = {"look_soon": 0.05, "look_online": 0.05, "look_rarely": 0.05, **more}
    policy = PowerPolicy(gpu="studio", idle_after=idle_after, **quick)  # type: ignore[arg-type]
    features = ("power_state",)
    link = Link(hub_url, lambda: m.Register(role="gpu_monitor", token=key, gpus=("studio",), features=features))
    workers, stop = HttpWorkers(worker_url), asyncio.Event()
    program = MonitorProgram(
        Monitor(policy, Random(1)), link, CloudPower(cloud), lambda url: workers.at(url).health(), tick=0.02
    )
    program.entered = States()
    running = asyncio.create_task(program.run(stop))
    try:
        await until(lambda: link.up)
        yield program
    finally:
        stop.set()
        await running
        await workers.close()
        await link.close()


def idles(monitor: MonitorProgram, after: float) -> None:
    """The monitor stops its machine after so many seconds without work, but not before this call.

    With a short time from the start on, a machine may stop before its first work comes.
    """
    decider = cast("Monitor", monitor.runner._decider)
    decider.policy = replace(decider.policy, idle_after=after)
