"""A long body straight off its connection, into buffers of our own that are written and hashed as they are.

aiohttp copies every block twice on its way, and each into new memory; for gigabytes that is most of the work. So once
its head is read, the connection is borrowed from it until the body is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aiohttp import StreamReader

from wakestream.adapters.disk.hashing_writer import AHEAD

LEAST = 4 * 1024 * 1024
"""Bytes that must be left of a body for this to pay."""

BUFFER = 2 * 1024 * 1024
"""Bytes of one: a change of threads for each costs less in large ones, and in still larger ones memory."""

_BUFFERS = 5

AT_LEAST_EVERY = 1.0
"""Seconds after which what is there is handed on, though the buffer is not full."""


def can_borrow(content: StreamReader, transport: asyncio.Transport | None, taken: int) -> bool:
    """Whether aiohttp holds nothing more of the body than the `taken` bytes that were read from it."""
    if transport is None or transport.is_closing() or not transport.is_reading() or content.is_eof():
        return False
    return content.total_bytes == taken and content.exception() is None


async def straight(transport: asyncio.Transport, left: int, idle: float) -> AsyncGenerator[memoryview, None]:
    """The next `left` bytes of the connection. A block is yours until you ask for more with `AHEAD` others after it.

    `ConnectionResetError` when it breaks, `TimeoutError` when nothing comes for `idle` seconds. Whatever happens, the
    connection is given back.
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
    """Fills one buffer after the other; stands still while all are with the reader."""

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
        """Where the next bytes go; never more than belongs to the body."""
        if not self._left:  # some loops (that of Windows) hand over more than was asked for
            return self._behind
        return self._filling[self._filled : min(BUFFER, self._filled + self._left)]

    def buffer_updated(self, count: int) -> None:
        """They are there."""
        if not self._left:
            self._owner.data_received(bytes(self._behind[:count]))  # type: ignore[attr-defined]
            return
        self._filled += count
        self._left -= count
        self._heard = self._clock()
        if not self._left:
            self.give_back()  # at once: what comes behind the body is not ours
        if self._filled == BUFFER or not self._left:
            self._hand_on()

    def eof_received(self) -> bool | None:
        """The other side will send no more."""
        self._end(ConnectionResetError("the sender has gone"))
        return self._owner.eof_received()  # type: ignore[attr-defined, no-any-return]

    def connection_lost(self, error: Exception | None) -> None:
        """There is no connection any more."""
        self._end(error or ConnectionResetError("the connection was lost"))
        self._owner.connection_lost(error)

    def pause_writing(self) -> None:
        """Concerns answers."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Concerns answers."""
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
        """The next bytes; None after the last."""
        self._release()
        while not self._ready:
            if not self._left and not self._filled:
                return None
            if self._lost is not None and not self._filled:
                raise self._lost
            self._news.clear()
            if self._lost is None:
                await self._wait(idle)
            if not self._ready and self._filled:
                self._hand_on()
        buffer, count = self._ready.pop(0)
        self._out.append(buffer)
        return buffer[:count]

    async def _wait(self, idle: float) -> None:
        try:
            async with asyncio.timeout(min(AT_LEAST_EVERY, idle)):
                await self._news.wait()
        except TimeoutError:
            if not self._filled and self._clock() - self._heard >= idle:
                raise

    def _release(self) -> None:
        """What is before the last `AHEAD` was written by now."""
        while len(self._out) > AHEAD:
            self._free.append(self._out.pop(0))
        if self._paused and self._free and self._lost is None:
            self._resume()

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def give_back(self) -> None:
        """The connection's owner reads on."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._owner)
        if self._paused:
            self._resume()
