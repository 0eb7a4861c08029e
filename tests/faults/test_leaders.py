"""Leaders of a cluster are killed and paused under load: an account of what they said, and of what the others know.

`WAKESTREAM_FAULTS=long` kills 200 leaders and pauses 20, and replaces leaders with 100,000 queued jobs.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from tests.support.programs.client_scene import Running
from tests.support.programs.cluster_scene import SUBMIT, Cluster, queue_jobs, queued
from tests.support.programs.hub_scene import ONLINE, Peer

LONG = os.environ.get("WAKESTREAM_FAULTS") == "long"
FLIGHT, OF_LICENSE = 100, 900

REGISTER = {"type": "register", "features": ["done", "released"]}
LATE = {"type": "hub.status.query", "request_id": "late"}


class Account:
    """What a client asked for, and what the answers say is on the disk.

    It keeps submits in flight at whichever hub lets it in, ends every fifth job, and says again what was not confirmed.
    """

    def __init__(self, cluster: Cluster, urls: list[str]) -> None:
        self.cluster, self.urls = cluster, urls
        self.asked, self.acknowledged, self.ended, self.released = set[str](), set[str](), set[str](), set[str]()
        self.most = 0
        self.stop = False
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`, and until all is confirmed."""
        place = self.cluster.place
        while not self._settled():
            if not self.stop and len(self.acknowledged) == self.most and self.released == self.ended:
                _, place.keys["client"] = await asyncio.to_thread(place.book.issue, "client", "", time.time())
                self.most += OF_LICENSE  # all jobs that a license may have
            for url in self.urls:
                with contextlib.suppress(OSError, EOFError, WebSocketException, TimeoutError):
                    peer = await place.connect(url)
                    answer = await peer.ask(**REGISTER, key=place.keys["client"])
                    if answer["type"] == "registered":
                        await self._use(peer)
                    else:  # it does not know the new license yet
                        await asyncio.sleep(0.6)
            await asyncio.sleep(0.02)

    def _settled(self) -> bool:
        return self.stop and len(self.acknowledged) == len(self.asked) and self.released == self.ended

    async def _use(self, peer: Peer) -> None:
        for job in self.asked - self.acknowledged:
            await peer.send(**SUBMIT, request_id=job)
        for job in self.ended - self.released:
            await peer.send(type="gpu.job.done", request_id=job)
        while not self._settled() and (self.stop or len(self.acknowledged) < self.most or self.released != self.ended):
            while not self.stop and len(self.asked) < min(self.most, len(self.acknowledged) + FLIGHT):
                self.asked.add(job := f"job-{len(self.asked)}")
                await peer.send(**SUBMIT, request_id=job)
            await self._take(peer)

    async def _take(self, peer: Peer) -> None:
        frame = await peer.get()
        job = frame.get("request_id", "")
        if frame["type"] == "gpu.power.offline":
            self.acknowledged.add(job)
            if int(job.removeprefix("job-")) % 5 == 0 and job not in self.ended:
                self.ended.add(job)
                await peer.send(type="gpu.job.done", request_id=job)
        elif frame["type"] == "gpu.job.released":
            self.released.add(job)
        elif frame["type"] == "error":
            raise AssertionError(frame)
        self.news.set()


def compare(account: Account, given: Counter[str]) -> None:
    """The jobs of a worker against the answers to the client."""
    lost = account.asked - account.ended - given.keys()
    assert not lost, f"{len(lost)} are lost: {sorted(lost)[:10]}"
    back = account.released & given.keys()
    assert not back, f"{len(back)} were released and came back: {sorted(back)[:10]}"
    twice = [job for job, times in given.items() if times > 1]
    assert not twice, f"{len(twice)} were given twice: {twice[:10]}"


