"""A budget with the real programs: hub, monitor with a worker as its machine, and a user."""

import asyncio
import datetime
from contextlib import AsyncExitStack

import orjson
import pytest

from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_keeper import Keeper


async def phase(user: User, wanted: str) -> None:
    """Returns when the hub reports the GPU in this phase."""
    async with asyncio.timeout(40):
        while True:
            told = orjson.loads((await user.run("status", "--json")).out)
            if wanted in [gpu["phase"] for gpu in told["gpus"]]:
                return


async def test_a_job_waits_for_money_and_goes_on_when_the_budget_is_raised(user: User, keeper: Keeper) -> None:
    zone = ("--time-zone", "Pacific/Kiritimati", "--currency", "EUR")
    small, large = (("--budget-per-day", amount, *zone) for amount in ("1", "10000"))
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(keeper.hub(*large))
        await stack.enter_async_context(keeper.powers())
        assert (await user.submit()).last["event"] == "done"
        hub = await again(stack, hub, keeper, *small)
        await phase(user, "off")  # the idle time is 30 minutes: the hub asks for the stop
        async with user.submits("-o", "second.mp4", "--online-timeout", "12", "--line-every", "1") as waits:
            queued = await waits.event("queued", phase="budget")
            until = datetime.datetime.fromtimestamp(queued["until"], datetime.UTC)
            assert (until.hour, until.minute) == (10, 0), "midnight at UTC+14"
            left = orjson.loads((await user.run("cost", "--json")).out)["budgets"][0]
            assert (left["period"], left["limit"], left["left"]) == ("day", 1, 0)
            while (await waits.event("waking", phase="budget"))["waited"] <= 12:
                pass
            await again(stack, hub, keeper, *large)
            ran = await waits.ended()
    assert ran.last["event"] == "done", "the wait for money does not count as a wait for the GPU"
    assert [event["phase"] for event in ran.all("queued")][-1] != "budget"


async def again(stack: AsyncExitStack, hub: Running, keeper: Keeper, *flags: str) -> Running:
    """The hub once more, with other flags."""
    hub.interrupt()
    await hub.ended()
    return await stack.enter_async_context(keeper.hub(*flags))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget-per-day", "20"], "a budget needs a price; add --price-per-hour PRICE"),
        (["--budget-per-day", "much"], "'much' is no amount of money; write 20, or 12.50"),
        (["--gpu-budget", "studio=20"], "'studio=20' is no budget; write studio=20/300, studio=20/ or studio=/300"),
        (["--gpu-budget", "studio=/"], "'studio=/' is no budget"),
        (["--time-zone", "Berlin"], "'Berlin' is no time zone; write Europe/Berlin, or UTC"),
    ],
)
async def test_wrong_flags_are_explained(user: User, flags: list[str], said: str) -> None:
    ran = await user.run("hub", "--state", "hub", *flags)
    assert ran.code == 2
    assert said in ran.err
