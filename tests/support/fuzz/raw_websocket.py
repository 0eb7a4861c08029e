"""A WebSocket client that sends any frames, right or wrong, and returns all that it receives."""

import asyncio
import contextlib
import json
from typing import Any, Self

WITHIN = 10.0
REQUEST = (
    b"GET /dsp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(
    code: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, says: int | None = None
) -> bytes:
    """One frame; `says` is the length that it claims to have."""
    size = len(payload) if says is None else says
    first = (0x80 if fin else 0) | rsv << 4 | code
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 1 << 16:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if masked else b"") + payload


class RawWebSocket:
    """One connection, from its first byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.close_code: int | None = None

    @classmethod
    async def connect(cls, port: int) -> Self:
        """A connection that has said nothing yet."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    @classmethod
    async def upgraded(cls, port: int, headers: bytes = b"") -> Self:
        """A connection that passed the handshake."""
        one = await cls.connect(port)
        one.writer.write(REQUEST % headers)
        head = await one.head()
        assert b" 101 " in head, head
        assert b"extensions" not in head.lower()
        return one

    async def head(self) -> bytes:
        """The answer to the handshake, up to the empty line; less if the other side hangs up before."""
        async with asyncio.timeout(WITHIN):
            try:
                return await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                return error.partial
            except ConnectionError:
                return b""

    def write(self, data: bytes) -> None:
        """Bytes onto the wire, if it still stands."""
        if not self.writer.is_closing():
            self.writer.write(data)

    def say(self, **message: Any) -> None:
        """A message as it should be."""
        self.write(frame(TEXT, json.dumps(message).encode()))

    async def hear(self) -> dict[str, Any] | None:
        """The next message; None when the connection is closed. Pongs are passed over."""
        async with asyncio.timeout(WITHIN):
            while True:
                got = await self._frame()
                if got is None:
                    return None
                code, payload = got
                if code == CLOSE:
                    self.close_code = int.from_bytes(payload[:2], "big")
                    self.write(frame(CLOSE, payload))
                elif code == TEXT:
                    message: dict[str, Any] = json.loads(payload)
                    return message

    async def hear_until(self, **fields: Any) -> list[dict[str, Any]]:
        """All messages before the one with these fields, or before the end of the connection."""
        heard: list[dict[str, Any]] = []
        while (message := await self.hear()) is not None and not fields.items() <= message.items():
            heard.append(message)
        return heard

    async def _frame(self) -> tuple[int, bytes] | None:
        try:
            first, size = await self.reader.readexactly(2)
            assert first & 0x70 == 0, "a bit is set that was not negotiated"
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 15, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Hang up without a word."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
