"""Frames of every kind of wrongness at the hub's socket, from peers of every role."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.fuzz.attacked_hub import ROLES, Attacked, attacked
from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.hostile_values import FRAMES, nested
from tests.support.fuzz.raw_websocket import BINARY, CLOSE, PING, PONG, TEXT, frame
from wakestream.streams.protocol import wire

SIZE = 256 * 1024  # beyond this the library itself ends the connection


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Attacked]:
    async with attacked(tmp_path) as scene:
        yield scene


@BOUNDED
@pytest.mark.parametrize("role", ROLES)
@given(payloads=st.lists(FRAMES, min_size=1, max_size=4))
@example(payloads=[b'{"type":"x","request_id":"%b"}' % (b"x" * (wire.MAX_FRAME - 40))])
@example(payloads=[b'{"type":"gpu.job.submit","request_id":"fuzz","payload":{"a":%b}}' % nested(90)])
@example(payloads=[nested(30_000), b'{"a":' * 10_000])
async def test_any_frame_is_accepted_or_refused_and_counted(hub: Attacked, role: str, payloads: list[bytes]) -> None:
    peer = await hub.peer(role)
    before = hub.server.refused.total()
    for payload in payloads:
        peer.write(frame(TEXT, payload))
    heard = await hub.heard_all(peer)
    errors = [message for message in heard if message["type"] == "error"]
    marker = 0 if peer.close_code is not None else 1
    assert hub.server.refused.total() - before == len(errors) + marker
    assert all(error["msg"] and error["code"] for error in errors)
    await peer.close()
    await hub.is_well()


PIECES = st.lists(st.integers(1, 400), max_size=6)
CONTROL = st.sampled_from([b"", frame(PING, b"x"), frame(PONG), frame(PONG, b"never asked"), frame(PING, b"p" * 125)])


@BOUNDED
@given(cuts=PIECES, between=CONTROL, code=st.sampled_from([TEXT, BINARY]))
async def test_fragments_are_joined_to_one_message(hub: Attacked, cuts: list[int], between: bytes, code: int) -> None:
    peer = await hub.peer("client")
    whole = b'{"type":"gpu.status.query","request_id":"in pieces","padding":"%b"}' % (b"x" * 400)
    ends = sorted({*cuts, len(whole)})
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        peer.write(frame(code if number == 0 else 0, whole[start:end], fin=end == len(whole)) + between)
    heard = await hub.heard_all(peer)
    assert [message["request_id"] for message in heard] == ["in pieces"]
    await peer.close()


WRONG = {
    "a compressed frame though nothing was negotiated": frame(TEXT, b"\xaaV\xaa\x04\x00", rsv=4),
    "a reserved bit": frame(TEXT, b"{}", rsv=1),
    "a reserved opcode": frame(3, b"x"),
    "a reserved control opcode": frame(11, b""),
    "an unmasked frame": frame(TEXT, b"{}", masked=False),
    "a control frame in fragments": frame(PING, b"x", fin=False),
    "a control frame that is too long": frame(PING, b"x" * 126),
    "a continuation of nothing": frame(0, b"x"),
    "a new message within another": frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"),
    "a close frame of one byte": frame(CLOSE, b"x"),
    "a close code that is not one": frame(CLOSE, (5).to_bytes(2, "big")),
    "a close reason that is no UTF-8": frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff\xfe"),
    "a frame that says it has 2^63 bytes": frame(TEXT, b"x" * 100, says=1 << 63),
    "a frame that says it has almost 2^63 bytes": frame(TEXT, b"x" * 100, says=(1 << 63) - 1),
    "a frame that says it is too large": frame(TEXT, b"x" * 100, says=SIZE + 1),
    "ten million bytes": frame(TEXT, b'"' + b"x" * 10_000_000 + b'"'),
    "fragments that never end": (frame(TEXT, b"x" * 1000, fin=False) + frame(0, b"x" * 1000, fin=False) * 300),
    "bytes of no frame": b"GET / HTTP/1.1\r\n\r\n" * 5,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize("role", ["", "client"])
async def test_a_protocol_error_ends_its_connection_and_is_counted(hub: Attacked, role: str, wrong: bytes) -> None:
    peer = await hub.peer(role)
    before = hub.server.refused["bad_frame"] + hub.server.refused["huge_frame"]
    peer.write(wrong)
    while await peer.hear() is not None:
        pass
    assert peer.close_code in (1002, 1007, 1009, None)
    await hub.is_well()
    assert hub.server.refused["bad_frame"] + hub.server.refused["huge_frame"] == before + 1


@BOUNDED
@given(st.lists(st.tuples(st.integers(0, 15), st.binary(max_size=130), st.booleans(), st.integers(0, 7)), max_size=8))
async def test_the_hub_survives_any_frames(hub: Attacked, frames: list[tuple[int, bytes, bool, int]]) -> None:
    peer = await hub.peer("client")
    for code, payload, fin, rsv in frames:
        peer.write(frame(code, payload, fin=fin, rsv=rsv))
    await hub.heard_all(peer)
    await peer.close()
    await hub.is_well()


@BOUNDED
@given(st.binary(max_size=300))
async def test_the_hub_survives_any_bytes_after_the_handshake(hub: Attacked, data: bytes) -> None:
    peer = await hub.peer()
    peer.write(data)
    await peer.close()
    await hub.is_well()
