"""Copies that the daemon makes by itself, from a path or a URL, while the page shows how far they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web
from loguru import logger

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, plain_error
from wakestream.adapters.daemon.console.results import plain_answer
from wakestream.adapters.daemon.console.sources import find_source, open_source
from wakestream.adapters.daemon.console.storage import Storage
from wakestream.adapters.daemon.console.upload_validation import checked
from wakestream.adapters.daemon.console.uploads import Upload
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.runtime.tasks import background, end

AT_ONCE: Final = 3

MOST: Final = 200
"""Copies that run or wait for their turn."""

SHOWN_EVERY: Final = 1.0
"""Seconds between two reports of a copy to the pages."""


@dataclass(slots=True)
class Copies:
    """The copies that have not ended, by the id of their upload. A source is opened when it is its turn.

    Attributes:
        holdings: The files.
        arrived: Called when a file is there.
        lost: Called when a copy failed, with the reason; None if it was stopped.
        tell: Sends an event to all pages.
        changed: Reports a change of files.
    """

    holdings: Storage
    arrived: Callable[[Upload], Awaitable[object]]
    lost: Callable[[Upload, dict[str, Any] | None], Awaitable[object]]
    tell: Callable[[str, object], None]
    changed: Callable[[], None]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _failed: Recent[str, dict[str, Any]] = field(default_factory=lambda: Recent(MOST))
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.post("/console/copies", self.ask),
            web.get("/console/copies/{id}", self.progress),
            web.delete("/console/copies/{id}", self.cancel),
        ]

    async def ask(self, request: web.Request) -> web.Response:
        """Copy the file at `source`, a path or a URL: 201 with its upload; the other fields are as in `announce`."""
        body = await requests.json_object(request)
        asked = checked({**body, "name": "file", "size": 1})
        source = str(body.get("source", "")).strip()
        self.check_room()
        name, size = await find_source(source)
        self.check_room()  # others may have come meanwhile
        asked = replace(asked, name=name, size=size)
        upload = self.holdings.uploads.announce(asked, self.holdings.referred(), source)
        self.start(upload)
        return plain_answer(upload.plain(), status=201)

    async def progress(self, request: web.Request) -> web.Response:
        """The upload that the daemon copies, with the bytes `sent` so far; the refusal if the copy failed."""
        id_ = request.match_info["id"]
        if (failed := self._failed.get(id_)) is not None:
            return plain_answer({"failed": failed})
        try:
            upload = self.holdings.uploads.get(id_, complete=False)
        except ApiError:
            if id_ not in self._tasks:
                raise
            return plain_answer({"id": id_, "sent": 0, "complete": False})  # it has failed, and says why in a moment
        return plain_answer({**upload.plain(), "sent": upload.sent})

    async def cancel(self, request: web.Request) -> web.Response:
        """End a copy that the daemon makes."""
        if not await self.stop(request.match_info["id"]):
            raise ApiError(404, "unknown_upload", "this copy has ended")
        self.changed()
        return plain_answer({})

    def check_room(self) -> None:
        """`ApiError` if too many copies wait already."""
        if len(self._tasks) >= MOST:
            why = f"{MOST} files wait to be copied; add this one when some of them are there"
            raise ApiError(429, "many_copies", why, count=MOST)

    def start(self, upload: Upload) -> None:
        """Copy an announced file in the background, when it is its turn."""
        if upload.id in self._tasks:
            return
        upload.busy = True  # until its turn it must not be removed
        self._tasks[upload.id] = background("a copy", self._copy(upload))
        self._tasks[upload.id].add_done_callback(lambda _: self._tasks.pop(upload.id, None))

    async def _copy(self, upload: Upload) -> None:
        try:
            async with self._turns:
                source = await open_source(upload.source)
                try:
                    self.holdings.uploads.measure(upload, source.name, source.size, self.holdings.referred())
                    upload.busy = False
                    self._show(upload)
                    await self.holdings.uploads.receive(upload.id, self._shown(upload, source.chunks))
                finally:
                    await source.close()
        except BaseException as error:
            await asyncio.shield(self.holdings.uploads.discard(upload))
            if isinstance(error, ApiError):
                why = plain_error(error)
            else:
                why = {"code": "broken", "error": "the copy was interrupted; try again"}
                if not isinstance(error, asyncio.CancelledError):
                    logger.opt(exception=error).error("a copy is broken")
            self._failed[upload.id] = why
            await self.lost(upload, None if isinstance(error, asyncio.CancelledError) else why)
            if not isinstance(error, Exception):
                raise
        else:
            await self.arrived(upload)

    async def _shown(self, upload: Upload, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks; meanwhile the pages are shown how far the copy is."""
        shown = time.monotonic()
        async for chunk in chunks:
            yield chunk
            if time.monotonic() - shown >= SHOWN_EVERY:
                shown = time.monotonic()
                self._show(upload)

    def _show(self, upload: Upload) -> None:
        self.tell("copy", {"id": upload.id, "name": upload.name, "size": upload.size, "sent": upload.sent})

    async def stop(self, id_: str) -> bool:
        """End a copy, whose file is removed; False if there is none."""
        task = self._tasks.get(id_)
        if task is not None:
            await end(task)
        return task is not None

    async def close(self) -> None:
        """End all copies."""
        await end(*self._tasks.values())
