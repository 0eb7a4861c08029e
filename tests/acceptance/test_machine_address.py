"""A machine whose address is another one at each start: monitor, hub, worker and client find each other again."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.faults.programs_in_one_loop import POLICY, Machine, bounded, new_job, until, whole
from tests.support.programs.our_peers import SECRET, Joining, Place
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.monitor.program import MonitorConfig, open_monitor
from wakestream.adapters.power.config import Provider
from wakestream.adapters.worker import program as worker_program
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.operators.model.events import Done
from wakestream.operators.model.ports import Reading
from wakestream.streams.monitor.power_machine import PowerPolicy


class Moving(Machine, Provider):
    """Its worker listens on a free port, another one at each start, and does not know its own address."""

    late = False

    async def inspect(self) -> Reading:
        reading = await super().inspect()
        if self.worker is None or reading.state != "running" or self.late:
            return reading
        return Reading("running", self.worker.address.removeprefix("http://"))


@bounded
async def test_jobs_find_the_worker_after_each_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As behind a router: the worker listens for all, and does not know under which address it is reached.
    monkeypatch.setattr(worker_program, "_public", lambda *_: None)
    place = Place(tmp_path)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(place.hub())
        url = f"ws://127.0.0.1:{hub.port}/dsp"
        worker = WorkerConfig(tmp_path / "worker", Joining(), SECRET, port=0, gpu="gpu", key=place.keys["worker"])
        machine = Moving(worker, url)
        policy = PowerPolicy(
            gpu="gpu", look_soon=0.1, look_rarely=0.2, look_online=0.2, idle_after=0.5, checks_health=False,
            follows_address=True, expects_address=True,
        )  # fmt: skip
        settings = Settings(hub_url=url, key=Secret(place.keys["monitor"]))
        program = await stack.enter_async_context(open_monitor(MonitorConfig(settings, policy, machine)))
        stop = asyncio.Event()
        running = asyncio.create_task(program.run(stop))
        client = await stack.enter_async_context(
            open_client(
                Settings(
                    hub_url=url,
                    api_secret=Secret(SECRET),
                    secret_hosts=("127.0.0.1",),
                    key=Secret(place.keys["client"]),
                ),
                POLICY,
            )
        )
        seen = set()
        await until(lambda: "gpu" in hub.state.gpus and hub.state.gpus["gpu"].phase == "off")
        for number in (1, 2):
            machine.late = True  # the worker is online before the provider says where
            job = new_job(tmp_path, f"job-{number}")
            outcome = asyncio.create_task(client.run(job, lambda _: None))
            await until(lambda: hub.state.gpus["gpu"].unaddressed is not None)
            assert not outcome.done()
            machine.late = False
            assert isinstance(await outcome, Done)
            assert whole(job)
            seen.add(hub.state.url_of(hub.state.gpus["gpu"]))
            await until(lambda: hub.state.gpus["gpu"].phase == "off")
        assert len(seen) == 2
        assert machine.starts == 2
        stop.set()
        await running
