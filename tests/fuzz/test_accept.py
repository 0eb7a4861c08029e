"""Real programs with few open files whose ports are full of callers who say nothing, or have asked for the health."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fuzz.raw_http import request

if sys.platform != "linux":
    pytest.skip("all of 127.0.0.0/8 is this machine on Linux only, and /proc is read", allow_module_level=True)

from tests.support.fuzz.hub_process import room_for
from tests.support.programs.certificates import Authority
from tests.support.programs.client_scene import clean_environment
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.tls import client_context

SECRET = "worker-secret-0123456789"
FILES = 300
"""Open files that a program may have here."""

FEW = ("/bin/sh", "-c", f'ulimit -S -n {FILES}; ulimit -H -n {FILES}; exec "$@"', "sh")
HEALTH = request("GET", "/api/heygem/health", "Connection: keep-alive")
UPGRADE = (
    b"GET /dsp HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%b\r\n"
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program at work, what one who may be there says to it, and how the answer begins."""

    port: int
    pid: int
    tls: ssl.SSLContext | None
    owner: bytes
    answer: bytes

    def sockets(self) -> int:
        """How many sockets it has open."""
        folder = Path(f"/proc/{self.pid}/fd")
        found = 0
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                found += str(entry.readlink()).startswith("socket:")
        return found

    async def greeted(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection of one who may be there, once it was answered; tried again as any client does."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
                await self.greet(reader, writer)
                return reader, writer

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say it, and be answered."""
        writer.write(self.owner)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(self.answer)


async def hub(state: Path) -> tuple[tuple[str, ...], Callable[[], bytes], bytes]:
    _, key = LicenseBook(state).issue("client", "", 0.0)
    return ("hub",), lambda: UPGRADE % b"Authorization: Bearer %b\r\n" % key.encode(), b"HTTP/1.1 101 "


async def worker(_: Path) -> tuple[tuple[str, ...], Callable[[], bytes], bytes]:
    return (
        ("worker",),
        lambda: request("HEAD", "/api/heygem/queue", f"Authorization: Bearer {SECRET}"),
        b"HTTP/1.1 200 ",
    )


PROGRAMS = {"hub": hub, "worker": worker}


@asynccontextmanager
async def running(name: str, folder: Path, *, tls: bool) -> AsyncIterator[Program]:
    """The program, which must end well and log no fault."""
    state = folder / "state"
    arguments, owner, answer = await PROGRAMS[name](state)
    context = None
    if tls:
        authority = Authority(folder / "tls")
        cert, key = authority.issue()
        arguments += ("--tls-cert", str(cert), "--tls-key", str(key))
        context = client_context(authority.path)
    command = (*FEW, sys.executable, "-m", "wakestream.adapters.cli", *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, "--listen", "127.0.0.1:0", "--state", str(state), "--exit-with-stdin",
        stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder,
        env=clean_environment() | {"HEYGEM_API_SECRET": SECRET, "WAKESTREAM_KEY": "k" * 20},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        yield Program(int(line.rpartition(":")[2].partition("/")[0]), process.pid, context, owner(), answer)
    finally:
        process.stdin.close()
        _, log = await process.communicate()
    assert process.returncode == 0, log.decode()
    assert b"Traceback" not in log, log.decode()[-3000:]
    assert b"Too many open files" not in log


@asynccontextmanager
async def crowd(program: Program, says: bytes, count: int, *sources: str) -> AsyncIterator[None]:
    """So many connections of each of these addresses, which have said that; those that are refused are not missed."""

    async def one(source: str) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", program.port, local_addr=(source, 0))
        if says:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                writer.write(says)
                await reader.readuntil(b"\r\n\r\n")
        return writer

    writers = []
    try:
        for source in sources:
            for _ in range(0, count, 50):
                writers += await asyncio.gather(*(one(source) for _ in range(50)))
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("name", ["hub", "worker"])
async def test_silent_callers_are_counted_before_tls_and_others_are_answered(name: str, tmp_path: Path) -> None:
    assert room_for(1000)
    async with running(name, tmp_path, tls=True) as program:
        reader, writer = await program.greeted()
        before = program.sockets()
        async with crowd(program, b"", 400, "127.0.0.66"):
            _, other = await program.greeted()
            assert program.sockets() - before <= 130
            if name == "worker":
                await program.greet(reader, writer)  # who was there before still is
            other.transport.abort()
        writer.transport.abort()


ASKED = {"hub": UPGRADE % b"", "worker": HEALTH}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_connections_of_four_addresses_do_not_block_others(name: str, tmp_path: Path) -> None:
    assert room_for(1000)
    async with running(name, tmp_path, tls=False) as program:
        reader, writer = await program.greeted()
        sources = (f"127.0.0.{number}" for number in (66, 67, 68, 69))
        async with crowd(program, ASKED[name], 150, *sources):
            _, other = await program.greeted()
            if name != "hub":
                await program.greet(reader, writer)
            other.transport.abort()
        writer.transport.abort()
