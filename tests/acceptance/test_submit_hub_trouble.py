"""Hubs that are not there, speak nonsense, turn the user away or come back: what `submit` makes of them."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.field.house import KEY, field, go_online
from tests.support.field.hub import field_hub
from tests.support.ports import free_port
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Joining, Place, held
from wakestream.adapters.cli.render.log_reader import line
from wakestream.adapters.net.acceptor import accept_no_more

Talk = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def talking(user: User, talk: Talk, **options: Any) -> AsyncIterator[str]:
    """A hub that does nothing but `talk`."""

    async def served(socket: ServerConnection) -> None:
        try:
            await talk(socket)
        except ConnectionClosed:
            return

    async with serve(served, "127.0.0.1", 0, close_timeout=0.1, **options) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        user.environment |= {"API_SERVER_URL": f"http://{address}", "WAKESTREAM_KEY": KEY}
        try:
            yield address
        finally:
            await accept_no_more(server)


async def nothing(socket: ServerConnection) -> None:
    async for _ in socket:
        pass


async def garbage(socket: ServerConnection) -> None:
    for frame in ("", "hello", "{", "[1, 2]", "null", "3", '"text"', "{}", '{"type": 5}', b"\x00\xff\xfe", "[" * 5000):
        await socket.send(frame)
    await nothing(socket)


async def wrong_shapes(socket: ServerConnection) -> None:
    for frame in (
        {"type": "connected", "fd": "seven"},
        {"type": "registered", "features": {"grant": True}, "key": 5},
        {"type": "server.notice", "level": 3, "data": [1, "two", None]},
        {"type": "ack"},
        {"type": "ack", "request_id": 17},
        {"type": "gpu.power.offline", "data": [], "request_id": {}},
        {"type": "error", "msg": {"deep": 1}, "message": 5},
        {"type": "gpu.job.result", "result": "none"},
    ):
        await socket.send(json.dumps(frame))
    await nothing(socket)


async def knows_no_key(socket: ServerConnection) -> None:
    await socket.send(json.dumps({"type": "error", "message": "Invalid license key"}))


async def closes(socket: ServerConnection) -> None:
    await socket.close(1008, "go away")


async def too_large(socket: ServerConnection) -> None:
    await socket.send("x" * 200_000)
    await nothing(socket)


@pytest.mark.parametrize("talk", [garbage, nothing, closes, too_large], ids=lambda talk: talk.__name__)
async def test_a_server_that_is_not_a_hub_fails_within_the_timeout(user: User, talk: Talk) -> None:
    async with talking(user, talk) as address:
        ran = await user.submit("--hub-timeout", "0.5")
    assert (ran.code, ran.last["code"]) == (4, "hub_unreachable"), ran
    assert address in ran.last["why"]
    assert "Traceback" not in ran.err


async def test_a_hub_that_sends_only_invalid_frames_grants_nothing(user: User) -> None:
    async with talking(user, wrong_shapes):
        ran = await user.submit("--reply-timeout", "0.5", "--online-timeout", "0.5")
    assert (ran.code, ran.last["event"], ran.all("granted")) == (3, "timed_out", []), ran
    assert "Traceback" not in ran.err


async def test_a_web_server_that_answers_500_is_no_hub(user: User) -> None:
    def refuse(*_: object) -> Response:
        from websockets import Headers

        return Response(500, HTTPStatus(500).phrase, Headers({"Content-Length": "0", "Connection": "close"}), b"")

    async with talking(user, nothing, process_request=refuse) as address, user.submits() as job:
        waits = await job.event("waking", phase="hub_unreachable")
    assert waits["why"] == f"hub ws://{address}/dsp: the connection was refused with HTTP 500"


@pytest.mark.parametrize("open_port", [True, False])
async def test_an_unreachable_hub_is_reported_with_its_address(user: User, open_port: bool) -> None:
    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))
        if open_port:  # a listener that never says a word
            quiet.listen()
        address = f"127.0.0.1:{quiet.getsockname()[1]}"
        ran = await user.submit("--hub-timeout", "0.3", API_SERVER_URL=f"http://{address}", WAKESTREAM_KEY=KEY)
    assert (ran.code, ran.last["code"]) == (4, "hub_unreachable")
    assert address in ran.last["why"]


@pytest.mark.parametrize(
    ("swallows", "flag", "words"),
    [
        ({"gpu.job.submit"}, "--reply-timeout", "the hub did not answer within 0.3 s"),
        (set(), "--online-timeout", "the GPU did not come online within 0.3 s.*--online-timeout"),
    ],
    ids=["a hub that never answers", "a GPU that never comes"],
)
async def test_why_a_job_timed_out_is_said(user: User, swallows: set[str], flag: str, words: str) -> None:
    async with field(user, online=False) as (hub, _):
        hub.swallows = swallows
        ran = await user.run("submit", "clip.mp4", "speech.wav", flag, "0.3")
    assert ran.code == 3
    assert re.search(words, ran.out, re.DOTALL), ran


async def test_what_an_old_hub_complains_of_without_a_jobs_name_is_said(user: User) -> None:
    async with field(user) as (hub, _):
        hub.complains = "Task queue is closed"
        ran = await user.submit()
    assert (ran.code, ran.last["event"]) == (0, "done"), ran
    assert "Task queue is closed" in ran.err


async def test_an_approaching_maximum_uptime_is_reported(user: User) -> None:
    async with field(user, online=False) as (hub, worker), user.runs(*user.command()) as running:
        await running.event("queued")
        news = {"type": "gpu.power.state", "gpu": "studio", "state": "online"}
        await hub.tell(news | {"msg": "its worker is initialized"})
        await hub.tell(news | {"msg": "will be stopped in 600 s: the longest uptime is nearly over", "stops_in": 600})
        await go_online(hub, worker)
        ran = await running.ended()
    assert (ran.code, ran.last["event"]) == (0, "done")
    warned = [each for each in map(line, ran.err.splitlines()) if "studio" in each.message]
    assert [(each.level, each.message.partition(":")[0]) for each in warned] == [
        ("WARNING", "studio will be stopped in 600 s")
    ]


@pytest.mark.parametrize("kind", ["ours", "old"])
async def test_a_wrong_license_is_reported_at_once(user: User, place: Place, kind: str) -> None:
    async with asyncio.timeout(100), place.hub(), talking(user, knows_no_key) as old:
        url = place.hub_url if kind == "ours" else f"http://{old}"
        ran = await user.submit(API_SERVER_URL=url, WAKESTREAM_KEY="wrong-key-0123456789")
    assert ran.code == 2, ran
    assert "licen" in ran.last["why"]
    assert "wrong-key" not in ran.out + ran.err


async def test_a_license_that_is_revoked_while_the_job_waits_ends_it(user: User, place: Place) -> None:
    async with place.hub() as hub, user.submits() as job:
        await job.event("queued")
        place.book.revoke(place.licenses["client"].id, 0.0)
        hub.licenses.look()
        ran = await job.ended()
    assert ran.code == 2, ran
    assert "revoked" in ran.last["why"]


async def test_a_license_of_another_role_is_reported(user: User, place: Place) -> None:
    async with place.hub():
        ran = await user.submit(API_SERVER_URL=place.hub_url, WAKESTREAM_KEY=place.keys["worker"])
    assert ran.code == 2, ran
    assert "worker" in ran.last["why"]


async def test_our_hub_killed_in_the_wait_and_started_again_is_given_the_same_job(user: User, place: Place) -> None:
    command = ("hub", "--state", str(place.folder / "hub"), "--listen")
    user.environment |= place.client_settings()
    async with user.runs(*command, f"127.0.0.1:{free_port()}") as first:
        address = await first.address()
        async with user.submits("--job-id", "job-1", API_SERVER_URL=address) as job:
            await job.event("queued")
            first.process.kill()
            await job.event("waking", phase="hub_lost")
            async with place.hub(int(address.rpartition(":")[2].removesuffix("/dsp"))) as second:
                await job.event("queued")
                assert held(second) == ["job-1"]
                async with place.worker(Joining()):
                    ran = await job.ended()
                assert held(second) == []
    assert (ran.code, ran.last["event"]) == (0, "done"), ran


async def test_an_old_hub_restarted_in_the_wait_is_given_the_same_job(user: User) -> None:
    async with (
        AsyncExitStack() as life,
        field(user, online=False, hub_life=life) as (first, worker),
        user.submits() as job,
    ):
        await job.event("queued")
        await life.aclose()
        await job.event("waking", phase="hub_lost")
        async with field_hub(port=int(first.url.rpartition(":")[2])) as second:
            await second.until(lambda: second.submits)
            assert second.submits == first.submits
            await go_online(second, worker)
            ran = await job.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert second.faults == worker.http.faults == []
