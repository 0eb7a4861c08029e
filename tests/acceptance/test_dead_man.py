"""The dead-man switch with a real worker and a command that writes a file."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.support.power.script_machine import provider
from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.cli.demo.processes import command_line
from wakestream.adapters.net.hub_link import Link
from wakestream.streams.protocol import messages as m

SECRET = {"HEYGEM_API_SECRET": "some-secret-0123456789"}


def off(file: Path, code: int = 0) -> str:
    return command_line([sys.executable, "-c", f"open({str(file)!r}, 'a').write('off\\n'); raise SystemExit({code})"])


async def written(file: Path) -> None:
    await until(file.exists)


def flags(user: User, file: Path, after: str) -> tuple[str, ...]:
    return ("worker", "--listen", "127.0.0.1:0", "--state", "work", "--poweroff-after", after, "--poweroff", off(file))


async def test_a_worker_whose_hub_is_gone_switches_its_machine_off(user: User, keeper: Keeper, tmp_path: Path) -> None:
    file, key = tmp_path / "off", keeper.keys["worker"]
    async with keeper.hub() as hub, user.runs(*flags(user, file, "3"), WAKESTREAM_KEY=key) as worker:
        await worker.address()
        await stays_on(user, file)
        hub.process.kill()
        await written(file)


async def written_within(seconds: float, file: Path) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await written(file)
    return file.exists()


async def stays_on(user: User, file: Path) -> None:
    """As soon as the worker is at its hub, its machine stays on for longer than 3 s."""
    async with asyncio.timeout(100):
        while "on and ready" not in (await user.run("status")).out:
            pass
    file.unlink(missing_ok=True)  # a slow worker may come later than that to its hub
    assert not await written_within(4.0, file)
    assert "on and ready" in (await user.run("status")).out


async def hub_says(user: User) -> dict[str, Any]:
    return dict(orjson.loads((await user.run("status", "--json")).out))


async def test_an_upload_of_a_few_bytes_a_second_does_not_keep_the_machine_on(user: User, tmp_path: Path) -> None:
    file, head = tmp_path / "off", {"Authorization": f"Bearer {SECRET['HEYGEM_API_SECRET']}"}
    async with user.runs(*flags(user, file, "2"), **SECRET) as worker:
        url = await worker.address()

        async def slowly() -> AsyncIterator[bytes]:
            while not await written_within(0.3, file):
                yield b"x"

        async with aiohttp.ClientSession() as session:
            form = aiohttp.MultipartWriter("form-data")
            form.append(slowly()).set_content_disposition("form-data", name="file", filename="a.mp4")
            async with session.post(f"{url}/api/heygem/upload_file", data=form, headers=head) as reply:
                assert reply.status < 500


@pytest.mark.parametrize("poweroff", [True, False])
async def test_when_a_monitor_is_killed_while_its_gpu_is_on_it_is_said_at_once_what_happens_next(
    user: User, keeper: Keeper, tmp_path: Path, *, poweroff: bool
) -> None:
    monitor_key, machine = keeper.keys["monitor"], (*provider(user.folder, running=True), "--machine")
    more = ("--poweroff-after", "1h", "--poweroff", off(tmp_path / "off")) if poweroff else ()
    work = ("worker", "--listen", "127.0.0.1:0", "--gpu", "gpu", "--state", "work", *more)
    async with keeper.hub(), contextlib.AsyncExitStack() as stack:
        monitors = [
            await stack.enter_async_context(
                user.runs("monitor", "--gpu", gpu, *machine, gpu, "--orphans", "report", WAKESTREAM_KEY=monitor_key)
            )
            for gpu in ("gpu", "attic", "cellar")
        ]
        worker = await stack.enter_async_context(user.runs(*work, WAKESTREAM_KEY=keeper.keys["worker"]))
        await worker.address()
        async with asyncio.timeout(100):
            while (await hub_says(user))["monitors"] < 3 or "on and ready" not in (await user.run("status")).out:
                pass
        os.kill(monitors[0].pid, signal.SIGKILL)
        await monitors[0].ended()
        async with asyncio.timeout(100):
            while (await hub_says(user))["monitors"] > 2:
                pass
        said = [await user.run(*command) for command in (("status",), ("why", "gpu:gpu"), ("doctor",))]
    then = "its worker switches the machine off" if poweroff else "nothing switches the machine off"
    for ran in said:
        text = " ".join((ran.out + ran.err).split())
        assert "its monitor is not connected; in " in text
        assert f"s the hub counts it as gone. Then {then}" in text


async def test_a_hub_without_the_monitor_of_the_gpu_is_no_reason_to_stay_on(
    user: User, place: Place, tmp_path: Path
) -> None:
    file, key = tmp_path / "off", place.keys["worker"]
    monitor = m.Register(role="gpu_monitor", token=place.keys["monitor"], gpus=("gpu",))
    async with place.hub(unwatched=1.0), contextlib.AsyncExitStack() as stack:
        user.environment |= place.client_settings()
        link = Link(place.hub_url, lambda: monitor)
        stack.push_async_callback(link.close)
        worker = await stack.enter_async_context(user.runs(*flags(user, file, "3"), WAKESTREAM_KEY=key))
        await worker.address()
        await stays_on(user, file)
        await link.close()
        await written(file)
        said = [await user.run(*command) for command in (("why", "gpu"), ("status",), ("doctor",))]
        assert ["nothing switches it off" in ran.out + ran.err for ran in said] == [True] * 3
