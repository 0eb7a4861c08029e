"""`wakestream monitor` as its users start it, with providers against stand-ins."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines.real_servers import running
from tests.support.power.docker_engine import Podman
from tests.support.power.ec2_proxy import ec2_proxy
from tests.support.power.ec2_world import KEY, REGION, SECRET, account, instance
from tests.support.power.own_machine import MAC, own_machine
from tests.support.power.stand_ins import needs_clouds, sushy
from tests.support.programs.tiny_hub import TinyHub, monitor, tiny_hub

hub = pytest.fixture(tiny_hub)


def options(**values: str) -> list[str]:
    return [part for name, value in values.items() for part in ("--power-option", f"{name}={value}")]


async def wakes(hub: TinyHub) -> str | None:
    """A job wakes the machine; the address that clients get."""
    await hub.hears(type="gpu.power.state", state="off")
    await hub.say({"type": "gpu.power.boot", "request_id": "boot-1", "source": "test"})
    heard: dict[str, dict[str, Any]] = {}
    while not {"booted", "gpu.power.booted"} <= heard.keys():  # in any order
        message = await hub.hears()
        heard[message.get("state") or message["type"]] = message
    assert heard["gpu.power.booted"]["request_id"] == "boot-1"
    return heard["booted"].get("url")


@needs_clouds()
async def test_a_job_wakes_an_instance_of_ec2_and_no_file_has_its_keys(
    hub: TinyHub, tmp_path: Path, moto_url: str
) -> None:
    client = account(moto_url)
    name = instance(client, "by the program")
    client.close()
    async with ec2_proxy(moto_url) as proxy:
        flags = ["--power", "ec2", "--machine", name, *options(region=REGION, base_url=proxy.url)]
        record = ["--record", "recording", "--log-level", "DEBUG", "--state", "state"]
        async with monitor(hub, tmp_path, *flags, *record) as process:
            assert await wakes(hub) == "http://203.0.113.1:8383"
            assert process.stdin is not None
            process.stdin.close()
            _, said = await process.communicate()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"203.0.113.1" in each for each in files)
    assert [each for each in (said, *files) if SECRET.encode() in each or KEY.encode() in each] == []


@needs_clouds()
async def test_a_job_wakes_a_server_behind_sushy(hub: TinyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
    system = {"uuid": uuid, "name": "gpu-server", "power_state": "Off", "nics": []}
    monkeypatch.setenv("REDFISH_USER", "any")
    monkeypatch.setenv("REDFISH_PASSWORD", "password-of-the-controller")
    async with running(sushy(tmp_path, [system])) as server:
        flags = options(base_url=server.url, address="http://10.0.0.7:8383")
        async with monitor(hub, tmp_path, "--power", "redfish", "--machine", "gpu-server", *flags):
            assert await wakes(hub) == "http://10.0.0.7:8383"


@pytest.fixture
async def podman(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Podman]:
    podman = Podman(tmp_path_factory.mktemp("podman"))
    if why := podman.why_not():
        pytest.skip(why)
    async with podman.serving():
        yield podman
    podman.clean()


async def test_a_job_wakes_a_container_of_podman(hub: TinyHub, tmp_path: Path, podman: Podman) -> None:
    podman.create("lips")
    flags = options(base_url=podman.url, grace="1")
    async with monitor(hub, tmp_path, "--power", "docker", "--machine", "lips", *flags):
        await wakes(hub)
        assert podman.inspect("lips")["State"]["Status"] == "running"


async def test_a_job_wakes_a_pc(hub: TinyHub, tmp_path: Path) -> None:
    async with own_machine(tmp_path) as pc:
        flags = options(worker=pc.url, ssh=f"wake@127.0.0.1:{pc.ssh}", broadcast=f"127.0.0.1:{pc.port}")
        async with monitor(hub, tmp_path, "--power", "wol", "--machine", MAC, *flags):
            waking = asyncio.create_task(wakes(hub))
            await pc.woken.wait()
            await pc.finish()
            assert await waking == pc.url
