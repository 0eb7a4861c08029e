"""Two real hubs on one real PostgreSQL: what the first one said is still so when the second one leads."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, postgres_server
from tests.support.programs.cluster_scene import SUBMIT, Cluster, has_jobs


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def cluster(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(await asyncio.to_thread(postgres.database), tmp_path, stack)


async def test_a_killed_leader_is_replaced_and_no_queued_job_is_lost(cluster: Cluster) -> None:
    first, first_url = await cluster.start("a")
    second, second_url = await cluster.start("b", leads=False)
    assert "this hub stands by, " in (said := await cluster.standing_by(second_url))
    assert first_url.split(":")[2].removesuffix("/dsp") in said, "it says who leads"
    client = await cluster.peer(first_url, "client")
    for n in range(20):
        assert (await client.ask(**SUBMIT, request_id=f"job-{n}"))["data"]["position"] == n + 1
    first.process.kill()
    assert await second.address() == second_url
    await has_jobs(cluster, second_url, 20)


async def test_a_paused_leader_is_replaced_and_stands_by_when_it_goes_on(cluster: Cluster) -> None:
    first, first_url = await cluster.start("a")
    second, second_url = await cluster.start("b", leads=False)
    client = await cluster.peer(first_url, "client")
    for n in range(3):
        await client.ask(**SUBMIT, request_id=f"job-{n}")
    first.process.send_signal(signal.SIGSTOP)
    assert await second.address() == second_url
    again = await cluster.peer(second_url, "client")
    assert (await again.ask(**SUBMIT, request_id="job-3"))["data"]["position"] == 4
    await client.send(**SUBMIT, request_id="late")
    first.process.send_signal(signal.SIGCONT)
    assert await client.closed() == 1006, "it answers nothing, and cuts its connections"
    assert second_url.split(":")[2].removesuffix("/dsp") in await cluster.standing_by(first_url)
    await has_jobs(cluster, second_url, 4)


async def test_a_hub_whose_database_crashes_leads_again_when_it_is_back(
    cluster: Cluster, postgres: PostgresServer
) -> None:
    hub, url = await cluster.start("a")
    client = await cluster.peer(url, "client")
    await client.ask(**SUBMIT, request_id="job-0")
    await asyncio.to_thread(postgres.stop, "immediate")
    assert await client.closed() == 1006
    await asyncio.to_thread(postgres.start)
    assert await hub.address() == url
    await has_jobs(cluster, url, 1)
