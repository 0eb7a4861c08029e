"""A monitor with a provider's credentials, talkative and recorded: none of what it leaves behind has them."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.power.worlds import WORLDS
from wakestream.adapters.testing.http_stand_in import HttpStandIn, serving
from wakestream.adapters.testing.power_world import Fault


@pytest.mark.parametrize("fault", ["denied", "garbage", None])
@pytest.mark.parametrize("name", WORLDS)
async def test_no_log_and_no_recording_has_the_credentials(name: str, fault: Fault | None, tmp_path: Path) -> None:
    async with serving(WORLDS[name]()) as world:
        await world.become("running")
        world.fault = fault
        said = await monitored(world, name, tmp_path, b"booted" if fault is None else b"cannot look at the machine")
    assert (tmp_path / "recorded").is_dir()
    left = said + b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert [secret for secret in world.secrets if secret.encode() in left] == []
    if fault == "denied":
        assert b"***" in left


async def monitored(world: HttpStandIn, name: str, folder: Path, until: bytes) -> bytes:
    """What a monitor said, which is ended when it has said this."""
    command = [
        sys.executable, "-m", "wakestream.adapters.cli", "monitor", "--hub", "http://127.0.0.1:9", "--power", name,
        "--machine", world.machine_id, "--power-option", f"base_url={world.url}", "--log-level", "DEBUG",
        "--record", str(folder / "recorded"), "--log-file", str(folder / "log"), "--state", str(folder / "state"),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, env={"PATH": "", **world.keys}, stderr=asyncio.subprocess.STDOUT, stdout=asyncio.subprocess.PIPE,
        cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    while until not in said:
        line = await process.stdout.readline()
        assert line, said
        said += line
    process.terminate()
    rest, _ = await process.communicate()
    return said + rest
