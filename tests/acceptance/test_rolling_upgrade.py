"""Two hubs are stopped and started in turn while jobs are in flight: each job is done, by programs of any version."""

import asyncio
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.programs.cluster_scene import HouseOfTwo
from tests.support.programs.mixed_versions import NOT_HERE, OURS, PROGRAMS, RELEASED


@pytest.mark.timeout(300)
@pytest.mark.parametrize("peers", [OURS, RELEASED], ids=["ours", "released"])
async def test_jobs_in_flight_are_done_once_while_each_hub_is_stopped_and_started(
    postgres: PostgresServer, tmp_path: Path, peers: Path
) -> None:
    if not peers.exists():
        pytest.skip(NOT_HERE)
    pythons = dict.fromkeys(PROGRAMS, peers) | {"hub": OURS}
    address = await asyncio.to_thread(postgres.database)
    async with asyncio.timeout(280), HouseOfTwo(address, tmp_path, pythons).open() as house:
        house.hold.touch()
        async with house.submitted("at-work") as at_work, house.submitted("waiting") as waiting:
            await at_work.event("running")
            for standby, leader in (("hub-b", "hub"), ("hub", "hub-b")):
                await house.replace(standby, OURS)
                await house.stop(leader)
                await house.leads(standby)
                await house.start(leader)
            house.hold.unlink()
            assert await house.outcome("at-work", at_work) == "done"
            assert await house.outcome("waiting", waiting) == "done"
        assert await house.runs("afterwards") == "done"
        runs = (tmp_path / "engine.log").read_text().splitlines()
        assert sum(line.startswith("begin") for line in runs) == 3, runs
