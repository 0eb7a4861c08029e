"""The ledger with the real programs, compared with what the machine itself writes down."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper, zone_of_day
from wakestream.adapters.client.client import open_client
from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.operators.model.events import Done, Job, Outcome

CYCLES = 3


@pytest.mark.timeout(240)
async def test_the_ledger_agrees_with_the_machines_own_log_also_over_a_restart_of_the_hub(
    user: User, keeper: Keeper, tmp_path: Path
) -> None:
    log, seen = tmp_path / "machine.log", []
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(keeper.hub())
        await stack.enter_async_context(keeper.powers("--idle-after", "2", log=log))
        for cycle in range(CYCLES):
            if cycle == CYCLES // 2:
                async with user.submits("--total-timeout", "100") as job:
                    await job.event("waking")
                    hub.interrupt()
                    await hub.ended()
                    hub = await stack.enter_async_context(keeper.hub())
                    assert (await job.ended()).last["event"] == "done"
            else:
                assert (await user.submit()).last["event"] == "done"
            await keeper.sees("off")
            seen.append(time.time())  # later than in the machine's log if the monitor stood still
        (gpu,) = (await keeper.asks()).gpus
    lines = [(word, float(at)) for word, at in map(str.split, log.read_text().splitlines())]
    ran = sum(end - begin for (word, begin), (_, end) in pairwise(lines) if word == "on")
    assert [word for word, _ in lines] == ["on", "off"] * CYCLES
    most = sum(end - begin for (_, begin), end in zip(lines[::2], seen, strict=True))
    around = 0.05 * ran + CYCLES
    assert ran - around <= gpu["all"]["cost"] <= most + around


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.timeout(240)
async def test_a_gpu_that_ends_with_its_monitor_is_not_paid_for_until_the_next_start(
    user: User, keeper: Keeper, tmp_path: Path, *, killed: bool
) -> None:
    async with keeper.hub() as hub, keeper.powers(log=tmp_path / "machine.log") as monitor:
        assert (await user.submit()).last["event"] == "done"
        await keeper.sees("online")
        asked_at = time.monotonic()  # before: the answer may be late
        (gpu,) = (await keeper.asks()).gpus
        if killed:
            os.kill(monitor.pid, signal.SIGKILL)
            os.kill(hub.pid, signal.SIGKILL)
        else:
            monitor.interrupt()
            await monitor.ended()
            hub.interrupt()
        await hub.ended()
        most = gpu["all"]["cost"] + time.monotonic() - asked_at
    async with keeper.hub(), keeper.powers():
        await keeper.sees("off")
        (gpu,) = (await keeper.asks()).gpus
    assert gpu["all"]["cost"] <= most + 0.1


@asynccontextmanager
async def jobs(keeper: Keeper, folder: Path, count: int) -> AsyncIterator[list[asyncio.Task[Outcome]]]:
    """So many different jobs, submitted at once; those that are left at the end of the block are cancelled."""
    secret, key = "some-secret-0123456789", keeper.keys["client"]
    async with open_client(
        Settings(hub_url=keeper.user.environment["API_SERVER_URL"], api_secret=Secret(secret), key=Secret(key))
    ) as client:
        running = []
        for number in range(count):
            video, audio = folder / f"{number}.mp4", folder / f"{number}.wav"
            video.write_bytes(b"video %d" % number)
            audio.write_bytes(b"audio %d" % number)
            job = Job.lipsync(f"job-{number}", video, audio, folder / f"{number}-made.mp4")
            running.append(asyncio.ensure_future(client.run(job, lambda _: None)))
        yield running
        for each in running:
            each.cancel()
        await asyncio.wait(running)


@pytest.mark.timeout(240)
async def test_equal_jobs_cost_the_same_whatever_their_place_in_the_queue_was(keeper: Keeper, tmp_path: Path) -> None:
    async with (
        keeper.hub("--time-zone", zone_of_day()[0]),
        keeper.powers("--idle-after", "2", works=1.0),
        jobs(keeper, tmp_path, 12) as running,
    ):
        assert all(isinstance(ended, Done) for ended in await asyncio.gather(*running))
        await keeper.sees("off")
        settings = Settings(hub_url=keeper.user.environment["API_SERVER_URL"], key=Secret(keeper.keys["client"]))
        told = (await ask_hub(settings, costs=True)).costs or {}
    costs = [job["cost"] for job in told["jobs"]]
    assert len(costs) == 12
    assert all(cost >= 1.0 for cost in costs)
    took = [float(line) for line in keeper.took.read_text().split()]  # longer than 1 s if the machine stood still
    assert len(took) == 12
    assert max(costs) < 2.5 * max(took), (costs, took)
    whole = told["totals"]["today"]["cost"]
    assert sum(job["cost"] + job["share"] for job in told["jobs"]) == pytest.approx(whole, abs=0.5)


@pytest.mark.timeout(240)
async def test_a_budget_that_is_spent_stops_the_queue(keeper: Keeper, tmp_path: Path) -> None:
    budget, work, count = 15.0, 4.0, 12
    async with (
        keeper.hub("--budget-per-day", f"{budget:g}", "--time-zone", zone_of_day()[0]),
        keeper.powers("--idle-after", "2", works=work),
        jobs(keeper, tmp_path, count) as running,
    ):
        await keeper.sees("online")
        await keeper.sees("off")
        answer = await keeper.asks()
        done = sum(each.done() for each in running)
    spent = (answer.budgets or ({},))[0]["spent"]
    assert answer.queue == count - done
    assert answer.queue >= 4, "begun work ends, and what waits goes on waiting"
    assert spent < budget + 4 * work
