"""A TCP proxy on loopback that does harm on demand: slow, narrow, sliced, cut, silent, half-open, reset.

Each direction has a `Fault` of its own that may be changed while bytes flow; it applies to bytes in transit as well.
All randomness is seeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from wakestream.adapters.net.acceptor import accept_no_more

Direction = Literal["up", "down"]
"""`up` is from the client to the server, `down` is back."""

_BLOCK = 65536
_LAST_BREATH = 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to bytes of one direction.

    `latency` (with up to `jitter` more) is in seconds for each block, `rate` in bytes a second, `slice` the most bytes
    that are passed on in one go. `swallow`: bytes are read and never passed on, the sockets stay (half-open).
    `stall`: bytes are no longer even read (a black hole; the sender's buffers fill up). `cut_after` bytes of this
    connection and direction, both sockets are closed; with `reset` by RST, without by an orderly end.
    """

    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    slice: int | None = None
    swallow: bool = False
    stall: bool = False
    cut_after: int | None = None
    reset: bool = False


CLEAR = Fault()


@dataclass(slots=True)
class _Side:
    """One direction's present fault, and a way to wait for the next one."""

    fault: Fault = CLEAR
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def become(self, fault: Fault) -> None:
        self.fault = fault
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(eq=False, slots=True)
class _Pair:
    """The two sockets of one connection."""

    near: StreamWriter
    far: StreamWriter

    def end(self, *, reset: bool) -> None:
        for writer in (self.near, self.far):
            if reset:
                _linger_not(writer)
                writer.transport.abort()
            else:
                writer.close()

    async def ended(self) -> None:
        """Returns when both sockets are closed, or a moment has passed."""
        for writer in (self.near, self.far):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_LAST_BREATH):
                    await writer.wait_closed()

    def abort(self) -> None:
        """What is still to be sent is not sent any more."""
        self.near.transport.abort()
        self.far.transport.abort()


class FaultProxy:
    """A running proxy on a `port` of its own, with the port `target` behind it.

    `passed` counts the bytes of each direction, `swallowed` those that were not passed on, `accepted` the connections.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.port = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.swallowed = self.accepted = 0
        self.target = port
        self._random = Random(seed)
        self._sides: dict[Direction, _Side] = {"up": _Side(), "down": _Side()}
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self.healed = False
        self._waiting: list[tuple[Callable[[], bool], asyncio.Event]] = []

    def url(self, scheme: str = "http", path: str = "") -> str:
        """The address that a program gets instead of the real one."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def aim(self, port: int) -> None:
        """New connections go to another port from now on."""
        self.target = port

    def set(self, up: Fault | None = None, down: Fault | None = None) -> None:
        """Change what happens from now on, on open connections too; None leaves a direction as it is."""
        for side, fault in (("up", up), ("down", down)):
            if fault is not None:
                self._sides[side].become(fault)  # type: ignore[index]

    def heal(self) -> None:
        """Everything passes, and new connections are taken."""
        self._refusing, self.healed = False, True
        self.set(CLEAR, CLEAR)

    def refuse(self) -> None:
        """New connections are reset as they come; the open ones stay."""
        self._refusing = True

    def break_all(self) -> int:
        """Reset all open connections; how many there were."""
        pairs = tuple(self._pairs)
        for pair in pairs:
            pair.end(reset=True)
        return len(pairs)

    @property
    def open(self) -> int:
        """Connections that stand."""
        return len(self._pairs)

    async def until(self, holds: Callable[[FaultProxy], bool]) -> None:
        """Returns when this holds; looked at whenever a connection comes or goes, or bytes have passed."""
        event = asyncio.Event()
        waiting = (lambda: holds(self), event)
        self._waiting.append(waiting)
        try:
            if not holds(self):
                await event.wait()
        finally:
            self._waiting.remove(waiting)

    def _look(self) -> None:
        for holds, event in self._waiting:
            if holds():
                event.set()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.accepted += 1
        try:
            if self._refusing:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=_BLOCK)
        except (OSError, asyncio.CancelledError):
            _linger_not(writer)
            writer.transport.abort()
            self._look()
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        self._look()
        pumps = [
            asyncio.create_task(self._pump("up", reader, far_writer, pair)),
            asyncio.create_task(self._pump("down", far_reader, writer, pair)),
        ]
        try:
            await asyncio.wait(pumps)  # the end of one direction is passed on; the other may have more to say
        finally:
            for pump in pumps:
                pump.cancel()
            pair.end(reset=False)
            self._pairs.discard(pair)
            self._look()
            try:
                await asyncio.gather(*pumps, return_exceptions=True)
                await pair.ended()
            finally:
                pair.abort()

    async def _pump(self, way: Direction, reader: StreamReader, writer: StreamWriter, pair: _Pair) -> None:
        side, left = self._sides[way], _Budget()
        try:
            while True:
                await self._not_stalled(side)
                data = await reader.read(_BLOCK)
                if not data:
                    break
                await self._pass(way, data, writer, pair, left)
            if not side.fault.swallow and writer.can_write_eof():
                writer.write_eof()
        except OSError:
            pair.end(reset=True)  # one side was reset: so is the other

    async def _pass(self, way: Direction, data: bytes, writer: StreamWriter, pair: _Pair, left: _Budget) -> None:
        side = self._sides[way]
        view = memoryview(data)
        while view:
            fault = side.fault
            await self._not_stalled(side)
            if fault.swallow:
                self.swallowed += len(view)
                self._look()
                return
            count = min(len(view), fault.slice or _slice_for(fault.rate))
            if fault.cut_after is not None:
                count = min(count, max(0, fault.cut_after - left.spent))
            await self._delay(side, fault, count)
            if side.fault is not fault:
                continue
            if count:
                writer.write(bytes(view[:count]))
                await writer.drain()
            view, left.spent = view[count:], left.spent + count
            self.passed[way] += count
            self._look()
            if fault.cut_after is not None and left.spent >= fault.cut_after:
                pair.end(reset=fault.reset)
                raise ConnectionResetError

    async def _delay(self, side: _Side, fault: Fault, count: int) -> None:
        seconds = fault.latency + (self._random.uniform(0, fault.jitter) if fault.jitter else 0.0)
        seconds += count / fault.rate if fault.rate else 0.0
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await side.changed.wait()

    async def _not_stalled(self, side: _Side) -> None:
        while side.fault.stall:
            await side.changed.wait()

    def _took(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End everything, also what comes while it ends."""
        for _ in range(3):
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)  # aborted transports close in the loop's next turn


@dataclass(slots=True)
class _Budget:
    """Bytes that a connection has passed on in one direction."""

    spent: int = 0


def _slice_for(rate: float | None) -> int:
    # Twenty pieces a second: smooth enough to break off in the middle of something, and few enough to be cheap.
    return _BLOCK if rate is None else max(1, min(_BLOCK, int(rate / 20)))


def _linger_not(writer: StreamWriter) -> None:
    """The next close sends RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def fault_proxy(port: int, *, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """A proxy before a port of this machine, on a port of its own, for as long as the block runs."""
    proxy = FaultProxy(port, seed)
    server = await asyncio.start_server(proxy._took, "127.0.0.1", 0, limit=_BLOCK)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        await accept_no_more(server)
        server.close()
        await proxy.close()
