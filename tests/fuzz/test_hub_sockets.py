"""What reaches the hub's port before a handshake is done, too slowly, too often or all at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz.attacked_hub import Attacked, attacked
from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.raw_websocket import PING, REQUEST, TEXT, RawWebSocket, frame
from tests.support.programs.hub_scene import FirstHandshake
from tests.support.programs.our_peers import until
from wakestream.adapters.hub import admission


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Attacked]:
    async with attacked(tmp_path) as scene:
        yield scene


async def answered(hub: Attacked, request: bytes) -> bytes:
    """The status line and headers of the answer; empty if the hub hangs up without one."""
    peer = await RawWebSocket.connect(hub.server.port)
    peer.write(request)
    if peer.writer.can_write_eof() and not peer.writer.is_closing():
        peer.writer.write_eof()
    head = await peer.head()
    await peer.close()
    return head


REQUESTS = {
    "another path": REQUEST.replace(b"/dsp", b"/elsewhere") % b"",
    "a path that climbs": REQUEST.replace(b"/dsp", b"/dsp/../../etc/passwd") % b"",
    "an absolute target": REQUEST.replace(b"/dsp", b"http://x/dsp") % b"",
    "another method": REQUEST.replace(b"GET", b"POST") % b"",
    "a CONNECT": REQUEST.replace(b"GET /dsp", b"CONNECT x:443") % b"",
    "another version of HTTP": REQUEST.replace(b"HTTP/1.1", b"HTTP/3.0") % b"",
    "no upgrade": b"GET /dsp HTTP/1.1\r\nHost: x\r\n\r\n",
    "another version of WebSocket": REQUEST.replace(b"Version: 13", b"Version: 8") % b"",
    "a key that is none": REQUEST.replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"x") % b"",
    "two keys": REQUEST % b"Sec-WebSocket-Key: BAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "a body": REQUEST % b"Content-Length: 5\r\n" + b"hello",
    "two lengths": REQUEST % b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "a length and chunks": REQUEST % b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "a header of a megabyte": REQUEST % (b"X: " + b"x" * 1_000_000 + b"\r\n"),
    "ten thousand headers": REQUEST % (b"X: y\r\n" * 10_000),
    "a folded header": REQUEST % b"X: y\r\n z\r\n",
    "a header without a name": REQUEST % b": y\r\n",
    "NUL in a header": REQUEST % b"X: \0\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "nothing": b"",
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=list(REQUESTS))
async def test_an_invalid_handshake_is_refused_and_counted(hub: Attacked, request_: bytes) -> None:
    head = await answered(hub, request_)
    assert head == b"" or (head.startswith(b"HTTP/1.1 4") and b"\r\nConnection: close\r\n" in head)
    await hub.is_well()
    assert hub.server.refused["bad_handshake"] + hub.server.refused["wrong_path"] == 1


@BOUNDED
@given(st.binary(max_size=400) | st.binary(max_size=100).map(lambda data: REQUEST[:60] + data + REQUEST[60:] % b""))
async def test_the_hub_survives_any_bytes_before_the_handshake(hub: Attacked, data: bytes) -> None:
    await answered(hub, data)
    await hub.is_well()


async def test_a_client_that_offers_compression_gets_none(hub: Attacked) -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    await (await RawWebSocket.upgraded(hub.server.port, offer)).close()


@pytest.mark.parametrize("request_", [REQUEST % b"", b"\x16\x03\x01", b"GET /dsp HTTP/1.1\r\nX: " + b"x" * 7000])
async def test_a_slow_handshake_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: bytes) -> None:
    within = FirstHandshake(0.2)
    monkeypatch.setattr(admission, "_OPEN_WITHIN", within)
    async with attacked(tmp_path) as hub, closing_after(hub) as peer:
        await until(lambda: within.used)
        for byte in request_[:-1]:
            if peer.reader.at_eof():
                break
            peer.write(bytes((byte,)))
            await hub.is_well()  # one byte to each answer of a healthy client
        assert await peer.head() == b""
        assert hub.server.refused["bad_handshake"] == 1


@asynccontextmanager
async def closing_after(hub: Attacked) -> AsyncIterator[RawWebSocket]:
    peer = await RawWebSocket.connect(hub.server.port)
    try:
        yield peer
    finally:
        await peer.close()


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (frame(PING, b"x") * 5000 + frame(TEXT, b'{"type":"ping"}') * 100, {"pong"}),
        (frame(TEXT, b"x" * 10, says=5000), set[str]()),
    ],
    ids=["pings", "a frame that never ends"],
)
async def test_an_unregistered_connection_is_closed_in_spite_of_what_it_sends(
    tmp_path: Path, sent: bytes, answers: set[str]
) -> None:
    later = 0.0
    async with attacked(tmp_path, clock=lambda: time.time() + later, register=10.0) as hub:
        peer = await hub.peer()
        peer.write(sent)
        heard = set[str]()
        while heard != answers:
            message = await peer.hear()
            assert message is not None
            heard.add(message["type"])
        later = 11.0
        heard |= {message["type"] for message in await peer.hear_until(code="register_timeout")}
        assert heard == answers
        assert await peer.hear() is None
        assert hub.server.refused["register_timeout"] == 1


async def test_malformed_frames_end_a_connection_after_a_hundred(hub: Attacked) -> None:
    peer = await hub.peer("client")
    peer.write(frame(TEXT, b"{") * 5000)
    heard = await hub.heard_all(peer)
    assert [message["code"] for message in heard] == ["malformed"] * 100
    assert hub.server.refused["malformed"] == 100
    assert peer.close_code == 1008


async def test_a_flood_of_one_connection_leaves_the_others_their_answers(hub: Attacked) -> None:
    rude = await hub.peer("client")
    for _ in range(20):
        rude.write(frame(PING, b"p" * 125) * 500)
        rude.write(frame(TEXT, b'{"type":"gpu.status.query","request_id":"q"}') * 500)
        await hub.is_well()
    await rude.hear_until(type="gpu.status.response")


async def test_a_flood_of_connections_is_limited_and_frees_its_places(tmp_path: Path) -> None:
    async with attacked(tmp_path, per_address=60) as hub:
        await hub.is_well()
        flood = [await RawWebSocket.connect(hub.server.port) for _ in range(200)]
        for peer in flood:
            peer.write(REQUEST % b"")
        heads = await asyncio.gather(*(peer.head() for peer in flood))
        inside = sum(b" 101 " in head for head in heads)
        assert 0 < inside < 60
        assert hub.server.refused.total() == 200 - inside
        await hub.is_well()
        await asyncio.gather(*(peer.close() for peer in flood))
        while hub.server.connections > 1:
            await hub.is_well()
        await hub.peer("client")


async def test_many_short_connections_leave_nothing_behind(hub: Attacked) -> None:
    await hub.is_well()
    for _ in range(10):
        peers = await asyncio.gather(*(RawWebSocket.connect(hub.server.port) for _ in range(50)))
        for number, peer in enumerate(peers):
            peer.write((b"", REQUEST % b"", b"\0", b"GET ")[number % 4])
        await asyncio.gather(*(peer.close() for peer in peers))
    while hub.server.connections > 1 or len(hub.server.refused) == 0:
        await hub.is_well()
    await hub.is_well()
