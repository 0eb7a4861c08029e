"""Closes a listener without losing a connection that it has just accepted."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from websockets.asyncio.server import Server


async def accept_no_more(listener: asyncio.Server | Server) -> None:
    """Accept no further connection; await it before the listener is closed.

    asyncio accepts a connection in two iterations of the loop. If the listener is closed between them, asyncio drops
    the connection without closing it, and the client waits until the garbage collector runs.
    """
    loop = listener.get_loop()
    for listening in listener.sockets:
        with suppress(NotImplementedError):  # the loop of Windows has no readers; a last connection may be lost there
            loop.remove_reader(listening.fileno())
    for _ in range(2):  # the socket is accepted in the first iteration, the protocol is connected in the second
        await asyncio.sleep(0)
