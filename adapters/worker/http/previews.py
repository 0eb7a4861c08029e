"""`GET previews`: what the engine has so far of a task, as server-sent events while the task is unfinished.

Only the newest preview of a task is in memory, and none is stored. A slow reader misses those in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import orjson
from aiohttp import web

from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.worker.http import auth
from wakestream.operators.model.engine import Preview
from wakestream.operators.model.errors import WorkerRefused
from wakestream.streams.worker import state as w

EVERY: Final = 0.5
"""The fewest seconds between two previews for one reader."""

HEARTBEAT: Final = 10.0
"""Seconds without a preview after which a comment keeps the connection open."""

PATIENCE: Final = 20.0
"""Seconds for which a reader may take no bytes; then it is disconnected."""

MOST: Final = 64
"""Readers at one time."""

_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Previews:
    """The newest preview of each task, and all who read them."""

    def __init__(self) -> None:
        self._newest: Recent[str, Preview] = Recent(MOST)
        self._readers: dict[asyncio.Event, str] = {}
        self._closed = False

    def put(self, task: str, preview: Preview) -> None:
        """Show a preview; one that is too large, or of another type, is ignored."""
        if preview.fits and preview != self._newest.get(task):
            self._newest[task] = preview
            self._wake(task)

    def told(self, fact: w.Fact) -> None:
        """Take a fact, after it was applied: the previews of a task end with it."""
        if isinstance(fact, w.Changed):
            if fact.task.status != "running":
                self._newest.pop(fact.task.id, None)
            self._wake(fact.task.id)

    def _wake(self, task: str) -> None:
        for changed, of in self._readers.items():
            if of == task:
                changed.set()

    async def close(self, _: web.Application) -> None:
        """End all streams, because the worker stops."""
        self._closed = True
        for changed in self._readers:
            changed.set()

    async def stream(self, request: web.Request, look: Callable[[], w.Task]) -> web.StreamResponse:
        """Answer with the previews of a task until it ends.

        Args:
            request: The call.
            look: Returns the task, and raises `WorkerRefused` if the caller may not see it, or not any more.
        """
        task = look()
        if len(self._readers) >= MOST:
            raise WorkerRefused(f"{MOST} readers of previews are here already: try again later", code="too_many")
        response, changed = web.StreamResponse(headers=_HEADERS), asyncio.Event()
        self._readers[changed] = task.id
        try:
            await response.prepare(request)
            with suppress(WorkerRefused):
                await self._write(request, response, changed, look)
        except (ConnectionError, TimeoutError):  # the reader has gone, or takes nothing
            if request.transport is not None:
                request.transport.abort()
        finally:
            del self._readers[changed]
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, changed: asyncio.Event, look: Callable[[], w.Task]
    ) -> None:
        sent: Preview | None = None
        while not self._closed and (task := look()).unfinished and auth.is_still_allowed(request):
            changed.clear()
            data, newest = b":\n\n", self._newest.get(task.id)
            if newest is None or newest is sent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        await changed.wait()
                        continue
            else:
                sent, data = newest, b"event: preview\ndata: %s\n\n" % orjson.dumps(newest.plain())
            async with asyncio.timeout(PATIENCE):
                await response.write(data)
            await asyncio.sleep(EVERY)
