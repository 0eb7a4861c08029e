"""Reads a long body directly from its connection, into buffers that are written and hashed without a copy.

aiohttp copies every block twice, each time into new memory; for gigabytes that is most of the work. So after the head
of the message, this module takes the connection from aiohttp until the body is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiohttp import StreamReader

from wakestream.adapters.disk.hashing_writer import AHEAD

LEAST = 4 * 1024 * 1024
"""Remaining bytes of a body from which on this is faster."""

BUFFER = 2 * 1024 * 1024
"""Bytes of a buffer: larger ones need fewer thread switches and more memory."""

_BUFFERS = 5

AT_LEAST_EVERY = 1.0
"""Seconds after which a buffer is passed on although it is not full."""


async def body_blocks(
    content: StreamReader,
    transport: asyncio.Transport | None,
    length: int,
    idle: float,
    on_borrow: Callable[[], object] = lambda: None,
) -> AsyncGenerator[bytes | memoryview, None]:
    """The body of a message in blocks as they arrive, since joining them costs more than hashing them.

    Args:
        content: The body, as aiohttp reads it.
        transport: Its connection; a long rest of the body is read directly from there.
        length: Bytes of the whole body; 0 if that is unknown, or if its bytes on the connection are encoded.
        idle: Seconds without a byte after which it fails.
        on_borrow: Called before the connection is taken from aiohttp.

    Raises:
        TimeoutError: no byte arrived for `idle` seconds.
        ConnectionError, aiohttp.ClientPayloadError: the connection was lost.
    """
    taken = 0
    while not content.at_eof():
        if transport is not None and length - taken >= LEAST and _can_borrow(content, transport, taken):
            on_borrow()
            async with aclosing(straight(transport, length - taken, idle)) as views:
                async for view in views:
                    yield view
            return
        async with asyncio.timeout(idle):
            block, _ = await content.readchunk()
        taken += len(block)
        yield block


def _can_borrow(content: StreamReader, transport: asyncio.Transport, taken: int) -> bool:
    """Whether aiohttp has no bytes of the body beyond the `taken` ones that were read."""
    if transport.is_closing() or not transport.is_reading() or content.is_eof():
        return False
    return content.total_bytes == taken and content.exception() is None


async def straight(transport: asyncio.Transport, left: int, idle: float) -> AsyncGenerator[memoryview, None]:
    """Yield the next `left` bytes of the connection. A block stays valid until `AHEAD` more blocks were requested.

    aiohttp gets the connection back in any case.

    Raises:
        ConnectionResetError: the connection was lost.
        TimeoutError: no byte arrived for `idle` seconds.
    """
    borrower = _Borrower(transport, left)
    transport.set_protocol(borrower)
    try:
        while True:
            block = await borrower.block(idle)
            if block is None:
                return
            yield block
    finally:
        borrower.give_back()


class _Borrower(asyncio.BufferedProtocol):
    """Fills one buffer after the other; pauses while the reader has all of them."""

    def __init__(self, transport: asyncio.Transport, left: int) -> None:
        self._transport = transport
        self._owner = transport.get_protocol()
        self._left = left
        self._free = [memoryview(bytearray(BUFFER)) for _ in range(_BUFFERS)]
        self._filling = self._free.pop()
        self._filled = 0
        self._behind = memoryview(bytearray(4096))
        self._out: list[memoryview] = []
        self._ready: list[tuple[memoryview, int]] = []
        self._news = asyncio.Event()
        self._paused = False
        self._lost: Exception | None = None
        self._clock = asyncio.get_running_loop().time
        self._heard = self._clock()

    # The transport's side

    def get_buffer(self, _: int) -> memoryview:
        """The memory for the next bytes, limited to the body."""
        if not self._left:  # the loop of Windows may deliver more than requested
            return self._behind
        return self._filling[self._filled : min(BUFFER, self._filled + self._left)]

    def buffer_updated(self, count: int) -> None:
        """The bytes have arrived."""
        if not self._left:
            self._owner.data_received(bytes(self._behind[:count]))  # type: ignore[attr-defined]
            return
        self._filled += count
        self._left -= count
        self._heard = self._clock()
        if not self._left:
            self.give_back()  # at once: bytes after the body belong to aiohttp
        if self._filled == BUFFER or not self._left:
            self._hand_on()

    def eof_received(self) -> bool | None:
        """The peer sends nothing more."""
        self._end(ConnectionResetError("the peer closed the connection"))
        return self._owner.eof_received()  # type: ignore[attr-defined, no-any-return]

    def connection_lost(self, error: Exception | None) -> None:
        """The connection was lost."""
        self._end(error or ConnectionResetError("the connection was lost"))
        self._owner.connection_lost(error)

    def pause_writing(self) -> None:
        """For aiohttp, which writes the response."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """For aiohttp, which writes the response."""
        self._owner.resume_writing()

    def _end(self, error: Exception) -> None:
        self._lost = self._lost or error
        self._news.set()

    def _hand_on(self) -> None:
        if self._filled:
            self._ready.append((self._filling, self._filled))
            self._filling = self._free.pop() if self._free else memoryview(bytearray(BUFFER))
            self._filled = 0
        if not self._free and self._left and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    # The reader's side

    async def block(self, idle: float) -> memoryview | None:
        """The next bytes; None at the end."""
        # Reuse the buffers before the last `AHEAD`, which were written.
        while len(self._out) > AHEAD:
            self._free.append(self._out.pop(0))
        if self._paused and self._free and self._lost is None:
            self._resume()
        while not self._ready:
            if not self._left and not self._filled:
                return None
            if self._lost is not None and not self._filled:
                raise self._lost
            self._news.clear()
            if self._lost is None:
                try:
                    async with asyncio.timeout(min(AT_LEAST_EVERY, idle)):
                        await self._news.wait()
                except TimeoutError:
                    if not self._filled and self._clock() - self._heard >= idle:
                        raise
            if not self._ready and self._filled:
                self._hand_on()
        buffer, count = self._ready.pop(0)
        self._out.append(buffer)
        return buffer[:count]

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def give_back(self) -> None:
        """Return the connection to aiohttp."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._owner)
        if self._paused:
            self._resume()
