"""The hub is killed while a command renders: no GPU is held for a command that has ended."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_keeper import Keeper
from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Settings


@asynccontextmanager
async def rendering(user: User, keeper: Keeper, *flags: str) -> AsyncIterator[Running]:
    """A command whose hub is killed while it renders."""
    submitted = user.submits("--foreground", "--again", *flags)
    async with keeper.hub() as hub, keeper.powers(works=2.0), submitted as job:
        await job.event("submitted")
        os.kill(hub.pid, signal.SIGKILL)
        await hub.ended()
        yield job


@pytest.mark.timeout(240)
async def test_the_next_command_gets_the_gpu_of_commands_that_ended_while_the_hub_was_away(
    user: User, keeper: Keeper
) -> None:
    at_once = ("--foreground", "--again", "--release-timeout", "0.1")
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(keeper.hub())
        await stack.enter_async_context(keeper.powers(works=3.0))
        first = await stack.enter_async_context(user.submits(*at_once, "--job-id", "first"))
        await first.event("submitted")
        second = await stack.enter_async_context(user.submits(*at_once, "--job-id", "second", "-o", "out2.mp4"))
        await second.event("submitted")  # one renders, one is ahead of its turn: each place is taken
        os.kill(hub.pid, signal.SIGKILL)
        await hub.ended()
        for job in (first, second):
            ran = await job.ended()
            assert (ran.code, ran.last["event"]) == (0, "done"), ran
        await stack.enter_async_context(keeper.hub())
        third = await user.submit("--foreground", "--again", "--online-timeout", "60")
        assert (third.code, third.last["event"]) == (0, "done"), third
        settings = Settings(hub_url=user.environment["API_SERVER_URL"], key=keeper.keys["client"])
        status = await ask_hub(settings, costs=True)
    assert status.gpus[0]["own"] == 0
    took = [float(line) for line in keeper.took.read_text().splitlines()]
    used = {job["id"]: job["used_s"] for job in (status.costs or {})["jobs"]}
    for id_, seconds in zip(("first", "second"), took, strict=False):
        assert abs(used[id_] - seconds) < 2.0, (used, took)


@pytest.mark.timeout(240)
async def test_a_command_tells_a_hub_that_comes_back_that_its_job_has_ended(user: User, keeper: Keeper) -> None:
    async with rendering(user, keeper, "--release-timeout", "100") as job:
        await job.event("done")  # before the wait
        async with keeper.hub():
            assert (await job.ended()).code == 0
            assert (await keeper.asks()).gpus[0]["own"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process there")
@pytest.mark.timeout(240)
async def test_an_interrupt_ends_the_wait_for_the_hub_at_once_and_the_job_is_still_done(
    user: User, keeper: Keeper
) -> None:
    async with rendering(user, keeper, "--release-timeout", "1h") as job:
        await job.event("done")
        job.interrupt()
        ran = await job.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
