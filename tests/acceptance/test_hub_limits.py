"""What the hub bears of one address: connections, how fast they come, handshakes that never end, and wrong keys."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.programs.our_peers import Place, until
from wakestream.adapters.config.addresses import network
from wakestream.adapters.hub import admission as guard
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.connection_limits import Network
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub.events import Fact
from wakestream.streams.hub.hub import Limits


@asynccontextmanager
async def hub_with(place: Place, proxies: tuple[Network, ...] = (), **limits: Any) -> AsyncGenerator[HubServer, None]:
    book = LicenseBook(place.folder / "hub")
    config = HubConfig(book, limits=Limits(**limits), proxies=proxies)
    async with open_hub(config, FakeJournal[Fact]()) as hub:
        yield hub


async def refusal(url: str, **options: Any) -> tuple[int, str, int]:
    """Status, text and Retry-After of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, **options):
            pass
    response = refused.value.response
    return response.status_code, (response.body or b"").decode(), int(response.headers["Retry-After"])


async def register(socket: ClientConnection, key: str) -> dict[str, Any]:
    await socket.recv()
    await socket.send(json.dumps({"type": "register", "key": key}))
    answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


async def heard(socket: ClientConnection) -> AsyncGenerator[str | bytes, None]:
    """All that comes until the connection is closed."""
    with suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def guess(hub: HubServer, **options: Any) -> str:
    """What a wrong key meets: the code of a refusal, or why the connection was closed."""
    async with connect(hub.url, **options) as socket:
        try:
            return str((await register(socket, "a wrong key"))["code"])
        except ConnectionClosed as closed:
            return f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "gone"


async def test_wrong_keys_slow_an_address_down_and_the_right_key_still_works(place: Place) -> None:
    async with hub_with(place) as hub:
        for _ in range(guard.TRIES):
            assert await guess(hub) == "unauthorized"
        assert (await guess(hub)).startswith("4401 too many wrong keys came from this address: try again in ")
        assert hub.refused["wrong_keys"] == 1
        async with connect(hub.url) as socket:  # guesses one after the other, and no look at the answers
            for key in ("another guess", place.keys["client"]):
                await socket.send(json.dumps({"type": "register", "key": key}))
            said = [json.loads(text)["type"] async for text in heard(socket)]
            assert "registered" not in said
        async with connect(hub.url) as socket:
            assert (await register(socket, place.keys["client"]))["type"] == "registered"
        async with connect(hub.url, additional_headers={"Authorization": f"Bearer {place.keys['client']}"}) as socket:
            await socket.recv()
            await socket.send('{"type":"register"}')
            assert json.loads(await socket.recv())["type"] == "registered"
        if sys.platform == "linux":  # where all of 127.0.0.0/8 is this machine
            assert await guess(hub, local_addr=("127.0.0.2", 0)) == "unauthorized"


@pytest.mark.parametrize(("named", "another"), [((network("127.0.0.1"),), "unauthorized"), ((), "4401 ")])
async def test_only_a_known_proxy_names_its_caller(place: Place, named: tuple[Network, ...], another: str) -> None:
    def seen_as(address: str) -> dict[str, Any]:
        return {"additional_headers": {"X-Forwarded-For": f"203.0.113.1, {address}"}}

    async with hub_with(place, proxies=named) as hub:
        for _ in range(guard.TRIES):
            assert await guess(hub, **seen_as("192.0.2.66")) == "unauthorized"
        assert (await guess(hub, **seen_as("192.0.2.66"))).startswith("4401 ")
        assert (await guess(hub, **seen_as("192.0.2.7"))).startswith(another)


async def come_and_go(hub: HubServer, times: int) -> None:
    for _ in range(times):
        async with connect(hub.url):
            pass
        await until(lambda: not hub.connections)


async def test_a_revoked_key_does_not_count_as_a_guess(place: Place) -> None:
    place.book.revoke(place.licenses["client"].id, 0.0)
    async with hub_with(place) as hub:
        for _ in range(guard.TRIES + 1):
            async with connect(hub.url) as socket:
                assert (await register(socket, place.keys["client"]))["code"] == "unauthorized"


async def test_connecting_too_fast_is_refused_with_a_retry_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "NEW_EVERY", 1.0)  # faster than this machine at its slowest
    async with hub_with(place, per_address=1) as hub:
        with pytest.raises(InvalidStatus) as refused:
            await come_and_go(hub, 2 * guard.SPARE)
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        assert b"this address connects too often" in (response.body or b"")


async def test_a_key_in_the_header_is_judged_before_the_handshake(place: Place) -> None:
    async with hub_with(place, per_license=1) as hub, AsyncExitStack() as stack:
        headers = {"additional_headers": {"Authorization": f"Bearer {place.keys['client']}"}}
        first = await stack.enter_async_context(connect(hub.url, **headers))
        await first.recv()
        await first.send('{"type":"register","device_type":"pc"}')
        assert json.loads(await first.recv())["type"] == "registered"
        status, text, after = await refusal(hub.url, **headers)
        assert (status, after, "this license has 1 connections already" in text) == (429, 5, True)
        place.book.revoke(place.licenses["client"].id, 0.0)
        hub.licenses.look()
        with pytest.raises(InvalidStatus) as refused:
            async with connect(hub.url, **headers):
                pass
        assert refused.value.response.status_code == 401
        # what we do not know may be for a gateway before us: the key can still come with register
        other = {"additional_headers": {"Authorization": "Bearer for-another-peer"}}
        await stack.enter_async_context(connect(hub.url, **other))


async def test_silent_connections_are_limited_and_freed_on_close(place: Place) -> None:
    async with hub_with(place, per_address=64) as hub, AsyncExitStack() as stack:
        silent = [await asyncio.open_connection("127.0.0.1", hub.port) for _ in range(40)]
        for _, writer in silent:
            stack.callback(writer.close)
        await until(lambda: hub.refused["crowded_address"] + hub.refused["evicted"] == 40 - 16)
        for _, writer in silent:
            writer.close()
        await until(lambda: hub.refused["bad_handshake"] >= 16)
        async with connect(hub.url) as socket:
            assert (await register(socket, place.keys["client"]))["type"] == "registered"
