"""The commands of docs/power, run as a reader does, against the stand-ins: list, monitor, and the first wake."""

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.power.worlds import WORLDS
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.http_stand_in import HttpStandIn, serving
from wakestream.streams.protocol import messages as m

PAGES = Path(__file__).parents[2] / "docs" / "power"


def commands(page: str, name: str) -> Iterator[list[str]]:
    for line in re.findall(rf"^ +wakestream ({name} .*)$", (PAGES / f"{page}.md").read_text("utf-8"), re.MULTILINE):
        yield shlex.split(line)


async def begun(world: HttpStandIn, folder: Path, *words: str) -> asyncio.subprocess.Process:
    """A command with the credentials in `.env`, as the page says."""
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in world.keys.items()))
    (folder / ".env").chmod(0o600)
    environment = {"PATH": "", "WAKESTREAM_POWER_OPTION": f"base_url={world.url}", "WAKESTREAM_LANG": "en"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wakestream.adapters.cli", *words, cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
async def test_the_list_of_the_page_shows_its_machine(name: str, tmp_path: Path) -> None:
    async with serving(WORLDS[name]()) as world:
        (words,) = commands(name, "machines")
        process = await begun(world, tmp_path, *words)
        said, _ = await process.communicate()
    assert process.returncode == 0, said
    assert world.machine_id.encode() in said


@pytest.mark.parametrize("name", WORLDS)
async def test_the_monitor_of_the_page_wakes_the_machine_for_a_job(name: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "monitor.key").write_text(place.keys["monitor"])
    (tmp_path / "monitor.key").chmod(0o600)
    async with serving(WORLDS[name]()) as world, place.hub() as hub:
        (words,) = commands(name, "monitor")
        assert words[words.index("--machine") + 1] == world.machine_id
        more = ("--hub", f"http://127.0.0.1:{hub.port}", "--key-file", "monitor.key", "--state", "state")
        monitor = await begun(world, tmp_path, *words, *more)
        register = m.Register(key=place.keys["client"], features=("power_state",))
        client = Link(f"ws://127.0.0.1:{hub.port}/dsp", lambda: register)
        heard: asyncio.Queue[object] = asyncio.Queue()
        subscription = client.events.subscribe(heard.put_nowait)
        await until(lambda: client.up)
        while not any(gpu.phase == "off" for gpu in hub.state.gpus.values()):
            await heard.get()
        client.send(m.Boot(request_id="boot-1"))
        async with world.asked:
            await world.asked.wait_for(lambda: world.starts == 1)
        await world.finish()
        while not any(gpu.phase == "booted" for gpu in hub.state.gpus.values()):
            await heard.get()
        assert any(gpu.machine_url for gpu in hub.state.gpus.values())
        subscription.dispose()
        await client.close()
        monitor.terminate()
        said, _ = await monitor.communicate()
    assert (world.starts, world.calls) == (1, 1), said