class Term:
    """The hubs, of which one leads, and the account of their client."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.chance = cluster, random.Random(seed)
        self.hubs: dict[str, Running] = {}
        self.account = Account(cluster, [])
        self.took: list[float] = []
        self._names = itertools.count()

    async def start(self, *, leads: bool = False) -> str:
        """One more hub."""
        hub, url = await self.cluster.start(str(next(self._names)), leads=leads)
        self.hubs[url] = hub
        self.account.urls.append(url)
        return url

    async def leader(self, *without: str) -> str:
        """The address that lets a client in. Which one that is, is for the hubs: a busy machine may change it."""
        async with asyncio.timeout(120):
            while True:
                for url in self.hubs.keys() - set(without):
                    with contextlib.suppress(OSError, EOFError, WebSocketException, TimeoutError):
                        await (await self.cluster.place.connect(url)).socket.close()
                        return url
                await asyncio.sleep(0.02)

    async def load(self, working: asyncio.Task[None]) -> None:
        """Return at a random moment after the client was heard."""
        async with asyncio.timeout(120):
            for _ in range(self.chance.randrange(1, 60)):
                self.account.news.clear()
                if not working.done():
                    await self.account.news.wait()
                if working.done():
                    working.result()

    async def kill(self) -> None:
        """Kill the leader, and start another hub once it is replaced."""
        url, began = await self.leader(), time.monotonic()
        self.hubs[url].process.kill()
        self.account.urls.remove(url)
        await self.hubs.pop(url).process.wait()
        await self.leader()
        self.took.append(time.monotonic() - began)
        await self.start()

    async def pause(self) -> None:
        """Pause the leader until it is replaced. What it is asked meanwhile it must never answer."""
        url, late = await self.answering()
        began = time.monotonic()
        self.hubs[url].process.send_signal(signal.SIGSTOP)
        try:
            await late.send(**LATE)
            await self.leader(url)
            self.took.append(time.monotonic() - began)
        finally:
            self.hubs[url].process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(120):
            with contextlib.suppress(ConnectionClosed):
                while "hub.status.response" not in (answer := str(await late.socket.recv(decode=True))):
                    pass
                raise AssertionError(f"a former leader answered: {answer}")
            await self.stands_by(url)

    async def answering(self) -> tuple[str, Peer]:
        """The leader and a client that it has answered: one that lets a client in may lead no more a moment later."""
        async with asyncio.timeout(120):
            while True:
                url = await self.leader()
                with contextlib.suppress(OSError, EOFError, WebSocketException):
                    late = await self.cluster.place.connect(url)
                    await late.ask(**REGISTER, key=self.cluster.place.keys["late"])
                    await late.send(**LATE)
                    await late.first("hub.status.response")
                    return url, late

    async def stands_by(self, url: str) -> None:
        """Return when the hub says that another one leads, or leads again."""
        while True:
            try:
                await (await self.cluster.place.connect(url)).socket.close()
            except InvalidStatus:
                return
            except (OSError, EOFError, WebSocketException):
                await asyncio.sleep(0.02)
            else:
                return

    async def given(self) -> Counter[str]:
        """The jobs that a worker is given now, by a hub that leads until then; what is lost does not come."""
        while True:
            with contextlib.suppress(ConnectionError, EOFError, WebSocketException):
                return await self._given(await self.cluster.peer(await self.leader(), "worker"))

    async def _given(self, worker: Peer) -> Counter[str]:
        await worker.send(**ONLINE)
        found = Counter[str]()
        with contextlib.suppress(TimeoutError):
            while len(found) < len(self.account.asked) - len(self.account.ended):
                frame = await worker.get()
                if frame["type"] == "gpu.job.dispatch.batch":
                    found.update(job["request_id"] for job in frame["data"]["jobs"])
        return found


async def account_of(cluster: Cluster, *turns: str, before: int = 0) -> Term:
    """Kill and pause leaders in these turns while a client is busy, and compare the answers with the disk.

    With jobs that were there `before`, this is what the journal has; otherwise it is what a worker is given.
    """
    seed = random.randrange(10**6)
    _, cluster.place.keys["late"] = cluster.place.book.issue("client", "late", time.time())
    term = Term(cluster, seed)
    await term.start(leads=True)
    await term.start()
    working = asyncio.create_task(term.account.run())
    working.add_done_callback(lambda _: term.account.news.set())
    try:
        for turn in turns:
            await term.load(working)
            await (term.kill() if turn == "kill" else term.pause())
        term.account.stop = True
        await asyncio.wait_for(working, 120)
        given = await asyncio.to_thread(queued, cluster.address) if before else await term.given()
        compare(term.account, given)
        assert sum(job.startswith("queued-") for job in given) == before
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        working.cancel()
    account, how = term.account, " and ".join(sorted({*turns}))
    sys.stdout.write(
        f"\n{how}: {len(turns)} leaders, seed {seed}; {len(account.acknowledged)} acknowledged, "
        f"{len(account.released)} released, 0 lost, 0 doubled; replaced in {statistics.median(term.took):.2f} s "
        f"(median), {max(term.took):.2f} s (worst)\n"
    )
    return term


TURNS = [["kill"] * 200, ["pause"] * 20] if LONG else [["kill", "pause", "kill", "pause", "kill"]]


@pytest.mark.timeout(3600 if LONG else 900)
@pytest.mark.parametrize("turns", TURNS, ids=lambda turns: f"{len(turns)}-times")
async def test_all_that_leaders_said_holds_however_often_they_end(cluster: Cluster, turns: list[str]) -> None:
    await account_of(cluster, *turns)


@pytest.mark.skipif(not LONG, reason="it measures: WAKESTREAM_FAULTS=long")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("turn", "within"), [("kill", 2.0), ("pause", 5.0)])
async def test_a_leader_with_100_000_jobs_is_replaced_in_time(cluster: Cluster, turn: str, within: float) -> None:
    await asyncio.to_thread(queue_jobs, cluster.address, 100_000)
    term = await account_of(cluster, *[turn] * 5, before=100_000)
    assert statistics.median(term.took) < within


BROKEN = {
    "acknowledges_before_it_writes": (
        "kill",
        "are lost",
        """
