"""The link on real sockets: it registers at each connection, notices silence, and takes its leave politely."""

import asyncio
import itertools
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.support.ports import free_port
from tests.support.programs.our_peers import SECRET, Place, held, until
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net import hub_link as links
from wakestream.adapters.net.acceptor import accept_no_more
from wakestream.adapters.net.certificates import make_certificate
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.events import Cancelled, Job, JobEvent, Queued
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.protocol import messages as m


class Hub:
    """Registers every peer; after that it may be `deaf`: it reads, and does not answer."""

    def __init__(self) -> None:
        self.url, self.port = "", 0
        self.deaf = False
        self.stands_by = False
        self.cluster: str | None = None
        self.turned_away = 0
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sockets: list[ServerConnection] = []
        self.codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        await socket.send('{"type":"connected","fd":1}')
        try:
            async for raw in socket:
                frame = orjson.loads(raw)
                registered = {"type": "registered", **({"cluster": self.cluster} if self.cluster else {})}
                answer = {"register": registered, "ping": {"type": "pong"}}.get(frame["type"])
                if answer and (frame["type"] == "register" or not self.deaf):
                    await socket.send(orjson.dumps(answer).decode())
                self.frames.put_nowait(frame)
        finally:
            self.codes.put_nowait(socket.close_code)

    async def hears(self, kind: str) -> dict[str, Any]:
        while (frame := await self.frames.get())["type"] != kind:
            pass
        return frame

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        if not self.stands_by:
            return None
        self.turned_away += 1
        return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "this hub stands by, another one leads\n")


@asynccontextmanager
async def serving(host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hub]:
    hub = Hub()
    options: dict[str, Any] = {"process_request": hub.admit, "close_timeout": 0.1, "ssl": tls}
    async with serve(hub.serve, host, port, **options) as server:
        hub.port = server.sockets[0].getsockname()[1]
        hub.url = f"{'wss' if tls else 'ws'}://{host}:{hub.port}/dsp"
        try:
            yield hub
        finally:
            await accept_no_more(server)


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(links, "RECONNECT", Backoff(initial=0.01, max_delay=0.02))
    async with serving() as hub:
        yield hub


@pytest.fixture
async def second() -> AsyncIterator[Hub]:
    async with serving() as hub:
        yield hub


@asynccontextmanager
async def linked(hub: Hub, *more: str) -> AsyncIterator[tuple[Link, asyncio.Queue[Any]]]:
    numbers = itertools.count(1)
    link = Link(",".join((hub.url, *more)), lambda: m.Register(key=f"key-{next(numbers)}"))
    heard: asyncio.Queue[Any] = asyncio.Queue()
    link.events.subscribe(heard.put_nowait)
    try:
        yield link, heard
    finally:
        await link.close()


async def first(heard: asyncio.Queue[Any], kind: type[Any]) -> Any:
    while not isinstance(event := await heard.get(), kind):
        pass
    return event


async def test_it_takes_its_leave_with_a_normal_closure(hub: Hub) -> None:
    async with linked(hub) as (link, heard):
        assert not link.send(m.Ping())
        await first(heard, LinkUp)
        assert link.up
        assert link.send(m.JobDone(request_id="job-1"))
    assert await hub.hears("gpu.job.done") == {"type": "gpu.job.done", "request_id": "job-1"}
    assert await hub.codes.get() == 1000
    assert not link.up
    assert not link.send(m.Ping())


async def test_closed_in_the_middle_of_connecting_it_leaves_no_task(hub: Hub) -> None:
    tasks = asyncio.all_tasks()
    link = Link(hub.url, lambda: m.Register(key="key"))
    await link.close()
    assert {task for task in asyncio.all_tasks() - tasks if "hub link" in task.get_name()} == set()


