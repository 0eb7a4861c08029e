"""One file, or its rest, as the body of a request of known length, read ahead in blocks while the last one is sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from io import FileIO
from pathlib import Path

from aiohttp import MultipartWriter
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload, StringPayload

from wakestream.operators.model.errors import FileChanged, FileUnusable, WakestreamError, WorkerUnreachable
from wakestream.operators.model.events import FileRef, Fingerprint

LEAST = 256 * 1024
MOST = 2 * 1024 * 1024
"""Bytes of a block: few where it takes long to send them, since within `idle` seconds a block must have gone; many
where it does not, since a change of threads for each would cost more than its bytes."""

QUICK, SLOW = 0.05, 0.5
"""Seconds for one block at which the next but one is twice as large, or half."""


class FilePart(Payload):
    """The bytes of a fingerprinted file from byte `start` on, provided that it is still the file that was read.

    aiohttp wraps what goes wrong in here into errors of the connection; `fault` keeps the original.
    """

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
        self.fault: WakestreamError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refused: a file is never held as a whole."""
        raise TypeError("a file is sent in blocks, never as one text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the file; nothing of its last block goes out before the file has been looked at again."""
        try:
            await self._write(writer)
        except WakestreamError as fault:
            self.fault = fault
            raise

    async def _write(self, writer: AbstractStreamWriter) -> None:
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
            # A read may still be running in its thread: close after it, whether or not anybody still waits here.
            ahead.add_done_callback(lambda _: opened.close())

    async def _send(self, writer: AbstractStreamWriter, block: bytes) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(self._idle):
                await writer.write(block)
        except TimeoutError:
            raise WorkerUnreachable(
                f"the worker took no byte for {self._idle:g} s in the middle of an upload"
            ) from None
        self._sent(len(block))
        took = self._clock() - began
        if took <= QUICK:
            self._block = min(MOST, self._block * 2)
        elif took >= SLOW:
            self._block = max(LEAST, self._block // 2)


def form(part: FilePart, ref: FileRef) -> MultipartWriter:
    """The fields in the order in which a server can act on them: what the file is, then the file."""
    writer = MultipartWriter("form-data")
    for name, value in (("hash", ref.hash), ("ext", ref.ext)):
        field = StringPayload(value)
        field.set_content_disposition("form-data", name=name)
        writer.append_payload(field)
    # Named by content: the user's own name for the file is nobody's business.
    part.set_content_disposition("form-data", name="file", filename=f"{ref.hash}{ref.ext}")
    writer.append_payload(part)
    return writer


def _open(file: Fingerprint, start: int) -> FileIO:
    try:
        opened = file.path.open("rb", buffering=0)
        opened.seek(start)
    except FileNotFoundError:
        raise changed(file.path) from None
    except OSError as error:
        raise FileUnusable(f"{file.path} cannot be read any more: {error.strerror or error}") from None
    if not _unchanged(opened.fileno(), file):
        opened.close()
        raise changed(file.path)
    return opened


def _read(opened: FileIO, file: Fingerprint, left: int, most: int) -> bytes:
    try:
        block = opened.read(min(most, left))
        last = len(block) >= left
        if not block or (last and not _unchanged(opened.fileno(), file)):
            raise changed(file.path)
    except OSError as error:
        raise FileUnusable(f"{file.path} cannot be read any more: {error.strerror or error}") from None
    return block


def _unchanged(descriptor: int, file: Fingerprint) -> bool:
    status = os.fstat(descriptor)
    return (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)


def changed(path: Path) -> FileChanged:
    """The error for a file that is no longer the one that was fingerprinted."""
    return FileChanged(f"{path} was changed or moved after it had been read; submit it again when it is finished")
