"""The ledger with the real programs, compared with what the machine itself writes down."""

from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper

CYCLES = 4


@pytest.mark.timeout(240)
async def test_the_ledger_agrees_with_the_machines_own_log_also_over_a_restart_of_the_hub(
    user: User, keeper: Keeper, tmp_path: Path
) -> None:
    log = tmp_path / "machine.log"
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
        (gpu,) = (await keeper.asks()).gpus
    lines = [(word, float(at)) for word, at in map(str.split, log.read_text().splitlines())]
    ran = sum(end - begin for (word, begin), (_, end) in pairwise(lines) if word == "on")
    assert [word for word, _ in lines] == ["on", "off"] * CYCLES
    assert gpu["all"]["cost"] == pytest.approx(ran, abs=0.05 * ran + CYCLES)
