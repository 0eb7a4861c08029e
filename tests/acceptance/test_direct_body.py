"""Bodies that are taken straight off their connection, which is aiohttp's again afterwards."""

import asyncio
import contextlib
import io
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from blake3 import blake3

from tests.support.engines.pair import idle_engine
from tests.support.programs.our_peers import until
from tests.support.programs.tus_scene import Tus, tus
from wakestream.adapters.disk.hashing_writer import AHEAD
from wakestream.adapters.net import direct_body as module
from wakestream.adapters.net.direct_body import BUFFER, straight
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker

SECRET = "swordfish-0123456789"
CONTENT = blake3(b"a film about a clock").digest(length=6 * BUFFER + 123)


class Owner(asyncio.Protocol):
    """Who has the connection before and after."""

    def __init__(self) -> None:
        self.got = b""
        self.transport: asyncio.Transport
        self.lost = asyncio.Event()
        self.there = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.there.set()

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[Owner, asyncio.StreamWriter]]:
    """The receiving end, and one to send from."""
    owner = Owner()
    server = await asyncio.get_running_loop().create_server(lambda: owner, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        await owner.there.wait()
        yield owner, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        owner.transport.abort()
        await owner.lost.wait()
        server.close()


async def taken(owner: Owner, left: int, idle: float = 20.0) -> bytes:
    """The body, each block copied at the last moment at which it must still be whole."""
    found, held = b"", deque[memoryview]()
    async with aclosing(straight(owner.transport, left, idle)) as blocks:
        async for block in blocks:
            held.append(block)
            if len(held) > AHEAD:
                found += held.popleft()
        return found + b"".join(held)


@pytest.mark.parametrize("length", [1, BUFFER, BUFFER + 1, len(CONTENT)])
async def test_a_body_arrives_complete_and_later_bytes_stay_with_the_connection(length: int) -> None:
    async with connection() as (owner, writer):
        taking = asyncio.create_task(taken(owner, length))
        await asyncio.sleep(0)
        writer.write(CONTENT[:length] + b"behind")
        assert await taking == CONTENT[:length]
        await until(lambda: owner.got == b"behind")


async def test_a_stalled_reader_pauses_the_sender_and_memory_stays_small() -> None:
    async with connection() as (owner, writer):
        blocks = straight(owner.transport, 1 << 30, 20.0)
        first = asyncio.ensure_future(anext(blocks))
        await asyncio.sleep(0)
        writer.write(CONTENT)
        await first
        await until(lambda: not owner.transport.is_reading())
        await blocks.aclose()
        assert owner.transport.get_protocol() is owner
        assert owner.transport.is_reading()


async def test_bytes_received_before_a_disconnect_are_delivered_first() -> None:
    async with connection() as (owner, writer):
        blocks = straight(owner.transport, len(CONTENT), 20.0)
        first = asyncio.ensure_future(anext(blocks))
        await asyncio.sleep(0)
        writer.write(CONTENT[:1000])
        writer.close()
        assert bytes(await first) == CONTENT[:1000]
        with pytest.raises(ConnectionResetError):
            await anext(blocks)
        await owner.lost.wait()


async def test_small_slow_pieces_are_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_LEAST_EVERY", 0.01)
    async with connection() as (owner, writer), aclosing(straight(owner.transport, len(CONTENT), 20.0)) as blocks:
        writer.write(CONTENT[:10])
        assert bytes(await anext(blocks)) == CONTENT[:10]


async def test_silence_ends_it() -> None:
    async with connection() as (owner, _):
        with pytest.raises(TimeoutError):
            await taken(owner, 100, idle=0.01)
        assert owner.transport.get_protocol() is owner


async def test_a_long_upload_over_tls_ends_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 1)
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    config = WorkerConfig(tmp_path / "state", idle_engine(), SECRET, port=0, tls=ServerTls(cert, key))
    async with running_worker(config) as worker, tus(worker.address, SECRET) as plain:
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with aiohttp.ClientSession(connector=connector, headers=plain.session.headers) as session:
            caller = Tus(session, worker.address)
            path = await caller.created(CONTENT)
            sent = await caller.patch(path, 0, io.BytesIO(CONTENT))
            assert (sent.status, sent.headers["Connection"]) == (204, "close")
            assert await caller.has(CONTENT)
