"""The event loop of Windows without two defects: it stops accepting, and it logs each client that disconnects.

A client that disconnects before it is accepted makes `accept` fail (WinError 64). asyncio then closes the listening
socket: the program continues to run but accepts no connection.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

_GONE = (64, 1236, 10053, 10054)
"""Errors of a disconnected peer: ERROR_NETNAME_DELETED, ERROR_CONNECTION_ABORTED, and similar ones."""


def has_gone(error: BaseException | None) -> bool:
    """Whether this error only says that the peer has disconnected."""
    return isinstance(error, ConnectionError) or getattr(error, "winerror", None) in _GONE


if sys.platform == "win32":

    class _Proactor(asyncio.IocpProactor):
        """Accepts the next client when one has disconnected."""

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
        loop.set_exception_handler(_on_error)
        return loop

    def _on_error(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Log errors, except those that the transport and `accept` report after a peer has disconnected."""
        if not has_gone(context.get("exception")) or not _of_the_loop_itself(context):
            loop.default_exception_handler(dict(context))

    def _of_the_loop_itself(context: Mapping[str, Any]) -> bool:
        where = repr(context.get("handle") or context.get("future"))
        return "_call_connection_lost" in where or "accept_coro" in where

    def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Returns the function that creates our programs' event loops."""
        return _loop
else:

    def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Returns the function that creates our programs' event loops; None for asyncio's default."""
        return None
