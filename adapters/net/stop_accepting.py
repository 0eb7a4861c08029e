"""How a listener closes without forgetting whom it has just let in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from socket import SocketType
from typing import Protocol


class Listener(Protocol):
    """What asyncio's servers have, and the websockets library's."""

    @property
    def sockets(self) -> Iterable[SocketType]: ...

    def get_loop(self) -> asyncio.AbstractEventLoop: ...


async def accept_no_more(listener: Listener) -> None:
    """Let in nobody else; to be awaited before the listener is closed.

    asyncio lets a caller in within two turns of the loop. Where the listener closes between these, it fails to attach
    the connection to it and drops it without closing: the caller waits until the garbage is collected.
    """
    loop = listener.get_loop()
    for listening in listener.sockets:
        with suppress(NotImplementedError):  # Windows' loop has no readers: there a caller of the last turn may be lost
            loop.remove_reader(listening.fileno())
    for _ in range(2):  # the connection is made in the one turn, its protocol hears of it in the other
        await asyncio.sleep(0)
