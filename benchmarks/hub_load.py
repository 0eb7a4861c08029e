"""The other side of the hub's benchmarks: a lean WebSocket client that costs little beside what it measures."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Iterator

_REQUEST = (
    b"GET /dsp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_ID = re.compile(rb'"request_id":"([^"]+)"')
WITHIN = 120.0


class Lean(asyncio.Protocol):
    """One connection. `frame` is called with each text frame; its answers are collected and written at once."""

    def __init__(self) -> None:
        self.upgraded = asyncio.get_running_loop().create_future()
        self.heard = asyncio.Event()
        self.last = b""
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.upgraded.done():
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert b" 101 " in head, head
            self._buffer = rest
            self.upgraded.set_result(None)
        frames = list(self._cut())
        if frames:
            self.take(frames)

    def take(self, frames: list[bytes]) -> None:
        """What came in one read."""
        self.last = frames[-1]
        self.heard.set()

    def send(self, *texts: bytes) -> None:
        """Frames, masked with zeros."""
        assert self._transport is not None
        self._transport.write(b"".join(map(_frame, texts)))

    def close(self) -> None:
        """Hang up without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _cut(self) -> Iterator[bytes]:
        """Whole frames; a protocol ping is answered, a close frame is the end."""
        data, at = self._buffer, 0
        while len(data) - at >= 2:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, begin = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if len(data) < begin + size:
                break
            code, text, at = data[at] & 15, data[begin : begin + size], begin + size
            if code == 1:
                yield text
            elif code == 9 and self._transport is not None:
                self._transport.write(bytes((0x8A, 0x80 | len(text), 0, 0, 0, 0)) + text)
        self._buffer = data[at:]

    async def until(self, text: bytes) -> None:
        """Returns once the last frame holds `text`."""
        async with asyncio.timeout(WITHIN):
            while text not in self.last:
                self.heard.clear()
                await self.heard.wait()


def _frame(text: bytes) -> bytes:
    size = len(text)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + text


class Submitting(Lean):
    """Keeps so many submits in flight and notes how long each took until its ack; `done` ends each job after that."""

    def __init__(self, count: int, flight: int, *, tag: str, done: bool = False) -> None:
        super().__init__()
        self.over = asyncio.get_running_loop().create_future()
        self.taken: list[float] = []
        self._sent: dict[bytes, float] = {}
        self._ids = (f"{tag}-{n}".encode() for n in range(count))
        self._count, self._flight, self._done = count, flight, done

    def begin(self) -> None:
        """Fill the flight."""
        self.send(*(self._submit(next(self._ids)) for _ in range(self._flight)))

    def take(self, frames: list[bytes]) -> None:
        super().take(frames)
        out: list[bytes] = []
        now = time.perf_counter()
        for frame in frames:
            found = _ID.search(frame)
            if found is None or b'"ack"' not in frame or self.over.done():
                assert b'"error"' not in frame, frame
                continue
            self.taken.append(now - self._sent.pop(found[1]))
            if self._done:
                out.append(b'{"type":"gpu.job.done","request_id":"%b"}' % found[1])
            if (id_ := next(self._ids, None)) is not None:
                out.append(self._submit(id_))
        if out:
            self.send(*out)
        if len(self.taken) == self._count and not self.over.done():
            self.over.set_result(None)

    def _submit(self, id_: bytes) -> bytes:
        self._sent[id_] = time.perf_counter()
        return (
            b'{"type":"gpu.job.submit","request_id":"%b","task_type":"heygem_submit","payload":{'
            b'"video_hash":"0123456789abcdef0123456789abcdef","video_ext":".mp4",'
            b'"audio_hash":"fedcba9876543210fedcba9876543210","audio_ext":".wav"}}' % id_
        )


async def opened(port: int, peer: Lean) -> Lean:
    """`peer`, connected."""
    await asyncio.get_running_loop().create_connection(lambda: peer, "127.0.0.1", port)
    async with asyncio.timeout(WITHIN):
        await peer.upgraded
    return peer


async def registered(port: int, peer: Lean, frame: bytes) -> Lean:
    """`peer`, connected and registered with `frame`."""
    await opened(port, peer)
    peer.send(frame)
    await peer.until(b'"registered"')
    return peer


async def submits(port: int, register: bytes, count: int, flight: int, tag: str, *, done: bool) -> tuple[float, float]:
    """Jobs per second from submit to ack, and the median of the seconds that each took."""
    peer = Submitting(count, flight, tag=tag, done=done)
    await registered(port, peer, register)
    start = time.perf_counter()
    peer.begin()
    async with asyncio.timeout(WITHIN):
        await peer.over
    seconds = time.perf_counter() - start
    peer.close()
    return count / seconds, statistics.median(peer.taken)
