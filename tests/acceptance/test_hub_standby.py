"""Two real hubs on one real PostgreSQL: what the first one said is still so when the second one leads."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_scene import ONLINE, Peer, Place

SUBMIT = {"type": "gpu.job.submit", "task_type": "heygem_submit", "payload": {"video_hash": "a", "video_ext": ".mp4"}}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


class Cluster:
    """Hubs in folders of their own, on one database, and the peers of one test."""

    def __init__(self, address: str, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments

        self.address, self.folder, self.stack = address, folder, stack
        self.place = Place(PostgresDocuments(address), stack)
        (folder / "user").mkdir(parents=True)
        self.user = User(folder / "user")

    async def start(self, name: str, *, leads: bool = True) -> tuple[Running, str]:
        """A hub; returns it with its address, when it leads or answers that another one leads."""
        port = free_port()
        flags = ("--listen", f"127.0.0.1:{port}", "--state", str(self.folder / name), "--journal", self.address)
        hub = await self.stack.enter_async_context(self.user.runs("hub", *flags))
        url = f"ws://127.0.0.1:{port}/dsp"
        if leads:
            assert await hub.address() == url
        else:
            await self.standing_by(url)
        return hub, url

    async def standing_by(self, url: str) -> str:
        """What the hub at this address says when it answers 503."""
        self.place.url = url
        refused: InvalidStatus | None = None
        async with asyncio.timeout(60):
            while refused is None:
                try:
                    await (await self.place.connect()).closed()
                except InvalidStatus as error:
                    refused = error
                except (OSError, ConnectionClosed):
                    await asyncio.sleep(0.05)  # it does not listen yet, or is closing
        assert (refused.response.status_code, refused.response.headers["Retry-After"]) == (503, "1")
        return refused.response.body.decode()

    async def peer(self, url: str, role: str) -> Peer:
        self.place.url = url
        return await getattr(self.place, role)()  # type: ignore[no-any-return]


@pytest.fixture
async def cluster(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(await asyncio.to_thread(postgres.database), tmp_path, stack)


async def has_jobs(cluster: Cluster, url: str, count: int) -> None:
    """The hub gives these jobs to a worker, in their order."""
    worker = await cluster.peer(url, "worker")
    await worker.send(**ONLINE)
    batch = await worker.first("gpu.job.dispatch.batch")
    assert [job["request_id"] for job in batch["data"]["jobs"]] == [f"job-{n}" for n in range(count)]


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
