"""How each of our HTTP servers listens, and stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext

from aiohttp import web

from wakestream.adapters.net.connection_limits import SilentCallers
from wakestream.adapters.net.refusals import expecting
from wakestream.adapters.net.stop_accepting import accept_no_more


@asynccontextmanager
async def listening(
    runner: web.AppRunner,
    silent: SilentCallers,
    host: str,
    port: int,
    *,
    tls: SSLContext | None = None,
    tls_within: float | None = None,
) -> AsyncIterator[int]:
    """Serve `runner` at `host:port` (0 takes a free one) until the block ends; gives the port.

    `silent` watches its callers. A TLS handshake may last `tls_within` seconds. `OSError` if the address is taken.
    """
    await runner.setup()
    try:
        server = runner.server
        assert server is not None  # noqa: S101 - it was set up
        listener = await asyncio.get_running_loop().create_server(
            silent.watch(expecting(server)), host, port, ssl=tls, ssl_handshake_timeout=tls_within if tls else None
        )
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            try:
                await accept_no_more(listener)
            finally:
                listener.close()
    finally:
        silent.close()
        await runner.cleanup()
