"""A budget with the real programs: hub, monitor with a worker as its machine, and a user."""

import datetime
from contextlib import AsyncExitStack

import pytest

from tests.support.programs.client_scene import Running, User
from tests.support.programs.here import Here
from tests.support.programs.hub_keeper import Keeper, zone_of_day


@pytest.mark.timeout(150)
async def test_a_job_waits_for_money_and_goes_on_when_the_budget_is_raised(user: User, keeper: Keeper) -> None:
    name, midnight = zone_of_day()
    zone = ("--time-zone", name, "--currency", "EUR")
    small, large = (("--budget-per-day", amount, *zone) for amount in ("1", "10000"))
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(keeper.hub(*large))
        await stack.enter_async_context(keeper.powers())
        assert (await user.submit()).last["event"] == "done"
        hub = await again(stack, hub, keeper, *small)
        await keeper.sees("off")  # the idle time is 30 minutes: the hub asks for the stop
        async with user.submits("-o", "second.mp4", "--line-every", "1") as waits:
            queued = await waits.event("queued", phase="budget")
            until = datetime.datetime.fromtimestamp(queued["until"], datetime.UTC)
            assert (until.hour, until.minute) == (midnight, 0), f"midnight in {name}"
            (left,) = (await keeper.asks()).budgets or ()
            assert (left["period"], left["limit"], left["left"]) == ("day", 1, 0)
            line = await waits.event("waking", phase="budget")
            assert line["until"] == queued["until"]
            await again(stack, hub, keeper, *large)
            ran = await waits.ended()
    assert ran.last["event"] == "done"


async def again(stack: AsyncExitStack, hub: Running, keeper: Keeper, *flags: str) -> Running:
    """The hub once more, with other flags."""
    hub.interrupt()
    await hub.ended()
    return await stack.enter_async_context(keeper.hub(*flags))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget-per-day", "much"], "'much' is no amount of money; write 20, or 12.50"),
        (["--gpu-budget", "studio=20"], "'studio=20' is no budget; write studio=20/300, studio=20/ or studio=/300"),
        (["--gpu-budget", "studio=/"], "'studio=/' is no budget"),
        (["--time-zone", "Berlin"], "'Berlin' is no time zone; write Europe/Berlin, or UTC"),
        (["--keep-warm", "Mo-Fr 9-18"], "write for example Mon-Fri 09:00-18:00"),
        (["--power-webhook", "https://shop.example/power"], "set WAKESTREAM_WEBHOOK_SECRET"),
    ],
)
def test_wrong_flags_are_explained(user: User, here: Here, flags: list[str], said: str) -> None:
    here(user, "hub", "--state", "hub", *flags).says(said, code=2)
