"""The proxy does what the tests that use it count on."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.faults.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.faults.programs_in_one_loop import bounded


class Echo:
    """A server that gives back what it gets, and remembers what it got."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended = asyncio.Event()
        self.broke = asyncio.Event()
        self.heard = asyncio.Event()
        self.serving: set[asyncio.Task[None]] = set()

    def took(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.serving.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.got += data
                self.heard.set()
                writer.write(data)
                await writer.drain()
            self.ended.set()
        except ConnectionError:
            self.broke.set()
        finally:
            writer.close()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo.took, "127.0.0.1", 0)
    async with fault_proxy(server.sockets[0].getsockname()[1], seed=1) as running:
        yield running
    server.close()
    await asyncio.gather(*echo.serving)


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


@bounded
async def test_bytes_pass_both_ways_and_so_does_an_orderly_end(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"x" * 300_000)
        assert await reader.readexactly(300_000) == b"x" * 300_000
        writer.write_eof()
        assert await reader.read() == b""
        assert echo.ended.is_set()
        assert proxy.passed == {"up": 300_000, "down": 300_000}


@bounded
async def test_a_sliced_direction_passes_byte_by_byte_and_loses_none(proxy: FaultProxy) -> None:
    proxy.set(down=Fault(slice=1))
    async with connected(proxy) as (reader, writer):
        writer.write(bytes(range(256)))
        assert await reader.readexactly(256) == bytes(range(256))


@pytest.mark.parametrize(
    ("fault", "size", "least"), [(Fault(latency=0.05), 1, 0.05), (Fault(rate=100_000), 10_000, 0.09)]
)
@bounded
async def test_latency_and_a_rate_hold_bytes_back(proxy: FaultProxy, fault: Fault, size: int, least: float) -> None:
    loop = asyncio.get_running_loop()
    proxy.set(up=fault)
    async with connected(proxy) as (reader, writer):
        before = loop.time()
        writer.write(b"x" * size)
        assert await reader.readexactly(size) == b"x" * size
        assert loop.time() - before >= least


@bounded
async def test_a_cut_comes_after_the_given_bytes(proxy: FaultProxy, echo: Echo) -> None:
    proxy.set(up=Fault(cut_after=1000))
    async with connected(proxy) as (reader, writer):
        writer.write(b"x" * 5000)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(5000)
        await asyncio.wait(
            [asyncio.ensure_future(event.wait()) for event in (echo.ended, echo.broke)], return_when="FIRST_COMPLETED"
        )
        assert len(echo.got) == 1000


@bounded
async def test_a_reset_is_felt_at_both_ends(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        assert proxy.break_all() == 1
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        await echo.broke.wait()


@bounded
async def test_a_half_open_connection_stands_and_says_nothing_until_it_is_healed(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.set(up=Fault(swallow=True))
        writer.write(b"lost")
        await writer.drain()
        writer.write(b"too")
        proxy.set(down=Fault(latency=0.01))
        await proxy.until(lambda proxy: proxy.swallowed == len(b"losttoo"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert (proxy.open, bytes(echo.got)) == (1, b"")
        proxy.heal()
        writer.write(b"heard")
        assert await reader.readexactly(5) == b"heard"


@bounded
async def test_a_black_hole_keeps_what_was_sent_until_it_opens(proxy: FaultProxy, echo: Echo) -> None:
    proxy.set(up=Fault(stall=True))
    async with connected(proxy) as (reader, writer):
        writer.write(b"kept")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert bytes(echo.got) == b""
        proxy.heal()
        assert await reader.readexactly(4) == b"kept"


@bounded
async def test_refused_connections_are_reset_and_later_ones_taken(proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError):
        async with connected(proxy) as (reader, _):
            await reader.readexactly(1)
    proxy.heal()
    async with connected(proxy) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
