"""Start and stop of our HTTP servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ssl import SSLContext

from aiohttp import web

from wakestream.adapters.net.refusals import expecting
from wakestream.adapters.net.silent_callers import SilentCallers
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
