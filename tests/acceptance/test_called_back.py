"""A machine that no job needs any more is called back, with real programs and a client that cancels."""

import asyncio
import time

import pytest

from tests.support.power.script_machine import calls, provider
from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper


@pytest.mark.timeout(150)
async def test_a_machine_whose_only_job_was_cancelled_while_it_boots_is_stopped(user: User, keeper: Keeper) -> None:
    flags = (*provider(user.folder, ready=False), "--gpu", "studio")
    async with keeper.hub(), user.runs("monitor", *flags, WAKESTREAM_KEY=keeper.keys["monitor"]):
        await keeper.sees("off")
        async with user.submits() as job, asyncio.timeout(100):
            while not calls(user.folder):
                await asyncio.to_thread(time.sleep, 0.05)
            job.interrupt()
            await job.ended()
            (user.folder / "go").touch()
            while "stop" not in calls(user.folder):
                await asyncio.to_thread(time.sleep, 0.05)
        assert calls(user.folder) == ["start", "stop"]


@pytest.mark.timeout(150)
async def test_a_provider_without_capacity_is_not_asked_for_a_cancelled_job(user: User, keeper: Keeper) -> None:
    flags = (*provider(user.folder), "--gpu", "studio")
    (user.folder / "full").touch()
    async with keeper.hub(), user.runs("monitor", *flags, WAKESTREAM_KEY=keeper.keys["monitor"]):
        await keeper.sees("off")
        async with user.submits() as job:
            await keeper.sees("no_capacity")
            job.interrupt()
            await job.ended()
        await keeper.sees("off")
