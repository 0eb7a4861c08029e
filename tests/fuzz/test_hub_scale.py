"""Thousands of idle connections at the hub's real program, and floods that must not make it grow."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fuzz.raw_websocket import BINARY, PING, REQUEST, TEXT, RawWebSocket, frame

if sys.platform != "linux":
    pytest.skip("reads the memory of a process from /proc", allow_module_level=True)

from tests.support.fuzz.hub_process import Program, hub_program, room_for
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.runtime.rlimits import SPARE

IDLE = int(os.environ.get("WAKESTREAM_IDLE", "5000")) if room_for(5000) else 500
PER_CONNECTION = 25_000
"""Bytes that an idle connection may cost."""

FLAGS = ("--per-license", "20000", "--per-address", "20000", "--log-level", "WARNING")


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    async with hub_program(tmp_path / "state", *FLAGS) as program:
        yield program


async def registered(program: Program) -> RawWebSocket:
    peer = await RawWebSocket.upgraded(program.port)
    peer.say(type="register", key=program.key)
    await peer.hear_until(type="registered")
    return peer


async def many(program: Program, count: int) -> list[RawWebSocket]:
    peers: list[RawWebSocket] = []
    while len(peers) < count:
        peers += await asyncio.gather(*(registered(program) for _ in range(min(50, count - len(peers)))))
    return peers


async def worker(program: Program) -> RawWebSocket:
    peer = await RawWebSocket.upgraded(program.port)
    peer.say(type="register", role="worker", token=program.worker_key, gpu="gpu", url="http://w:1")
    await peer.hear_until(type="registered")
    return peer


async def test_idle_connections_are_held_cheaply_and_all_hear_a_broadcast(program: Program) -> None:
    first = await many(program, 100)  # what is loaded and set up once is not the connections' cost
    before = program.memory()
    idle = await many(program, IDLE)
    each = (program.memory() - before) / IDLE
    assert each <= PER_CONNECTION, f"{each:.0f} bytes for each"
    gpu = await worker(program)
    gpu.say(type="gpu.power.online", data={"status": "online"})
    heard = await asyncio.gather(*(peer.hear() for peer in (*first, *idle)))
    assert {message["type"] for message in heard if message is not None} == {"gpu.power.online"}
    assert None not in heard
    start = time.monotonic()
    fresh = await registered(program)
    fresh.say(type="gpu.job.submit", request_id="fresh")
    assert (await fresh.hear() or {})["type"] == "ack"
    assert time.monotonic() - start < 10
    for peer in (*first, *idle, gpu, fresh):
        peer.writer.transport.abort()


async def test_the_hub_raises_its_own_limit_of_open_files(tmp_path: Path) -> None:
    low = ("sh", "-c", 'ulimit -Sn 150; exec "$@"', "sh")
    async with hub_program(tmp_path / "state", *FLAGS, under=low) as program:
        peers = await many(program, 300)
        for peer in peers:
            await peer.close()


async def test_beyond_what_the_system_allows_the_hub_refuses_in_words(tmp_path: Path) -> None:
    low = ("sh", "-c", 'ulimit -Sn 150; ulimit -Hn 150; exec "$@"', "sh")
    async with hub_program(tmp_path / "state", *FLAGS, under=low) as program:
        peers = [await registered(program) for _ in range(Room.of(150 - SPARE).known)]
        late = await RawWebSocket.connect(program.port)
        late.write(REQUEST % b"")
        assert b" 503 " in await late.head()
        for peer in (*peers, late):
            await peer.close()


FLOODS = {
    "unknown types with much in them": frame(TEXT, json.dumps({"type": "x", "y": ["z" * 50] * 500}).encode()) * 20,
    "pings": frame(PING, b"p" * 125) * 5000,
    "messages of one byte fragments": (frame(TEXT, b"{", fin=False) + frame(0, b" ", fin=False) * 500 + frame(0, b"}")),
    "frames that are too large": frame(BINARY, b"x" * 200_000) * 3,
    "submits of large jobs": b"".join(
        frame(
            TEXT, json.dumps({"type": "gpu.job.submit", "request_id": f"{n}", "payload": {"x": "y" * 50_000}}).encode()
        )
        for n in range(20)
    ),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=list(FLOODS))
async def test_a_flood_does_not_make_the_hub_grow(program: Program, flood: bytes) -> None:
    async def attack(times: int) -> None:
        for _ in range(times):
            peer = await registered(program)
            peer.write(flood)
            peer.say(type="no such thing", request_id="marker")
            await peer.hear_until(type="error", request_id="marker")
            await peer.close()

    await attack(3)
    before = program.memory()
    await attack(12)
    assert program.memory() - before < 24 * 1024 * 1024
    await (await registered(program)).close()


async def test_messages_begun_and_never_ended_are_bounded_for_each_connection(program: Program) -> None:
    before = program.memory()
    peers = await many(program, 50)
    for peer in peers:
        peer.write(frame(TEXT, b"x" * 1_000_000, says=10_000_000))
        peer.write(frame(TEXT, b"x" * 200_000, fin=False))
    for peer in peers:
        assert [message["type"] for message in await peer.hear_until(type="never")] == []
        assert peer.close_code == 1009
        await peer.close()
    assert program.memory() - before < 50 * 1024 * 1024
    raw = await RawWebSocket.connect(program.port)
    raw.write(REQUEST % b"")
    assert b" 101 " in await raw.head()
    await raw.close()
