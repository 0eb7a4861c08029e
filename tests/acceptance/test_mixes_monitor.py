"""Our monitor among deployed peers: what wakes the machine, what keeps it on, and what stops it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.field.desktop import DesktopLimits, FieldDesktop
from tests.support.field.hub import field_hub
from tests.support.field.phone import field_phone
from tests.support.field.text_worker import field_text_worker
from tests.support.field.worker import FieldWorker, rendered
from tests.support.mixes import OldMachine, address, comes_into, idles, our_monitor
from tests.support.programs.client_scene import User
from tests.support.programs.hub_scene import Place
from tests.support.programs.our_peers import until
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.streams.hub.hub import Limits

SECRET = "field-secret-0123456789"
OPEN = Limits(open_roles=frozenset({"worker", "monitor"}), recent=0.2, accepted=2.0)
IDLE = 0.5


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        yield Place(tmp_path / "hub", stack)


async def idle_for(machine: OldMachine, seconds: float) -> None:
    """Return when the worker's health was asked for so long, and ten times at least."""
    worker, loop = machine.worker, asyncio.get_running_loop()
    assert worker is not None
    asked, end = worker.http.calls["health"], loop.time() + seconds
    await worker.until(lambda: worker.http.calls["health"] >= asked + 10 and loop.time() > end)


def stocked(machine: OldMachine) -> dict[str, str]:
    """A pair of files on the machine's disk, as a job names it."""
    machine.worker = disk = FieldWorker()
    video, audio = disk.keep(b"video", ".mp4"), disk.keep(b"audio", ".wav")
    return {"video_hash": video, "video_ext": ".mp4", "audio_hash": audio, "audio_ext": ".wav"}


async def rendering(machine: OldMachine, monitor: MonitorProgram) -> FieldWorker:
    """The worker of the machine, once it is on and renders."""
    await comes_into(monitor, "online")
    assert machine.worker is not None
    await machine.worker.until_rendering()
    idles(monitor, IDLE)
    return machine.worker


async def test_an_early_result_of_an_old_worker_does_not_stop_its_machine(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    async with (
        OldMachine(address(hub), secret=SECRET, held=True, texts=False) as machine,
        our_monitor(hub.url, machine.cloud, machine.url, key=place.keys["monitor"]) as monitor,
    ):
        await comes_into(monitor, "off")
        payload = stocked(machine)
        client = await place.client()
        await client.send(type="gpu.job.submit", request_id="j1", task_type="heygem_submit", payload=payload)
        worker = await rendering(machine, monitor)
        assert [said["error"] for said in worker.line.said if said["type"] == "gpu.job.result"] == [False]
        await idle_for(machine, 4 * IDLE)
        assert machine.cloud.stops == 0
        assert monitor.entered["draining"] == 0
        worker.finish()
        await machine.cloud.stopped.wait()
        assert len(worker.renders) == 1


async def test_at_a_deployed_hub_a_bare_copy_wakes_the_machine_work_keeps_it_on_and_idleness_stops_it() -> None:
    async with field_hub() as hub:
        async with (
            OldMachine(hub.url, secret=SECRET, held=True, texts=False) as machine,
            our_monitor(
                f"{hub.url.replace('http', 'ws')}/dsp", machine.cloud, machine.url, query_timeout=IDLE
            ) as monitor,
            field_phone(hub.url, "key-1") as phone,
        ):
            await comes_into(monitor, "off")
            payload = stocked(machine)
            await phone.say(type="gpu.job.submit", request_id="j1", task_type="heygem_submit", payload=payload)
            worker = await rendering(machine, monitor)
            await idle_for(machine, 4 * IDLE)
            assert machine.cloud.stops == 0
            worker.finish()
            await machine.cloud.stopped.wait()
            assert (machine.cloud.starts, machine.cloud.stops) == (1, 1)
            assert monitor.entered["online"] == 1
        assert hub.faults == []


async def test_at_a_deployed_hub_a_text_request_wakes_the_machine_too() -> None:
    async with field_hub() as hub:
        async with (
            OldMachine(hub.url, secret=SECRET) as machine,
            our_monitor(f"{hub.url.replace('http', 'ws')}/dsp", machine.cloud, machine.url) as monitor,
            field_phone(hub.url, "key-1") as phone,
        ):
            await comes_into(monitor, "off")
            await phone.say(type="url", url="https://video.test/1")
            await comes_into(monitor, "online")
            assert machine.cloud.starts == 1
        assert hub.faults == []


async def test_at_a_deployed_hub_a_desktop_is_answered_in_time_and_its_machine_stops_when_idle(user: User) -> None:
    async with field_hub() as hub, OldMachine(hub.url, texts=False) as machine:
        url = f"{hub.url.replace('http', 'ws')}/dsp"
        async with our_monitor(url, machine.cloud, machine.url, query_timeout=IDLE) as monitor:
            await comes_into(monitor, "off")
            # It goes by what the hub says, and leaves it at the first silence, which no look of the monitor ends.
            desktop = FieldDesktop(hub.url, machine.url, limits=replace(DesktopLimits(), health_every=60.0))
            look = machine.cloud.look

            async def slow() -> str:
                await until(lambda: desktop.boots > 0)
                return await look()

            machine.cloud.look = slow  # type: ignore[method-assign]
            film = await desktop.render(user.video, user.audio)
            assert film == rendered(user.audio.read_bytes(), user.video.read_bytes())
            assert (desktop.went_on_by, desktop.boots) == ("hub", 1)
            idles(monitor, IDLE)
            await machine.cloud.stopped.wait()
        assert hub.faults == []


async def test_a_text_worker_that_was_there_first_takes_no_gpu_and_leaves_none_behind(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    gpus = hub.state.gpus
    async with (
        field_text_worker(address(hub)),
        OldMachine(address(hub), secret=SECRET, texts=False) as machine,
        our_monitor(hub.url, machine.cloud, machine.url, key=place.keys["monitor"]) as monitor,
    ):
        await comes_into(monitor, "off")
        client = await place.client()
        await client.send(type="gpu.job.submit", request_id="j1", task_type="delete_asset", payload={"id": "7"})
        assert (await client.first("gpu.job.result"))["request_id"] == "j1"
        assert {name: gpu.phase for name, gpu in gpus.items()} == {"studio": "online"}
        idles(monitor, IDLE)
        await machine.cloud.stopped.wait()
        await comes_into(monitor, "off")
        await client.send(type="gpu.status.query", request_id="s1")
        assert (await client.first("gpu.status.response"))["status"] == "stopped"
        assert {name: gpu.phase for name, gpu in gpus.items()} == {"studio": "off"}


async def test_our_hub_relays_our_monitors_stored_state_and_then_a_slow_check(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    async with OldMachine(address(hub), texts=False) as machine:
        key = place.keys["monitor"]
        async with our_monitor(
            hub.url, machine.cloud, machine.url, key=key, fresh_for=-1.0, look_rarely=60.0
        ) as monitor:
            await comes_into(monitor, "off")
            seen = asyncio.Event()

            async def slow() -> str:
                await seen.wait()
                return "stopped"

            machine.cloud.look = slow  # type: ignore[method-assign]
            client = await place.client()
            await client.send(type="gpu.status.query", request_id="s1")
            assert (await client.first("gpu.status.response"))["fresh"] is False
            seen.set()
            fresh = await client.first("gpu.status.response")
            assert (fresh["request_id"], fresh["status"], fresh["fresh"]) == ("s1", "stopped", True)
