"""A file, or the rest of it, as a request body of known length. The next block is read while one is sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import orjson
from aiohttp import MultipartWriter
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload, StringPayload

from wakestream.operators.model.errors import FileChanged, FileUnusable, WakestreamError, WorkerUnreachable
from wakestream.operators.model.events import FileRef, Fingerprint
from wakestream.operators.model.ports import Resumed

LEAST = 256 * 1024
MOST = 2 * 1024 * 1024
"""Bytes of a block. Slow connections get small blocks, since each must be sent within `idle` seconds; fast ones get
large blocks, since each costs a thread switch."""

QUICK, SLOW = 0.05, 0.5
"""Seconds for one block, below or above which the block size is doubled or halved."""


class FilePart(Payload):
    """The bytes of a file from `start` on; fails when the file has changed since it was hashed."""

    def __init__(
        self, file: Fingerprint, executor: Executor, idle: float, sent: Callable[[int], object], start: int = 0
    ) -> None:
        super().__init__(file.path, content_type="application/octet-stream")
        self._size = file.size - start
        self._start = start
        self._file = file
        self._executor = executor
        self._idle = idle
        self._sent = sent
        self._block = LEAST
        self._clock = asyncio.get_running_loop().time
        self._fault: WakestreamError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Not supported: the file is never in memory as a whole."""
        raise TypeError("a file is sent in blocks and has no text")

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Wraps a request with this body: raises the body's own error, not what aiohttp makes of it."""
        try:
            yield
        except WakestreamError:
            if self._fault is not None:
                raise self._fault from None
            raise

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the file; it is checked for changes before its last block is sent."""
        try:
            opened = _open(self._file, self._start)
            left = self._file.size - self._start
            ahead = self._executor.submit(_read, opened, self._file, left, self._block)
            try:
                while left:
                    block = await asyncio.shield(asyncio.wrap_future(ahead))
                    left -= len(block)
                    if left:
                        ahead = self._executor.submit(_read, opened, self._file, left, self._block)
                    await self._send(writer, block)
            finally:
                # A read may still run in its thread: close the file after it.
                ahead.add_done_callback(lambda _: opened.close())
        except WakestreamError as fault:
            self._fault = fault  # aiohttp wraps it in an error of the connection
            raise

    async def _send(self, writer: AbstractStreamWriter, block: bytes) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(self._idle):
                await writer.write(block)
        except TimeoutError:
            raise WorkerUnreachable(f"the worker accepted no byte for {self._idle:g} s during an upload") from None
        self._sent(len(block))
        took = self._clock() - began
        if took <= QUICK:
            self._block = min(MOST, self._block * 2)
        elif took >= SLOW:
            self._block = max(LEAST, self._block // 2)


def small_files(files: Mapping[FileRef, Fingerprint]) -> bytes:
    """The body of `upload_files`: a line of JSON that lists the files, then their bytes. It reads the disk."""
    listed = [{"hash": ref.hash, "ext": ref.ext, "size": file.size} for ref, file in files.items()]
    parts = [orjson.dumps(listed), b"\n"]
    return b"".join((*parts, *map(_content, files.values())))


def _content(file: Fingerprint) -> bytes:
    """The content of a small file. A job may have many, and `pathlib` takes twice as long."""
    with read_errors(file.path), FileIO(file.path) as opened:
        content = opened.read(file.size + 1)
        check_unchanged(file, opened.fileno())
    if len(content) != file.size:
        raise changed(file.path)
    return content


def form(part: FilePart, ref: FileRef) -> MultipartWriter:
    """A form with hash and extension before the file, so that the server knows them when the file arrives."""
    writer = MultipartWriter("form-data")
    for name, value in (("hash", ref.hash), ("ext", ref.ext)):
        field = StringPayload(value)
        field.set_content_disposition("form-data", name=name)
        writer.append_payload(field)
    # Named by its hash; the user's file name is private.
    part.set_content_disposition("form-data", name="file", filename=f"{ref.hash}{ref.ext}")
    writer.append_payload(part)
    return writer


def _open(file: Fingerprint, start: int) -> FileIO:
    with read_errors(file.path):
        try:
            opened = file.path.open("rb", buffering=0)
        except FileNotFoundError:
            raise changed(file.path) from None
        opened.seek(start)
    try:
        check_unchanged(file, opened.fileno())
    except FileChanged:
        opened.close()
        raise
    return opened


def _read(opened: FileIO, file: Fingerprint, left: int, most: int) -> bytes:
    with read_errors(file.path):
        block = opened.read(min(most, left))
    if not block:
        raise changed(file.path)
    if len(block) >= left:
        check_unchanged(file, opened.fileno())
    return block


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk while `path` is read into `FileUnusable`."""
    try:
        yield
    except OSError as error:
        raise FileUnusable(f"{path} cannot be read any more: {error.strerror or error}") from None


def check_unchanged(file: Fingerprint, descriptor: int | None = None) -> None:
    """Raise `FileChanged` when the file (or the open one) has changed since it was hashed."""
    try:
        status = os.stat(file.path if descriptor is None else descriptor)  # noqa: PTH116 - a path or a descriptor
    except OSError:
        raise changed(file.path) from None
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise changed(file.path)


def changed(path: Path) -> FileChanged:
    """The error for a file that has changed since it was hashed."""
    return FileChanged(f"{path} was changed or moved after it was read; submit it again when it is complete")


# Counts transferred bytes, and reports the count about ten times a second.

INTERVAL = 0.1
"""Least seconds between two reports."""


class Meter:
    """A counter of bytes: the transfer adds to it, `follow` yields the totals."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._due = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() - INTERVAL
        self._resumed = False

    def add(self, count: int) -> bool:
        """Add bytes; True when it is time to report the total."""
        self.total += count
        now = self._clock()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        self._due.set()
        return True

    def resume(self, at: int) -> None:
        """Set the total: the transfer continues from there."""
        self._resumed = self._resumed or at != self.total
        self.total = at
        if self._resumed:
            self._due.set()

    async def follow(self, work: asyncio.Task[None]) -> AsyncGenerator[int | Resumed, None]:
        """Yield the totals until `work` is done, and `Resumed` after a jump. Raises the error of `work`."""
        work.add_done_callback(lambda _: self._due.set())
        while not work.done():
            await self._due.wait()
            self._due.clear()
            if self._resumed:
                self._resumed = False
                yield Resumed(self.total)
            elif not work.done():
                yield self.total
        work.result()
