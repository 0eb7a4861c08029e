"""Writes server-sent events to one reader, for the API and for the console's page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from wakestream.adapters.daemon.event_feed import Item, Listener

HEARTBEAT: Final = 10.0
"""Seconds without an event after which a comment keeps the connection open."""

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_BEAT = b":\n\n"


async def stream(
    request: web.Request,
    first: bytes,
    listener: Listener | None,
    text: Callable[[Item], bytes],
    *,
    last: Callable[[Item], bool] = lambda _: False,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with `first` and then with the events of `listener`, if any, up to the `last` one.

    Args:
        request: The request.
        first: Is sent at once.
        listener: Receives the events that follow.
        text: Formats an event, usually with `event`.
        last: Whether the stream ends with an event.
        headers: More headers of the answer.
    """
    response = web.StreamResponse(headers={**(headers or {}), **_HEADERS})
    with contextlib.suppress(ConnectionError):  # the reader has disconnected
        await response.prepare(request)
        await response.write(first)
        while listener is not None:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    item = await listener.next()
            except TimeoutError:
                await response.write(_BEAT)
                continue
            if item is None:
                break
            await response.write(text(item))
            if last(item):
                break
    return response


def event(kind: str, data: bytes) -> bytes:
    """An event."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


def numbered(boot: str, item: Item) -> bytes:
    """An event with an id, from which a reader continues after a disconnect. `boot` identifies this run."""
    return b"id: %s-%d\n%s" % (boot.encode(), item.number, event(item.kind, item.data))


def cutting(request: web.Request) -> Callable[[], None]:
    """Aborts the connection of a reader that is too slow."""

    def cut() -> None:
        if request.transport is not None:
            request.transport.abort()

    return cut
