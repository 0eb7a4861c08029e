"""An HTTP client that sends any bytes, right or wrong, and returns all that it receives."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Self

WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `status` is 0 where the server hung up without a word."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class RawHttp:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        """A connection that has said nothing yet."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    def write(self, data: bytes) -> None:
        """Bytes onto the wire, if it still stands."""
        if not self.writer.is_closing():
            self.writer.write(data)

    async def sent(self, data: bytes) -> bool:
        """Bytes onto the wire, as fast as they are taken; False when the other side has gone."""
        try:
            self.write(data)
            async with asyncio.timeout(WITHIN):
                await self.writer.drain()
        except ConnectionError:
            return False
        return not self.writer.is_closing()

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """The next answer. `bodiless`: it is one to HEAD."""
        try:
            async with asyncio.timeout(WITHIN):
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.rstrip("\r\n").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                size = 0 if bodiless else int(headers.get("content-length", 0))
                return Reply(int(first.split()[1]), headers, await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return Reply()

    async def ended(self) -> bytes:
        """What comes until the other side hangs up."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(WITHIN):
                return await self.reader.read()
        return b""

    async def close(self) -> None:
        """Hang up without a word."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def request(method: str, target: str, *headers: str, body: bytes = b"", length: bool = True) -> bytes:
    """The bytes of one request; text is written in UTF-8, with whatever cannot be as it is."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    if length and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode(errors="surrogatepass") + body
