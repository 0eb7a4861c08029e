"""Keep-warm hours with the real programs: hub, and a monitor with a worker as its machine."""

import asyncio

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper


@pytest.mark.timeout(150)
async def test_a_gpu_is_on_without_a_job_in_the_hours_and_stops_when_they_end(user: User, keeper: Keeper) -> None:
    loop = asyncio.get_running_loop()
    async with keeper.hub("--keep-warm", "studio=daily 00:00-24:00") as hub, keeper.powers("--idle-after", "2"):
        await keeper.sees("online")
        begin = loop.time()
        while loop.time() < begin + 6:  # three idle times
            why = await user.run("why", "gpu")
            assert "GPU studio is on but not in use; it is kept on until" in why.out
            assert " UTC (keep-warm hours)" in why.out
        hub.interrupt()
        await hub.ended()
        async with keeper.hub():
            await keeper.sees("off")
