"""The programs in examples/ do what they say, against our hub and worker."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.support.programs.client_scene import WITHIN, User, clean_environment
from tests.support.programs.our_peers import Joining, Place, gpu_online, held, until

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run(user: User, name: str, *arguments: str) -> tuple[int | None, str]:
    """One of them, as its users start it: its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / name), *arguments,
        cwd=user.folder, env=clean_environment() | user.environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode()


@pytest.mark.parametrize("asleep", [False, True])
async def test_check_the_flow_prints_the_branch(user: User, place: Place, asleep: bool) -> None:
    async with place.hub() as hub:
        if asleep:
            running = asyncio.create_task(run(user, "check_the_flow.py", "clip.mp4", "speech.wav"))
            await until(lambda: held(hub) != [])
            async with place.worker(Joining()):
                code, said = await running
        else:
            async with place.worker(Joining()):
                await gpu_online(hub)
                code, said = await run(user, "check_the_flow.py", "clip.mp4", "speech.wav")
        assert held(hub) == []
    assert code == 0, said
    assert f"branch: {'offline' if asleep else 'online'}" in said
    assert said.endswith("the flow works\n")
    assert user.left() == set()


async def test_check_the_flow_prints_what_is_broken(user: User, place: Place) -> None:
    async with place.hub():
        user.environment |= place.client_settings() | {"WAKESTREAM_KEY": "not-a-key-of-this-hub"}
        code, said = await run(user, "check_the_flow.py", "clip.mp4", "speech.wav")
    assert code == 2
    assert "licen" in said
    assert said.endswith("the flow is broken: see above\n")


async def test_the_custom_pipeline_ends_with_a_note_beside_the_result(user: User, place: Place) -> None:
    async with place.hub(), place.worker(Joining()):
        code, said = await run(user, "custom_pipeline.py", "clip.mp4", "speech.wav", "out.mp4")
    assert code == 0, said
    assert (user.folder / "out.mp4").read_bytes() == b"video" * 1000 + b"audio" * 500
    note = json.loads((user.folder / "out.json").read_text())
    assert note == {"video": "clip.mp4", "audio": "speech.wav", "bytes": 7500}


@pytest.mark.parametrize("name", ["check_the_flow.py", "custom_pipeline.py", "cost_meter.py"])
async def test_without_arguments_or_settings_the_examples_name_what_is_missing(user: User, name: str) -> None:
    code, said = await run(user, name)
    assert code == 2
    assert "required: VIDEO, AUDIO" in said
    code, said = await run(user, name, "clip.mp4", "speech.wav", "out.mp4")
    assert code == 2
    assert said.startswith("wakestream: no hub is set")


@pytest.mark.parametrize(
    ("name", "setting"),
    [("webhook.py", "WEBHOOK_URL"), ("two_gpus.py", "GPU_URLS"), ("engine_worker.py", "ENGINE_URL")],
)
async def test_a_setting_of_its_own_that_is_missing_is_named(user: User, name: str, setting: str) -> None:
    code, said = await run(user, name, "clip.mp4", "speech.wav", "out.mp4")
    assert code == 2
    assert said == f"wakestream: {setting} is not set; set it in the environment or in .env\n"
