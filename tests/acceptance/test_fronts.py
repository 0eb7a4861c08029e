"""Peers at a front get what peers of the hub get, and the hub that leads decides alone. See also `test_hub.py`."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from tests.support.log_lines import logged
from tests.support.programs.certificates import Authority
from tests.support.programs.cluster_scene import SUBMIT, Cluster
from tests.support.programs.hub_scene import ONLINE, WITHIN, Place
from tests.support.programs.mixed_versions import NOT_HERE, OURS, PROGRAMS, RELEASED, House
from tests.support.programs.our_peers import until
from wakestream.adapters.hub import admission, front, fronts
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.front import FrontConfig, open_front
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.tls import ServerTls, client_context
from wakestream.adapters.runtime.tasks import end
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub import events as f


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        yield Place(tmp_path, stack)


async def answer(url: str, **headers: str) -> tuple[int, str]:
    """Status and text of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, additional_headers=headers):
            pass
    return caught.value.response.status_code, (caught.value.response.body or b"").decode()


async def test_nothing_more_is_read_from_peers_while_much_waits_for_the_leader() -> None:
    class Slow:
        """A connection that takes a message when the gate is open."""

        gate, sizes = asyncio.Event(), list[int]()

        async def send(self, message: bytes) -> None:
            await self.gate.wait()
            self.sizes.append(len(message))

    slow = Slow()
    leader = front._Leader(slow)  # type: ignore[arg-type]
    writing = asyncio.create_task(leader.write())
    for _ in range(front.WAITING // 60_000 + 1):
        leader.put(fronts.Said(1, b"x" * 60_000))
    reading = asyncio.create_task(leader.room())
    await asyncio.wait((reading,), timeout=0.01)
    assert not reading.done()
    slow.gate.set()
    async with asyncio.timeout(WITHIN):
        await reading
    for number in range(200):  # many strangers at once, each with as long a key as a header can have
        leader.put(fronts.Came(number, "192.0.2.1", "é" * 8000))
    leader.put(fronts.Said(1, b"x" * 60_000))
    await until(lambda: not leader._items)
    await end(writing)
    assert max(slow.sizes) < admission._LIBRARY_LIMIT


# In one process


async def test_peers_of_two_fronts_are_peers_of_one_hub(place: Place) -> None:
    hub = await place.hub()
    await place.front(hub.url)
    client, monitor = await place.client(), await place.monitor("gpu")
    await place.front("ws://127.0.0.1:9/dsp", hub.url)
    assert (await client.ask(**SUBMIT, request_id="job"))["type"] == "gpu.power.offline"
    assert (await monitor.first("gpu.job.submit"))["request_id"] == "job"
    worker, other = await place.worker(), await place.client()
    assert len({client.fd, monitor.fd, worker.fd, other.fd}) == 4
    await worker.send(**ONLINE)
    batch = await worker.first("gpu.job.dispatch.batch")
    assert [job["request_id"] for job in batch["data"]["jobs"]] == ["job"]
    for peer in (client, monitor, other):
        assert (await peer.first("gpu.power.online"))["data"]["url"] == "http://w:1"


async def test_a_hub_that_stops_closes_the_peers_of_its_front_and_the_next_hub_gets_them(place: Place) -> None:
    journal, keep = FakeJournal[f.Fact](), LicenseBook(place.book.path.parent)
    async with open_hub(HubConfig(keep), journal) as first:
        running = await place.front(first.url)
        client = await place.client()
        await client.ask(**SUBMIT, request_id="job")
    assert await client.closed() == 1006
    status, text = await answer(place.url)
    assert (status, text) == (503, "this front has no connection to a hub that leads: try again in 1 s\n")
    async with open_hub(HubConfig(keep, port=first.port), journal), asyncio.timeout(WITHIN):
        await running.connected.wait()
        again = await (await place.client()).ask(**SUBMIT, request_id="job")
        assert again["data"]["position"] == 1


@pytest.mark.parametrize("role", ["worker", "nothing"])
async def test_a_front_needs_a_key_of_its_role_and_says_so(place: Place, role: str) -> None:
    hub = await place.hub()
    config = FrontConfig(hub.url, place.keys.get(role, "ws_front_wrong"), 500, Room(10, 10))
    with logged("ERROR") as lines:
        async with open_front(config) as running, asyncio.timeout(WITHIN):
            assert (await answer(running.url))[0] == 503
            await until(lambda: bool(lines))
    assert "HTTP 401: a front needs a valid key of the role front; `wakestream license issue --role front`" in lines[0]
    assert config.key not in lines[0]


async def test_a_front_of_another_version_is_refused_with_both_numbers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await place.hub()
    key = {"Authorization": f"Bearer {place.keys['front']}"}
    status, said = await answer(hub.url.replace("/dsp", "/front/2"), **key)
    assert status == 426
    assert said.startswith("this hub has number 1 of the protocol for fronts, and the front has '2'")
    monkeypatch.setattr(front, "FORMAT", 2)
    with logged("ERROR") as lines:
        async with open_front(FrontConfig(hub.url, place.keys["front"], 500, Room(10, 10))), asyncio.timeout(WITHIN):
            await until(lambda: bool(lines))
    assert "install one version of wakestream on both" in lines[0]


async def test_a_revoked_front_and_its_peers_are_disconnected(place: Place) -> None:
    hub = await place.hub()
    await place.front(hub.url)
    client = await place.client()
    place.book.revoke(LicenseBook(place.book.path.parent).all()[-1].id, 1.0)
    assert await client.closed() == 1006
    assert (await answer(place.url))[0] == 503
    assert hub.connections == 0


async def test_a_revoked_client_is_closed_with_the_reason_of_the_hub(place: Place) -> None:
    hub = await place.hub()
    await place.front(hub.url)
    client = await place.client()
    place.book.revoke(place.book.all()[0].id, 1.0)
    assert (await client.first("kicked"))["msg"] == "this license was revoked"
    assert await client.closed() == 4403


async def test_the_hub_counts_wrong_keys_and_uses_by_the_address_that_the_front_sees(place: Place) -> None:
    uses = LicenseUses.of_folder(place.book.path.parent)
    hub = await place.hub(uses=uses)
    await place.front(hub.url, proxies=[IPv4Network("127.0.0.1")])
    owner = {one.role: one.id for one in place.book.all()}
    far = {"X-Forwarded-For": "203.0.113.7"}
    good = await place.connect(additional_headers=far)
    await good.ask(type="register", key=place.keys["client"])
    assert uses.uses[owner["client"]].address == "203.0.113.7"
    for _ in range(admission.TRIES + 1):
        bad = await place.connect(additional_headers=far)
        await bad.send(type="register", key="wrong-key-wrong-key")
        code = await bad.closed()
    assert (code, bad.socket.close_reason) == (4401, "too many wrong keys came from this address: try again in 10 s")
    assert (await place.client()).fd, "other addresses are not affected"


async def test_what_a_front_does_not_have_is_said_with_the_address_of_the_hub(place: Place) -> None:
    hub = await place.hub()
    await place.front(hub.url)
    at = place.url.removesuffix("/dsp")
    assert await answer(f"{at}/operator/") == (404, f"this is a front; the operator's page is at the hub: {hub.url}\n")
    assert await answer(f"{at}/front/1") == (404, f"this is a front; connect to a hub: {hub.url}\n")
    async with connect(f"{at}/pair") as guest:
        said = msgspec.json.decode(await guest.recv())
    assert said["msg"] == f"this is a front; use the code with the address of a hub: {hub.url}"
    status, page = await answer(f"{at}/", **{"Accept-Language": "zh-CN"})
    assert (status, "前置服务器" in page) == (200, True)


async def test_a_peer_that_does_not_read_is_cut_and_holds_no_one_back(place: Place) -> None:
    hub = await place.hub()
    running = await place.front(hub.url)
    slow, monitor, client = await place.client(), await place.monitor("gpu"), await place.client()
    slow.socket.transport.pause_reading()
    text = "m" * 60_000
    while not running.refused["slow_reader"]:
        await monitor.send(type="gpu.power.booted", msg=text)
        assert (await client.first("gpu.power.booted"))["msg"] == text
    while hub.connections > 2:  # monitor and client
        await client.silent()
    slow.socket.transport.abort()


async def test_a_front_that_does_not_read_is_cut_and_the_hub_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "MOST", 1000)
    hub = await place.hub()
    direct = await place.client(), await place.monitor("gpu")
    key = {"Authorization": f"Bearer {place.keys['front']}"}
    async with connect(hub.url.replace("/dsp", "/front/1"), additional_headers=key) as slow:
        register = msgspec.json.encode({"type": "register", "key": place.keys["client"]})
        await slow.send(msgspec.msgpack.encode([fronts.Came(7, "127.0.0.1", ""), fronts.Said(7, register)]))
        await slow.recv()
        slow.transport.pause_reading()
        while not hub.refused["slow_reader"]:
            await direct[1].send(type="gpu.power.booted", msg="m" * 60_000)
            await direct[0].first("gpu.power.booted")
        while hub.connections > 2:
            await direct[0].silent()
        slow.transport.abort()


