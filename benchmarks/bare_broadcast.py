"""The yardstick of a broadcast: whatever text one connection sends goes to all others by `websockets.broadcast`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

everyone: set[ServerConnection] = set()


async def hand_on(socket: ServerConnection) -> None:
    """One connection."""
    everyone.add(socket)
    broadcast((socket,), '{"type":"registered"}')
    with contextlib.suppress(ConnectionClosed):
        while True:
            text = await socket.recv()
            broadcast(everyone - {socket}, text)
    everyone.discard(socket)


async def main() -> None:
    """Say the port, serve until standard input ends."""
    async with serve(hand_on, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    from wakestream.adapters.runtime.rlimits import connections_allowed

    connections_allowed(20_000)
    asyncio.run(main())
