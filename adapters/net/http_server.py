"""Start and stop of our HTTP servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ssl import SSLContext
from typing import Any, Final

from aiohttp import web

from wakestream.adapters.net.refusals import counting, expecting, quiet_logger
from wakestream.adapters.net.silent_callers import SilentCallers
from wakestream.adapters.net.stop_accepting import accept_no_more

GRACE: Final = 1.0
"""Seconds for calls to end at a stop, and to read on after a refused upload, so that its sender gets the reason."""


@asynccontextmanager
async def listening(
    app: web.Application,
    program: str,
    silent: SilentCallers,
    host: str,
    port: int,
    *,
    tls: SSLContext | None = None,
    tls_within: float | None = None,
    grace: float = GRACE,
    **options: Any,
) -> AsyncIterator[int]:
    """Serve `app` at `host:port` (0 takes a free one) until the block ends; yields the port.

    Args:
        app: The application.
        program: Names the logger.
        silent: Limits and watches connections; it also counts refused requests.
        host: The address.
        port: The port.
        tls: The certificate, for TLS.
        tls_within: Seconds for a TLS handshake.
        grace: Seconds for open requests at the end.
        options: More options of `web.AppRunner`.

    Raises:
        OSError: the address is in use.
    """
    runner = web.AppRunner(
        app,
        access_log_class=counting(silent.refused),
        logger=quiet_logger(f"{program}.aiohttp"),
        auto_decompress=False,
        shutdown_timeout=grace,
        lingering_time=grace,
        **options,
    )
    await runner.setup()
    try:
        server = runner.server
        assert server is not None  # noqa: S101 - it was set up
        silent.watch(expecting(server))
        async with AsyncExitStack() as stack:
            taken = 0
            for bound in await silent.acceptor.bind(host, port):
                stack.callback(bound.close)
                taken = taken or bound.getsockname()[1]
                within = tls_within if tls else None
                listener = await asyncio.get_running_loop().create_server(
                    server, sock=bound, ssl=tls, ssl_handshake_timeout=within
                )
                stack.push_async_callback(_close, listener)
            yield taken
    finally:
        silent.close()
        await runner.cleanup()


async def _close(listener: asyncio.Server) -> None:
    try:
        await accept_no_more(listener)
    finally:
        listener.close()