async def test_the_link_sends_pings_and_answers_them(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PING_EVERY", 0.02)
    async with linked(hub) as (_, heard):
        for _ in range(3):
            await hub.hears("ping")
            await first(heard, m.Pong)
        await hub.sockets[0].send('{"type":"ping"}')
        await hub.hears("pong")


async def test_a_hub_that_falls_silent_is_left_and_looked_for_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert links.SILENCE == 2 * links.PING_EVERY == 50.0
    monkeypatch.setattr(links, "PING_EVERY", 0.05)
    monkeypatch.setattr(links, "SILENCE", 0.1)
    hub.deaf = True
    async with linked(hub) as (_, heard):
        await first(heard, LinkUp)
        down = await first(heard, LinkDown)
        assert "no message arrived for 0.1 s" in down.reason
        await first(heard, LinkUp)
    assert len(hub.sockets) >= 2


async def test_a_disconnect_is_reported_and_followed_by_a_new_registration(hub: Hub) -> None:
    async with linked(hub) as (link, heard):
        await first(heard, LinkUp)
        hub.sockets[0].transport.abort()
        await first(heard, LinkDown)
        assert not link.up
        await first(heard, LinkUp)
        assert [(await hub.hears("register"))["key"] for _ in range(2)] == ["key-1", "key-2"]


async def test_a_kick_is_reported_with_its_code(hub: Hub) -> None:
    async with linked(hub) as (_, heard):
        await first(heard, LinkUp)
        await hub.sockets[0].send('{"type":"kicked","msg":"another client uses this key"}')
        down = await first(heard, LinkDown)
        assert (down.code, "another client uses this key" in down.reason) == ("kicked", True)


async def test_a_hub_that_stands_by_or_is_down_is_passed_over_without_a_delay(
    hub: Hub, second: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "RECONNECT", Backoff(initial=3600.0))
    hub.stands_by = True
    async with linked(hub, f"ws://127.0.0.1:{free_port()}/dsp", second.url) as (link, heard):
        assert isinstance(await heard.get(), LinkUp), "nothing is reported of the others"
        assert (link.url, hub.turned_away) == (second.url, 1)


async def test_after_a_disconnect_the_last_good_hub_comes_first_and_then_the_others(hub: Hub, second: Hub) -> None:
    hub.stands_by = True
    async with linked(hub, second.url) as (link, heard):
        await first(heard, LinkUp)
        second.sockets[0].transport.abort()
        await first(heard, LinkUp)
        assert (link.url, hub.turned_away) == (second.url, 1)
        hub.stands_by, second.stands_by = False, True
        second.sockets[1].transport.abort()
        await first(heard, LinkUp)
        assert (link.url, second.turned_away) == (hub.url, 1)


async def test_when_no_hub_can_be_used_one_sentence_says_why_of_each_and_the_next_round_waits(hub: Hub) -> None:
    hub.stands_by = True
    down = f"ws://127.0.0.1:{free_port()}/dsp"
    async with linked(hub, down) as (_, heard):
        reason = (await first(heard, LinkDown)).reason
        assert reason == (
            f"hub {hub.url}: the connection was refused with HTTP 503: this hub stands by, another one leads; "
            f"hub {down}: nothing listens there (connection refused)"
        )
        hub.stands_by = False
        await first(heard, LinkUp)


async def test_a_hub_of_another_cluster_is_not_used_and_the_message_names_both(hub: Hub, second: Hub) -> None:
    hub.cluster, second.cluster = "cluster-x", "cluster-y"
    async with linked(hub, second.url) as (link, heard):
        await first(heard, LinkUp)
        hub.stands_by = True
        hub.sockets[0].transport.abort()
        await first(heard, LinkDown)
        reason = (await first(heard, LinkDown)).reason
        assert f"hub {second.url}: it belongs to the cluster cluster-y, and this program uses cluster-x;" in reason
        hub.stands_by = False
        await first(heard, LinkUp)
        assert link.url == hub.url


async def test_a_hub_of_several_that_answers_no_ping_is_left_for_another_one(
    hub: Hub, second: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (links.OF_SEVERAL["ping_interval"], links.OF_SEVERAL["ping_timeout"]) == (5.0, 10.0)
    monkeypatch.setattr(links, "OF_SEVERAL", {"open_timeout": 4.0, "ping_interval": 0.05, "ping_timeout": 0.2})
    second.stands_by = True
    async with linked(hub, second.url) as (link, heard):
        await first(heard, LinkUp)
        hub.sockets[0].transport.pause_reading()
        hub.stands_by, second.stands_by = True, False
        await first(heard, LinkUp)
        assert link.url == second.url


async def test_the_only_hub_may_have_a_new_journal(hub: Hub) -> None:
    hub.cluster = "cluster-x"
    async with linked(hub) as (_, heard):
        await first(heard, LinkUp)
        hub.cluster = "cluster-y"
        hub.sockets[0].transport.abort()
        await first(heard, LinkUp)


async def test_a_name_with_several_addresses_is_several_hubs(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.stands_by = True
    async with serving("127.0.0.2", hub.port) as leader:
        loop = asyncio.get_running_loop()
        known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, hub.port)) for host in ("127.0.0.1", "127.0.0.2")]

        async def resolved(host: str, *arguments: Any, **options: Any) -> list[Any]:
            return known if host == "hub.example" else [(*known[0][:4], (host, hub.port))]

        monkeypatch.setattr(loop, "getaddrinfo", resolved)
        link = Link(f"ws://hub.example:{hub.port}/dsp", lambda: m.Register(key="key"))
        heard: asyncio.Queue[Any] = asyncio.Queue()
        link.events.subscribe(heard.put_nowait)
        assert isinstance(await heard.get(), LinkUp)
        await link.close()
        assert len(leader.sockets) == 1


