"""A monitor killed by kill -9 and started again: never two starts, and it knows which machine is its own."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.power.script_machine import calls, provider
from tests.support.programs.tiny_hub import TinyHub, monitor, tiny_hub
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.streams.recording.recording import read_log

hub = pytest.fixture(tiny_hub)


async def called(folder: Path) -> None:
    """Returns when the provider was called for the first time."""
    while not calls(folder):
        await asyncio.to_thread(time.sleep, 0.01)  # it says nothing of itself, and needs the processor


async def looked(hub: TinyHub, number: int) -> str:
    """The status after a fresh look."""
    await hub.say({"type": "gpu.status.query", "request_id": f"q-{number}"})
    return str((await hub.hears(type="gpu.status.response", request_id=f"q-{number}", fresh=True))["status"])


async def test_a_monitor_killed_during_a_start_does_not_start_twice(hub: TinyHub, tmp_path: Path) -> None:
    flags = [*provider(tmp_path, ready=False), "--record", str(tmp_path / "record")]
    async with monitor(hub, tmp_path, *flags) as first:
        await hub.hears(type="gpu.power.state", state="off")
        await hub.say({"type": "gpu.power.boot", "request_id": "boot-1"})
        await called(tmp_path)
        first.kill()
        await first.wait()
    async with monitor(hub, tmp_path, *flags):
        await hub.hears(type="gpu.power.state", state="unknown")
        await hub.say({"type": "gpu.power.boot", "request_id": "boot-2"})
        assert [await looked(hub, number) for number in range(3)] == ["unknown"] * 3
        assert calls(tmp_path) == ["start"]
        (tmp_path / "go").touch()
        await hub.hears(type="gpu.power.state", state="booted")
    assert calls(tmp_path) == ["start"]
    second = max((tmp_path / "record").glob("monitor-*.jsonl"))
    log = read_log(second.read_bytes().splitlines(keepends=True))
    assert log.header.config["recalled"]["start_at"] > 0
    assert (await asyncio.to_thread(run_log, log)).result == "same"


async def test_the_machine_that_it_started_is_its_own_also_after_a_kill(hub: TinyHub, tmp_path: Path) -> None:
    flags = provider(tmp_path)
    async with monitor(hub, tmp_path, *flags) as first:
        await hub.hears(type="gpu.power.state", state="off")
        await hub.say({"type": "gpu.power.boot", "request_id": "boot-1"})
        await hub.hears(type="gpu.power.booted")
        await hub.say({"type": "gpu.status.query", "request_id": "q"})
        await hub.hears(type="gpu.status.response")
        first.kill()
        await first.wait()
    async with monitor(hub, tmp_path, *flags):
        said = await hub.hears(type="gpu.power.state", state="booted")
    assert "without a request" not in said["msg"]
    assert calls(tmp_path) == ["start"]


async def test_an_unrequested_machine_is_reported_and_kept_by_default(hub: TinyHub, tmp_path: Path) -> None:
    async with monitor(hub, tmp_path, *provider(tmp_path, running=True)):
        said = await hub.hears(type="gpu.power.state", state="booted")
    assert "runs without a request" in said["msg"]
    assert calls(tmp_path) == []


async def test_orphans_stop_stops_it_when_the_hub_has_no_lease(hub: TinyHub, tmp_path: Path) -> None:
    async with monitor(hub, tmp_path, *provider(tmp_path, running=True), "--orphans", "stop"):
        query = await hub.hears(type="gpu.task.query", drain=True)
        assert calls(tmp_path) == []
        answer = {"type": "gpu.task.query.response", "active_count": 0, "has_recent_active": False}
        await hub.say({**answer, "request_id": query["request_id"]})
        await hub.hears(type="gpu.power.state", state="off")
    assert calls(tmp_path) == ["stop"]


async def test_two_monitors_of_one_machine_do_not_share_a_memory(hub: TinyHub, tmp_path: Path) -> None:
    flags = provider(tmp_path)
    async with monitor(hub, tmp_path, *flags):
        await hub.hears(type="gpu.power.state", state="off")
        async with monitor(hub, tmp_path, *flags) as second:
            _, said = await second.communicate()
    assert second.returncode == 2
    assert b"another wakestream monitor uses it" in said
