"""Each program of this tree beside the programs of the last release, in every mix, and replaced while a job runs."""

import asyncio
import itertools
from collections import deque
from pathlib import Path

import pytest

from tests.support.programs.mixed_versions import NOT_HERE, OURS, PROGRAMS, RELEASED, House

pytestmark = [pytest.mark.skipif(not RELEASED.exists(), reason=NOT_HERE), pytest.mark.timeout(300)]

MIXES = [dict(zip(PROGRAMS, pythons, strict=True)) for pythons in itertools.product((RELEASED, OURS), repeat=4)]


def name_of(mix: dict[str, Path]) -> str:
    return "-".join(f"{'new' if mix[name] == OURS else 'old'}_{name}" for name in PROGRAMS)


@pytest.mark.parametrize("mix", MIXES, ids=name_of)
async def test_jobs_are_done_in_every_mix_and_while_its_old_programs_are_replaced(
    mix: dict[str, Path], tmp_path: Path
) -> None:
    old = deque(name for name in PROGRAMS if mix[name] != OURS)
    old.rotate(MIXES.index(mix))
    async with asyncio.timeout(280), House(tmp_path, mix).open() as house:
        assert await house.runs("while-off") == "done"
        assert await house.runs("while-on") == "done"
        house.hold.touch()
        async with house.submitted("while-replaced") as job:
            await job.event("running")
            for name in old:
                await house.replace(name, OURS)
            house.hold.unlink()
            assert await house.outcome("while-replaced", job) == "done"


async def test_going_back_takes_the_copies_that_the_upgrade_made_and_a_second_upgrade_works(tmp_path: Path) -> None:
    async with asyncio.timeout(280), House(tmp_path, dict.fromkeys(PROGRAMS, RELEASED)).open() as house:
        house.hold.touch()
        async with house.submitted("kept") as job:
            await job.event("running")
            for name in PROGRAMS:
                await house.replace(name, OURS)
            for name in PROGRAMS:
                await house.stop(name)
                house.pythons[name] = RELEASED
                assert "a later version of wakestream wrote it" in await house.refuses(name)
                house.put_back(name)
                await house.start(name)
            house.hold.unlink()
            assert await house.outcome("kept", job) == "done"
        for name in PROGRAMS:
            await house.replace(name, OURS)
        assert await house.runs("again") == "done"
