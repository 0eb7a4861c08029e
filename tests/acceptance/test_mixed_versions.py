"""Each program of this tree beside the programs of the last release, in every mix, and replaced while a job runs."""

import asyncio
import itertools
from collections import deque
from pathlib import Path

import pytest

from tests.support.programs.mixed_versions import NOT_HERE, OURS, PROGRAMS, RELEASED, House

pytestmark = pytest.mark.skipif(not RELEASED.exists(), reason=NOT_HERE)

MIXES = [dict(zip(PROGRAMS, pythons, strict=True)) for pythons in itertools.product((RELEASED, OURS), repeat=4)]


def name_of(mix: dict[str, Path]) -> str:
    return "-".join(f"{'new' if mix[name] == OURS else 'old'}_{name}" for name in PROGRAMS)


@pytest.mark.parametrize("mix", MIXES, ids=name_of)
async def test_jobs_are_done_in_every_mix_and_while_its_old_programs_are_replaced(
    mix: dict[str, Path], tmp_path: Path
) -> None:
    old = deque(name for name in PROGRAMS if mix[name] != OURS)
    old.rotate(MIXES.index(mix))
    async with asyncio.timeout(100), House(tmp_path, mix).open() as house:
        assert await house.runs("while-off") == "done"
        assert await house.runs("while-on") == "done"
        house.hold.touch()
        async with house.submitted("while-replaced") as job:
            await job.event("running")
            for name in old:
                await house.replace(name, OURS)
            house.hold.unlink()
            assert await house.outcome("while-replaced", job) == "done"