async def test_a_message_that_is_no_list_of_items_ends_the_front_with_its_peers(place: Place) -> None:
    hub = await place.hub()
    key = {"Authorization": f"Bearer {place.keys['front']}"}
    with logged("ERROR") as lines:
        async with connect(hub.url.replace("/dsp", "/front/1"), additional_headers=key) as broken:
            await broken.send(msgspec.msgpack.encode([fronts.Came(7, "127.0.0.1", "")]))
            await broken.recv()
            assert hub.connections == 1
            await broken.send(b"no list")
            async with asyncio.timeout(WITHIN):
                await broken.wait_closed()
    assert "it is disconnected" in lines[0]
    assert hub.connections == 0


async def test_both_connections_of_a_front_use_tls(place: Place, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    tls, ca = ServerTls(*authority.issue()), client_context(authority.path)
    hub = await place.hub(tls=tls)
    running = await place.front(hub.url, tls=tls, ca=ca)
    assert (hub.url[:4], running.url[:4]) == ("wss:", "wss:")
    client = await place.connect(ssl=ca)
    assert (await client.ask(type="register", key=place.keys["client"]))["type"] == "registered"
    with logged("ERROR") as lines:
        async with open_front(FrontConfig(hub.url, place.keys["front"], 500, Room(10, 10))), asyncio.timeout(WITHIN):
            await until(lambda: bool(lines))
    assert "certificate" in lines[0]


# As programs


def released(*names: str) -> dict[str, Path]:
    return dict.fromkeys((*PROGRAMS, "front"), OURS) | dict.fromkeys(names, RELEASED)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "old",
    [
        (),
        pytest.param(PROGRAMS[1:], marks=pytest.mark.skipif(not RELEASED.exists(), reason=NOT_HERE)),
    ],
    ids=["ours", "with peers of the last release"],
)
async def test_jobs_are_done_through_a_front_that_is_killed_meanwhile(tmp_path: Path, old: tuple[str, ...]) -> None:
    async with asyncio.timeout(110), House(tmp_path, released(*old)).open() as house:
        assert await house.runs("while-off") == "done"
        assert await house.runs("while-on") == "done"
        house.hold.touch()
        async with house.submitted("while-killed") as job:
            await job.event("running")
            os.kill(house.running["front"].pid, signal.SIGKILL)
            await house.running["front"].wait()
            await house.start("front")
            house.hold.unlink()
            assert await house.outcome("while-killed", job) == "done"