async def test_a_hub_with_another_certificate_is_passed_over_and_the_message_says_so(hub: Hub, tmp_path: Path) -> None:
    for name in ("ours", "other"):
        make_certificate(tmp_path / f"{name}.pem", tmp_path / f"{name}.key", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "other.pem", tmp_path / "other.key")
    hub.stands_by = True
    async with serving(tls=context) as other:
        trusted = client_context(tmp_path / "ours.pem")
        link = Link(f"{other.url},{hub.url}", lambda: m.Register(key="key"), ca=trusted)
        heard: asyncio.Queue[Any] = asyncio.Queue()
        link.events.subscribe(heard.put_nowait)
        assert f"hub {other.url}: its certificate is not trusted" in (await first(heard, LinkDown)).reason
        hub.stands_by = False
        await first(heard, LinkUp)
        await link.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_so_the_key_stays_here(hub: Hub, status: int) -> None:
    def elsewhere(connection: ServerConnection, request: Request) -> Response:
        answer = connection.respond(HTTPStatus(status), "")
        answer.headers["Location"] = hub.url
        return answer

    async with serve(hub.serve, "127.0.0.1", 0, process_request=elsewhere, close_timeout=0.1) as pointing:
        other = f"ws://127.0.0.1:{pointing.sockets[0].getsockname()[1]}/dsp"
        link = Link(other, lambda: m.Register(key="key-0123456789abcdef"))
        heard: asyncio.Queue[Any] = asyncio.Queue()
        link.events.subscribe(heard.put_nowait)
        down = await heard.get()
        await link.close()
        await accept_no_more(pointing)
    assert f"HTTP {status}: it redirects to '{hub.url}'; if that is your hub, set this address" in down.reason
    assert hub.sockets == []


async def test_a_hundred_waiting_jobs_share_one_connection_and_start_no_thread(place: Place, tmp_path: Path) -> None:
    for name in ("clip.mp4", "speech.wav"):
        (tmp_path / name).write_bytes(b"x" * 1000)
    jobs = [
        Job.lipsync(f"job-{n}", tmp_path / "clip.mp4", tmp_path / "speech.wav", tmp_path / f"{n}.mp4")
        for n in range(100)
    ]
    threads: set[int] = set()
    queued: set[str] = set()

    async with place.hub() as hub:
        settings = Settings(hub_url=place.hub_url, key=place.keys["client"], api_secret=SECRET)
        async with open_client(settings) as client:
            all_queued = asyncio.Event()

            def show(job: Job, event: JobEvent) -> None:
                if isinstance(event, Queued):
                    queued.add(job.id)
                    threads.add(threading.active_count())
                    if len(queued) == len(jobs):
                        all_queued.set()

            running = [asyncio.create_task(client.run(job, lambda event, job=job: show(job, event))) for job in jobs]
            await all_queued.wait()
            assert hub.connections == 1
            assert len(held(hub)) == 100
            for job in jobs:
                assert client.cancel(job.id)
            assert set(await asyncio.gather(*running)) == {Cancelled()}
        await until(lambda: hub.connections == 0)
        assert held(hub) == []
    assert max(threads) - min(threads) <= 2  # those that read files, for all jobs together
