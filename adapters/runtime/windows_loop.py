"""The event loop of Windows without two faults of its own: it goes deaf, and it makes much of callers who hang up.

A caller who has gone before he was let in makes an accept fail there (WinError 64), and asyncio then closes the socket
that listens, for good: the program runs on, and nobody reaches it any more.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

_GONE = (64, 1236, 10053, 10054)
"""What Windows says of a caller who has gone: ERROR_NETNAME_DELETED, ERROR_CONNECTION_ABORTED, and their like."""


def has_gone(error: BaseException | None) -> bool:
    """Whether this says no more than that the other side is no longer there."""
    return isinstance(error, ConnectionError) or getattr(error, "winerror", None) in _GONE


if sys.platform == "win32":

    class _Proactor(asyncio.IocpProactor):
        """Goes on to the next caller when one has gone."""

        def accept(self, listener: socket.socket) -> asyncio.Future[Any]:
            return asyncio.get_running_loop().create_task(self._accepted(listener))

        async def _accepted(self, listener: socket.socket) -> Any:
            while True:
                try:
                    return await super().accept(listener)
                except OSError as error:
                    if not has_gone(error) or listener.fileno() == -1:
                        raise

    def _loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.ProactorEventLoop(_Proactor())
        loop.set_exception_handler(_told)
        return loop

    def _told(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Not of callers who hang up: the transport complains when it then closes its own end, as does the accept."""
        if not has_gone(context.get("exception")) or not _of_the_loop_itself(context):
            loop.default_exception_handler(dict(context))

    def _of_the_loop_itself(context: Mapping[str, Any]) -> bool:
        where = repr(context.get("handle") or context.get("future"))
        return "_call_connection_lost" in where or "accept_coro" in where

    def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
        """What makes the loops of our programs."""
        return _loop
else:

    def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
        """What makes the loops of our programs; None for the system's usual ones."""
        return None