class Submitter:
    """Submits jobs at a front, one after the other; again after each reconnection, as our clients do."""

    def __init__(self, cluster: Cluster, front: front.Front, name: str) -> None:
        self.cluster, self.front, self.name = cluster, front, name
        self.acknowledged: list[str] = []
        self.news = asyncio.Event()
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(lambda _: self.news.set())

    async def has(self, count: int) -> None:
        """So many jobs are acknowledged."""
        async with asyncio.timeout(100):
            while len(self.acknowledged) < count:
                assert not self.task.done(), self.task.exception()
                self.news.clear()
                await self.news.wait()

    async def _run(self) -> None:
        while True:
            await self.front.connected.wait()
            with contextlib.suppress(OSError, EOFError, WebSocketException):
                peer = await self.cluster.peer(self.front.url, "client")
                while True:
                    job = f"{self.name}-{len(self.acknowledged)}"
                    await peer.send(**SUBMIT, request_id=job)
                    while (await peer.first("gpu.power.offline"))["request_id"] != job:
                        pass
                    self.acknowledged.append(job)
                    self.news.set()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_leader_that_is_replaced_behind_two_fronts_loses_and_doubles_no_job(
    cluster: Cluster, how: signal.Signals
) -> None:
    first, first_url = await cluster.start("a")
    second, second_url = await cluster.start("b", leads=False)
    fronts = [await cluster.place.front(first_url, second_url) for _ in "ab"]
    submitters = [Submitter(cluster, front, name) for front, name in zip(fronts, "xy", strict=True)]
    for submitter in submitters:
        await submitter.has(50)
    first.process.send_signal(how)
    assert await second.address() == second_url
    before = [len(submitter.acknowledged) for submitter in submitters]
    for submitter, count in zip(submitters, before, strict=True):
        await submitter.has(count + 50)
    await end(*(submitter.task for submitter in submitters))
    acknowledged = [job for submitter in submitters for job in submitter.acknowledged]
    worker = await cluster.peer(fronts[0].url, "worker")
    await worker.send(**ONLINE)
    given: list[str] = []
    while not set(acknowledged) <= set(given):
        batch = await worker.first("gpu.job.dispatch.batch")
        given += [job["request_id"] for job in batch["data"]["jobs"]]
    assert len(given) == len(set(given))
    assert len(given) <= len(acknowledged) + 2, "beside the jobs that were on their way at the end"
