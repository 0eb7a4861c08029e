"""A hub of a few lines, and a real monitor at it."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from wakestream.adapters.net.acceptor import accept_no_more


class TinyHub:
    """Registers every peer, and keeps its frames."""

    def __init__(self) -> None:
        self.url = ""
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.connection: ServerConnection | None = None

    async def serve(self, connection: ServerConnection) -> None:
        self.connection = connection
        await connection.send('{"type":"connected","fd":1}')
        with suppress(ConnectionClosed):
            async for frame in connection:
                message = orjson.loads(frame)
                if message["type"] == "register":
                    await self.say({"type": "registered", "role": message["role"], "features": ["power_state"]})
                await self.said.put(message)

    async def say(self, message: dict[str, Any]) -> None:
        assert self.connection is not None
        await self.connection.send(orjson.dumps(message).decode())

    async def hears(self, **wanted: Any) -> dict[str, Any]:
        while True:
            message = await self.said.get()
            if wanted.items() <= message.items():
                return message


async def tiny_hub() -> AsyncIterator[TinyHub]:
    """A hub on loopback."""
    tiny = TinyHub()
    async with serve(tiny.serve, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        tiny.url = f"http://127.0.0.1:{port}"
        try:
            yield tiny
        finally:
            await accept_no_more(server)


@asynccontextmanager
async def monitor(hub: TinyHub, folder: Path, *flags: str) -> AsyncIterator[Process]:
    """The program with these flags, in `folder`; killed at the end if it still runs."""
    environment = {**os.environ, "WAKESTREAM_KEY": "ws_monitor_0123456789abcdef0123456789abcdef"}
    environment.pop("HEYGEM_SERVER_URL", None)
    command = (sys.executable, "-m", "wakestream.adapters.cli", "monitor")
    arguments = ("--hub", hub.url, "--gpu", "gpu-1", "--exit-with-stdin", *flags)
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, cwd=folder, env=environment, stdin=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
