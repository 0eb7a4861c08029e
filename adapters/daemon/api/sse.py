"""Events to one reader as server-sent events: numbered, so that one who comes back goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aiohttp import web

from wakestream.adapters.daemon.event_feed import Item, Listener

HEARTBEAT: Final = 15.0
"""Seconds of silence after which a stream says that it is still there."""

MISSED: Final = Item(0, "", "missed", b'{"event":"missed"}')
"""Some events are no longer stored: the client must fetch the list of jobs again."""

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def stream(
    request: web.Request, boot: str, items: Sequence[Item], listener: Listener, last: Callable[[Item], bool]
) -> web.StreamResponse:
    """Answer with `items` and what `listener` hears after them, up to the `last` one. `boot` names this run."""
    response = web.StreamResponse(headers=_HEADERS)
    with contextlib.suppress(ConnectionError):  # the reader went away
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n" + _text(boot, items))
        if not (items and last(items[-1])):
            await _follow(response, boot, listener, last)
    return response


async def _follow(response: web.StreamResponse, boot: str, listener: Listener, last: Callable[[Item], bool]) -> None:
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT):
                item = await listener.next()
        except TimeoutError:
            await response.write(b":\n\n")
            continue
        if item is None:
            return
        await response.write(_text(boot, [item]))
        if last(item):
            return


def _text(boot: str, items: Iterable[Item]) -> bytes:
    return b"".join(b"id: %s-%d\nevent: %s\ndata: %s\n\n" % _fields(boot, item) for item in items)


def _fields(boot: str, item: Item) -> tuple[bytes, int, bytes, bytes]:
    return boot.encode(), item.number, item.kind.encode(), item.data
