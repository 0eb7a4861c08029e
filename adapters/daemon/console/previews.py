"""Previews of files for the page: made one at a time when the page shows a file, and kept."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

import msgspec
import orjson

from wakestream.adapters.engines.probe import preview
from wakestream.adapters.runtime.recent import Recent

KEPT: Final = 200
"""Previews in memory."""

RETRY_AFTER: Final = 60.0
"""Seconds after which a file is looked at again that could not be."""

WAITING: Final = 40
"""Requests that may wait; further ones get no preview."""

NAME: Final = "preview.json"

Plain = dict[str, Any]
NONE: Final[Plain] = {"image": None, "seconds": None, "format": []}
UNSEEN: Final[Plain] = {**NONE, "unseen": True}
"""Of a file that could not be looked at: without ffmpeg, or in time."""


class Previews:
    """`of` gives the preview of a file."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: Recent[tuple[str, int, int], Plain] = Recent(KEPT)
        self._failed: Recent[tuple[str, int, int], float] = Recent(KEPT)
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def of(self, path: Path, beside: Path | None = None) -> Plain:
        """The preview of a file; all values are empty if it is missing or cannot be read.

        Args:
            path: The file.
            beside: A folder in which the preview is kept too.

        Returns:
            `image` is a data URL, `seconds` the length, `format` a list of words.
        """
        try:
            stat = path.stat()
        except OSError:
            return NONE
        if not S_ISREG(stat.st_mode):
            return NONE
        key = str(path), stat.st_mtime_ns, stat.st_size
        found = self._known.get(key) or (await asyncio.to_thread(_kept, beside) if beside else None)
        if found is None:
            if self._waiting >= WAITING or self._failed.get(key, float("-inf")) > self._now() - RETRY_AFTER:
                return UNSEEN
            found = await self._made(path, key)
            if found is None:
                self._failed[key] = self._now()
                return UNSEEN
            if beside is not None:
                with contextlib.suppress(OSError):  # the folder is gone with its file
                    await asyncio.to_thread((beside / NAME).write_bytes, orjson.dumps(found))
        self._known[key] = found
        return found

    async def _made(self, path: Path, key: tuple[str, int, int]) -> Plain | None:
        """The preview; None if the file could not be looked at."""
        self._waiting += 1
        try:
            async with self._turn:
                if key in self._known:
                    return self._known[key]
                made = await preview(path)
        finally:
            self._waiting -= 1
        if made is None:
            return None
        image = f"data:image/jpeg;base64,{base64.b64encode(made.jpeg).decode()}" if made.jpeg else None
        return {"image": image, "seconds": made.seconds, "format": [*made.format]}


def _kept(folder: Path) -> Plain | None:
    with contextlib.suppress(OSError, ValueError):
        found = msgspec.json.decode((folder / NAME).read_bytes(), type=dict[str, Any])
        return found if found.keys() == NONE.keys() and found != NONE else None
    return None
