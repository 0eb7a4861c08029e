"""Copies that the daemon makes by itself, from a path or a URL, while the page shows how far they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from loguru import logger

from wakestream.adapters.daemon.api.auth import ApiError, plain_error
from wakestream.adapters.daemon.console.sources import open_source
from wakestream.adapters.daemon.console.storage import Storage
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
    """

    holdings: Storage
    arrived: Callable[[Upload], Awaitable[object]]
    lost: Callable[[Upload, dict[str, Any] | None], Awaitable[object]]
    tell: Callable[[str, object], None]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _failed: Recent[str, dict[str, Any]] = field(default_factory=lambda: Recent(MOST))
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

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
                await self._receive(upload)
        except BaseException as error:
            await asyncio.shield(self.holdings.uploads.discard(upload))
            why = self._failed[upload.id] = _failure(error)
            await self.lost(upload, None if isinstance(error, asyncio.CancelledError) else why)
            if not isinstance(error, Exception):
                raise
        else:
            await self.arrived(upload)

    async def _receive(self, upload: Upload) -> None:
        source = await open_source(upload.source)
        try:
            self.holdings.uploads.measure(upload, source.name, source.size, self.holdings.referred())
            upload.busy = False
            self._show(upload)
            await self.holdings.uploads.receive(upload.id, self._shown(upload, source.chunks))
        finally:
            await source.close()

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

    def failure(self, id_: str) -> dict[str, Any] | None:
        """Why a copy failed, with `code` and `error`; None if it did not."""
        return self._failed.get(id_)

    def is_running(self, id_: str) -> bool:
        """Whether a copy has not ended."""
        return id_ in self._tasks

    async def stop(self, id_: str) -> bool:
        """End a copy, whose file is removed; False if there is none."""
        task = self._tasks.get(id_)
        if task is not None:
            await end(task)
        return task is not None

    async def close(self) -> None:
        """End all copies."""
        await end(*self._tasks.values())


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, ApiError):
        return plain_error(error)
    if not isinstance(error, asyncio.CancelledError):
        logger.opt(exception=error).error("a copy is broken")
    return {"code": "broken", "error": "the copy was interrupted; try again"}
