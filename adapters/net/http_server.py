"""Start and stop of our HTTP servers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ssl import SSLContext
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from wakestream.adapters.net.acceptor import accept_no_more
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.refusals import counting, expecting, noted, quiet_logger
from wakestream.adapters.net.silent_callers import SilentCallers

GRACE: Final = 1.0
"""Seconds for calls to end at a stop, and to read on after a refused upload, so that its sender gets the reason."""


@asynccontextmanager
async def listening(
    app: web.Application,
    program: str,
    silent: SilentCallers | None,
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
        silent: Limits and watches connections, and counts refused requests. None: without limits, since only this
            machine can reach the host.
        host: The address.
        port: The port.
        tls: The certificate, for TLS.
        tls_within: Seconds for a TLS handshake.
        grace: Seconds for open requests at the end.
        options: More options of `web.AppRunner`.

    Raises:
        OSError: the address is in use.
    """
    silent = silent or SilentCallers(noted(program), Room(0, sys.maxsize), per_address=sys.maxsize)
    app.middlewares.insert(0, silent.middleware())
    calls = _calls(app)
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
        expecting(server)
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            silent.watch(server)
            taken = 0
            for bound in await silent.acceptor.bind(host, port):
                stack.callback(bound.close)
                listener = await loop.create_server(
                    server, sock=bound, ssl=tls, ssl_handshake_timeout=tls_within if tls else None
                )
                stack.push_async_callback(_close, listener)
                taken = taken or listener.sockets[0].getsockname()[1]
            yield taken
    finally:
        silent.close()
        await runner.cleanup()
        # A call whose caller has gone still runs, and aiohttp has not waited for those that it cancelled just now.
        for call in calls:
            if not call.cancelling():
                call.cancel()
        if calls:
            await asyncio.wait(calls)


def _calls(app: web.Application) -> set[asyncio.Task[Any]]:
    """The calls that run, from now on."""
    calls: set[asyncio.Task[Any]] = set()

    @web.middleware
    async def remembered(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (call := asyncio.current_task()) is not None:
            calls.add(call)
            call.add_done_callback(calls.discard)
        return await handler(request)

    app.middlewares.insert(0, remembered)
    return calls


async def _close(listener: asyncio.Server) -> None:
    try:
        await accept_no_more(listener)
    finally:
        listener.close()


# Reads a request's body, for all our HTTP servers.


async def body_of(request: web.Request, within: float) -> bytes:
    """The body, which `request` does not keep, since a call may last long.

    Raises:
        HTTPRequestEntityTooLarge: It is larger than the server allows.
        TimeoutError: It is not complete in time.
    """
    body, most = bytearray(), request.client_max_size
    try:
        async with asyncio.timeout(within):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) >= most:
                    raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
            return bytes(body)
    except TimeoutError:
        raise TimeoutError(f"the body did not arrive within {within:g} s: send the request again") from None


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; `ValueError` if it is none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ValueError("the body of this call must be a JSON object in UTF-8, but it is not valid JSON") from None
    if not isinstance(value, dict):
        raise ValueError("the body of this call must be a JSON object")  # noqa: TRY004 - the caller answers both alike
    return value
