"""How the tests' own servers listen: like ours, they also close connections accepted during the shutdown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any

from aiohttp import web

from wakestream.adapters.net.acceptor import accept_no_more


@asynccontextmanager
async def serving(runner: web.AppRunner, port: int = 0, tls: SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on loopback at `port` (0 takes a free one); gives the port."""
    await runner.setup()
    try:
        server = runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(server, "127.0.0.1", port, ssl=tls, reuse_address=True)
        async with closed_in_order(listener):
            yield listener.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | Iterable[web.RouteDef], **options: Any
) -> AsyncIterator[str]:
    """A web server with these routes, or one that answers every call so; gives its address."""
    app = web.Application(client_max_size=2**30)
    app.add_routes([web.route("*", "/{path:.*}", answer)] if callable(answer) else answer)
    async with serving(web.AppRunner(app, **{"access_log": None, "shutdown_timeout": 0.1, **options})) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def talking(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: SSLContext | None = None
) -> AsyncIterator[int]:
    """A server of bytes on loopback; gives the port."""
    listener = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    async with closed_in_order(listener):
        yield listener.sockets[0].getsockname()[1]


@asynccontextmanager
async def closed_in_order(listener: asyncio.Server) -> AsyncIterator[None]:
    """Close it at the end of the block, with every connection that it accepted."""
    try:
        yield
    finally:
        await accept_no_more(listener)
        listener.close()
