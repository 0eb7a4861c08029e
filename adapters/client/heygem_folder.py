"""The folder that is shared with an engine: files are copied into it, and results out of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from io import FileIO
from pathlib import Path
from typing import Literal

import orjson
from loguru import logger

from wakestream.adapters.client.download import disk_errors
from wakestream.adapters.client.upload_body import check_unchanged, read_errors
from wakestream.adapters.disk.atomic import replace_file, write_atomic
from wakestream.adapters.disk.part_file import beside, settle
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.runtime.tasks import heartbeat
from wakestream.operators.model.errors import TaskLost
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint
from wakestream.operators.model.ports import TaskReport

BLOCK = 4 * 1024 * 1024
"""Bytes that are copied at a time."""

READ_WITHIN = 600.0
"""Seconds in which ffmpeg must have read a result."""

ALIVE = 10.0
"""Seconds between two signs of life during a sync."""


class SharedFolder:
    """Files by hash, results by task, and how tasks ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, ref: FileRef) -> bool:
        """Whether the complete file is there."""
        return self._place(ref).is_file()

    async def store(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int, None]:
        """Copy a user's file; yields the bytes so far. Raises `FileChanged` when it has changed since it was hashed."""
        check_unchanged(file)
        async with aclosing(_copy(file.path, self._place(ref), file)) as copying:
            async for count in copying:
                yield count

    async def fetch(self, code: str, output: Path) -> AsyncGenerator[Downloading | Done, None]:
        """Copy a result. Raises `TaskLost` when it was removed."""
        try:
            size = self.result(code).stat().st_size
        except OSError:
            self.forget(code)
            raise TaskLost("the result is no longer in the engine's folder; the job is submitted again") from None
        async with aclosing(_copy(self.result(code), output)) as copying:
            async for count in copying:
                yield Downloading(count, size)
        yield Done(output, size)

    def result(self, code: str) -> Path:
        """The path of a task's result."""
        return self.path / f"{code}-r.mp4"

    def has_result(self, code: str) -> bool:
        """Whether there is a playable result; an engine that died leaves an unplayable one. Blocks."""
        return self.result(code).is_file() and _has_frames(self.result(code))

    def keep(self, code: str, report: TaskReport) -> None:
        """Remember how a task ended."""
        with disk_errors(self._ended(code)):
            write_atomic(self._ended(code), orjson.dumps(report), mode=0o666, sync=False)

    def ended(self, code: str) -> TaskReport | None:
        """How the task ended; None when that is unknown or its result was removed."""
        try:
            report = TaskReport(**orjson.loads(self._ended(code).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return report if report.status != "done" or self.result(code).is_file() else None

    def forget(self, code: str) -> None:
        """Forget how the task ended."""
        with contextlib.suppress(OSError):
            self._ended(code).unlink(missing_ok=True)

    def _ended(self, code: str) -> Path:
        return self.path / f"{code}.ended.json"

    def _place(self, ref: FileRef) -> Path:
        return self.path / f"{ref.hash}{ref.ext}"


async def _copy(source: Path, target: Path, file: Fingerprint | None = None) -> AsyncGenerator[int, None]:
    """Copy; yields the bytes so far. The target gets its name at the end, if `file` has not changed."""
    partial = beside(target, uuid.uuid4().hex)  # two jobs may copy the same file
    try:
        with _opened(source, "rb") as reading, _opened(partial, "wb") as writing:
            copied = 0
            while count := await asyncio.to_thread(_block, reading, writing, partial):
                copied += count
                yield copied
            with disk_errors(partial):  # synced before the rename
                async with aclosing(heartbeat(asyncio.to_thread(os.fsync, writing.fileno()), ALIVE)) as syncing:
                    async for _ in syncing:
                        yield copied
        if file is not None:
            check_unchanged(file)
        with disk_errors(target):
            replace_file(partial, target)
        await asyncio.to_thread(settle, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _opened(path: Path, mode: Literal["rb", "wb"]) -> FileIO:
    with read_errors(path) if mode == "rb" else disk_errors(path):
        return path.open(mode, buffering=0)


def _block(reading: FileIO, writing: FileIO, target: Path) -> int:
    with read_errors(Path(str(reading.name))):
        rest = memoryview(reading.read(BLOCK))
    count = len(rest)
    with disk_errors(target):
        while rest:
            rest = rest[writing.write(rest) :]
    return count


def _has_frames(path: Path) -> bool:
    """Whether ffmpeg reads at least one picture of a video."""
    read = (found_ffmpeg(), "-nostdin", "-i", str(path.absolute()), "-map", "0:v:0", "-c", "copy", "-f", "null", "-")
    try:
        ended = subprocess.run(read, capture_output=True, check=False, timeout=READ_WITHIN)
    except subprocess.TimeoutExpired:
        logger.warning("ffmpeg did not read {} within {:g} s; the result counts as unplayable", path, READ_WITHIN)
        return False
    frames = re.findall(rb"frame=\s*(\d+)", ended.stderr)
    return ended.returncode == 0 and bool(frames) and int(frames[-1]) > 0
