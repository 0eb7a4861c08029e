"""Copies that the daemon makes by itself, from a path or a URL, while the page shows how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from loguru import logger

from wakestream.adapters.daemon.api.auth import ApiError, plain_error
from wakestream.adapters.daemon.console.sources import Source
from wakestream.adapters.daemon.console.uploads import Upload, Uploads
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.runtime.tasks import end

AT_ONCE: Final = 3


@dataclass(slots=True)
class Copies:
    """The running copies, by the id of their upload.

    Attributes:
        uploads: The files.
        arrived: Called when a file is there.
        lost: Called when a copy failed.
    """

    uploads: Uploads
    arrived: Callable[[Upload], Awaitable[object]]
    lost: Callable[[Upload], object]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _failed: Recent[str, dict[str, Any]] = field(default_factory=lambda: Recent(200))
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def start(self, upload: Upload, source: Source) -> None:
        """Copy a file in the background."""
        self._tasks[upload.id] = asyncio.create_task(self._copy(upload, source), name="copy")
        self._tasks[upload.id].add_done_callback(lambda _: self._tasks.pop(upload.id, None))

    async def _copy(self, upload: Upload, source: Source) -> None:
        upload.busy = True  # until its turn it must not be removed
        try:
            async with self._turns:
                upload.busy = False
                await self.uploads.receive(upload.id, source.chunks)
        except BaseException as error:
            await asyncio.shield(self.uploads.discard(upload))
            self._failed[upload.id] = _failure(error)
            self.lost(upload)
            if not isinstance(error, ApiError):
                raise
        else:
            await self.arrived(upload)
        finally:
            await source.close()

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