real = journal.StoredJournal.append
async def late(self, facts):
    self.later = [*getattr(self, "later", ()), asyncio.ensure_future(after(self, facts))]
async def after(self, facts):
    await asyncio.sleep(60)
    await real(self, facts)
journal.StoredJournal.append = late
""",
    ),
    "answers_although_another_one_leads": (
        "pause",
        "a former leader answered",
        """
async def confirmed(self):
    pass
def written(self, rows, batch):
    write(self, rows, batch)
write = journal.StoredJournal._write
journal.StoredJournal._write = written
journal.StoredJournal._confirm = confirmed
journal.StoredJournal._break = lambda self, error: error
from wakestream.adapters.hub import admission, config
admission.GuardedConnection.outdated = False
config.Leadership.answers = property(lambda role: role.leads)
""",
    ),
}
"""What the account must find: the turn, what it says then, and the code that breaks the hubs."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", BROKEN)
async def test_the_account_finds_a_hub_that(cluster: Cluster, tmp_path: Path, fault: str) -> None:
    turn, said, code = BROKEN[fault]
    (tmp_path / "broken").mkdir()
    begin = "import asyncio\nfrom wakestream.adapters.disk import journal\n"
    (tmp_path / "broken" / "sitecustomize.py").write_text(begin + code)
    cluster.user.environment["PYTHONPATH"] = str(tmp_path / "broken")
    with pytest.raises(AssertionError, match=said):
        await account_of(cluster, turn)


def test_the_account_finds_what_came_back_and_what_came_twice() -> None:
    account = Account.__new__(Account)
    account.asked, account.ended, account.released = {"a", "b"}, {"b"}, {"b"}
    compare(account, Counter("a"))
    with pytest.raises(AssertionError, match="1 were released and came back"):
        compare(account, Counter("ab"))
    with pytest.raises(AssertionError, match="1 were given twice"):
        compare(account, Counter("aa"))
