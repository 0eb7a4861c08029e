"""The picture of its work that a program writes to a file again and again, and that is shown when it is complete."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from loguru import logger

from wakestream.operators.model.engine import MAX_PREVIEW, Preview, picture_type

EVERY: Final = 0.5
"""Seconds between two looks at the file."""

_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK"))
_ENDS: Final = {"image/jpeg": b"\xff\xd9", "image/png": b"IEND\xaeB`\x82"}

FileState = tuple[int, int, int]
"""Inode, size and time of change."""


async def watch_preview(path: Path, show: Callable[[Preview], object]) -> None:
    """Show each new picture, until this is cancelled. It never fails, and waits for the disk in a thread."""
    seen: FileState | None = None
    while True:
        await asyncio.sleep(EVERY)
        with suppress(OSError):  # it does not exist yet, or a program is about to replace it
            state, data = await asyncio.to_thread(_read, path, seen)
            if is_complete(data):
                show(Preview(picture_type(data), data))
            elif len(data) <= MAX_PREVIEW:
                continue  # it has not changed, or is incomplete
            elif seen is None or seen[1] <= MAX_PREVIEW:
                logger.info("the preview is not shown, since it has {} bytes; at most {}", state[1], MAX_PREVIEW)
            seen = state


def _read(path: Path, seen: FileState | None) -> tuple[FileState, bytes]:
    """The state of a regular file, and its content if it has changed and no program writes to it now."""
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | _FLAGS)) as file:
        status = os.fstat(file.fileno())
        before = _state(status)
        data = file.read(MAX_PREVIEW + 1) if stat.S_ISREG(status.st_mode) and before != seen else b""
        now = _state(os.fstat(file.fileno()))
    return now, data if now == before else b""


def _state(status: os.stat_result) -> FileState:
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_complete(picture: bytes) -> bool:
    """Whether this is a picture up to its end.

    Example:
        >>> is_complete(bytes.fromhex("ffd8ffe0 ffd9")), is_complete(bytes.fromhex("ffd8ffe0"))
        (True, False)
    """
    if len(picture) > MAX_PREVIEW:
        return False
    media = picture_type(picture)
    if media == "image/webp":
        return len(picture) == 8 + int.from_bytes(picture[4:8], "little")
    return media in _ENDS and picture.endswith(_ENDS[media])
