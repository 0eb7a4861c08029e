"""Leaders of a cluster are killed and paused under load: all that was acknowledged is there, each job once.

Only with `WAKESTREAM_FAULTS=long`, and on a machine that is not busy: a leader that gets no processor for three seconds
loses its session, as it should, and then another hub leads than this test ended.
"""

import asyncio
import contextlib
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from tests.support.postgres import PostgresServer, postgres_server
from tests.support.programs.client_scene import Running
from tests.support.programs.cluster_scene import SUBMIT, Cluster
from tests.support.programs.hub_scene import ONLINE, Peer

FLIGHT, OF_LICENSE = 100, 900


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def cluster(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(await asyncio.to_thread(postgres.database), tmp_path, stack)


class Client:
    """Keeps submits in flight, at whichever hub lets it in, and submits again what was not acknowledged."""

    def __init__(self, cluster: Cluster, urls: list[str]) -> None:
        self.cluster, self.urls = cluster, urls
        self.acknowledged: set[str] = set()
        self.asked: list[str] = []
        self.most = 0
        self.stop = False

    async def run(self) -> None:
        place = self.cluster.place
        while not self.stop:
            if len(self.acknowledged) == self.most:  # all jobs that a license may have
                _, place.keys["client"] = await asyncio.to_thread(place.book.issue, "client", "", time.time())
                self.most += OF_LICENSE
            for url in self.urls:
                with contextlib.suppress(OSError, EOFError, WebSocketException, TimeoutError):
                    try:
                        peer = await self.cluster.peer(url, "client")
                    except AssertionError:  # it does not know the new license yet
                        await asyncio.sleep(0.3)
                        continue
                    await self._use(peer)
            await asyncio.sleep(0.05)

    async def _use(self, peer: Peer) -> None:
        for job in self.asked:
            if job not in self.acknowledged:
                await peer.send(**SUBMIT, request_id=job)
        while len(self.acknowledged) < (len(self.asked) if self.stop else self.most):
            while not self.stop and len(self.asked) < min(self.most, len(self.acknowledged) + FLIGHT):
                self.asked.append(f"job-{len(self.asked)}")
                await peer.send(**SUBMIT, request_id=self.asked[-1])
            frame = await peer.get()
            if frame["type"] == "gpu.power.offline":
                self.acknowledged.add(frame["request_id"])
            elif frame["type"] == "error":
                raise AssertionError(frame)
            await asyncio.sleep(0.002)


@pytest.mark.skipif(
    os.environ.get("WAKESTREAM_FAULTS") != "long", reason="it takes half an hour: WAKESTREAM_FAULTS=long"
)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("how", "times"), [("kill", 200), ("pause", 20)])
async def test_all_acknowledged_jobs_are_there_once_however_often_the_leader_ends(
    cluster: Cluster, how: str, times: int
) -> None:
    seed = random.randrange(10**6)
    chance, took = random.Random(seed), list[float]()
    first, url = await cluster.start("0")
    hubs: dict[str, Running] = {url: first}
    standby = await cluster.start("1", leads=False)
    client = Client(cluster, [url, standby[1]])
    working = asyncio.create_task(client.run())
    for n in range(times):
        await asyncio.wait((working,), timeout=chance.uniform(0.1, 0.6))
        assert not working.done(), working.exception()
        leader, (other, other_url) = hubs.pop(url), standby
        began = time.monotonic()
        leader.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        assert await other.address() == other_url, f"seed {seed}"
        took.append(time.monotonic() - began)
        hubs[other_url] = other
        if how == "kill":
            standby = await cluster.start(str(n + 2), leads=False)
        else:
            leader.process.send_signal(signal.SIGCONT)
            await cluster.standing_by(url)
            standby = leader, url
        url = other_url
        client.urls[:] = [url, standby[1]]
    client.stop = True
    await asyncio.wait_for(working, 60)
    worker = await cluster.peer(url, "worker")
    await worker.send(**ONLINE)
    given: list[str] = []
    with contextlib.suppress(TimeoutError):  # what is lost does not come
        while len(given) < len(client.asked):
            frame = await worker.get()
            if frame["type"] == "gpu.job.dispatch.batch":
                given += [job["request_id"] for job in frame["data"]["jobs"]]
    assert sorted(given) == sorted(client.asked), f"seed {seed}"
    sys.stdout.write(
        f"\n{how}: {times} times, seed {seed}; {len(client.acknowledged)} acknowledged, 0 lost, 0 doubled; "
        f"replaced in {statistics.median(took):.2f} s (median), {max(took):.2f} s (worst)\n"
    )
