"""Append received bytes to uploads: one sender at a time, each after the bytes on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from blake3 import blake3

from wakestream.adapters.disk.hashing_writer import Hasher, HashingWriter
from wakestream.adapters.runtime.tasks import finish_despite_cancel
from wakestream.adapters.worker.file_store import disk_errors
from wakestream.adapters.worker.resumable_uploads import Uploads, gone
from wakestream.adapters.worker.upload_records import Upload
from wakestream.operators.model.errors import WorkerRefused

STALE = 5.0
"""Seconds without a byte after which another sender may continue: it may be the same client, reconnected."""

ALGORITHMS: dict[str, Callable[[], Hasher]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "blake3": lambda: blake3(),
}
"""The algorithms of checksums."""


Blocks = AsyncGenerator[bytes | memoryview, None]


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected hash of the bytes of one call."""

    hasher: Hasher
    digest: bytes


@dataclass(slots=True)
class _Sender:
    """The current sender, and when its last bytes came (loop time)."""

    task: asyncio.Task[object]
    last_bytes: float = math.inf
    cut: bool = False


class Appends:
    """Appends bytes to uploads, and removes uploads."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._senders: dict[str, _Sender] = {}
        self._now = asyncio.get_running_loop().time

    async def take(
        self,
        upload: Upload,
        offset: int,
        blocks: Blocks,
        checksum: Checksum | None,
        *,
        whole: bool = False,
    ) -> None:
        """Append bytes to an upload, and finish it when it is complete.

        Args:
            upload: The upload.
            offset: The position of the first byte.
            blocks: The bytes.
            checksum: Their expected hash.
            whole: Whether they begin with the first byte of the file; bytes that are here already are skipped.

        Raises:
            WorkerRefused: `wrong_offset`, `locked` (another connection sends), `hash_mismatch` (the checksum),
                `too_large`, `not_found` (it was removed).
            Corrupt: The whole file does not have the announced hash.
        """
        self._replace_stale(upload)
        async with upload.lock:
            if not self._uploads.knows(upload):
                raise gone()
            if upload.finished and offset == upload.offset:
                return
            if whole:
                blocks, offset = _behind(blocks, upload.offset), upload.offset
            if offset != upload.offset:
                why = f"the upload is at byte {upload.offset} and not {offset}: ask with HEAD"
                raise WorkerRefused(why, code="wrong_offset")
            async with aclosing(blocks):
                await self._as_sender(upload, blocks, checksum)
            if upload.complete:
                await self._uploads.finish(upload)

    async def end(self, upload: Upload) -> None:
        """Remove the upload, and cut its sender."""
        self._cut(upload)
        async with upload.lock:
            await self._uploads.remove(upload)

    def _replace_stale(self, upload: Upload) -> None:
        sender = self._senders.get(upload.id)
        if sender is not None and self._now() - sender.last_bytes >= STALE:
            self._cut(upload)
        elif upload.lock.locked():
            raise WorkerRefused("another connection is sending this upload: ask again later", code="locked")

    def _cut(self, upload: Upload) -> None:
        sender = self._senders.get(upload.id)
        if sender is not None and not sender.cut:
            sender.cut = True
            sender.task.cancel()

    async def _as_sender(self, upload: Upload, blocks: Blocks, checksum: Checksum | None) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - calls are tasks
        sender = self._senders[upload.id] = _Sender(task)
        try:
            await self._receive(upload, blocks, checksum, sender)
        except asyncio.CancelledError:
            if not sender.cut:
                raise
            task.uncancel()
            raise WorkerRefused("another connection has continued this upload", code="locked") from None
        finally:
            del self._senders[upload.id]

    async def _receive(self, upload: Upload, blocks: Blocks, checksum: Checksum | None, sender: _Sender) -> None:
        await self._uploads.rehash(upload)
        upload.granted = 0
        sender.last_bytes = self._now()
        hashers: list[Hasher] = [upload.hasher]
        back_to = None
        if checksum is not None:
            hashers.append(checksum.hasher)
            back_to = upload.offset
            await self._uploads.record_sure(upload, back_to)
        with disk_errors():
            file = self._uploads.folder.partial(upload).open("r+b", buffering=0)
        sink = HashingWriter(file, hashers, self._uploads.store.pool, upload.offset)
        try:
            with disk_errors():
                file.seek(upload.offset)
                file.truncate()
            upload.sink = sink
            length = upload.announced.length
            async for block in blocks:
                if sink.size + len(block) > length:
                    raise WorkerRefused(f"the upload has {length} bytes, but more came", code="too_large")
                await self._uploads.grow(upload, sink.size + len(block))
                with disk_errors():
                    await sink.add(block)
                sender.last_bytes = self._now()
            with disk_errors():
                await sink.flush()
            if checksum is not None and checksum.hasher.digest() != checksum.digest:
                why = "these bytes do not have the hash of Upload-Checksum: send them again"
                raise WorkerRefused(why, code="hash_mismatch")
            back_to = None
        finally:
            await finish_despite_cancel(self._leave(sink, upload, back_to))

    async def _leave(self, sink: HashingWriter, upload: Upload, back_to: int | None) -> None:
        """Record what is on the disk; with `back_to`, drop all bytes after that one."""
        with suppress(OSError):
            await sink.flush()
        upload.sink = None
        upload.offset = upload.hashed = sink.written
        upload.used = self._uploads.clock()
        if back_to is not None:
            upload.offset = back_to
            upload.forget_hash()
        try:
            with disk_errors():
                sink.file.truncate(upload.offset)  # if the disk is full, a part of a block may have been written
        finally:
            sink.file.close()
        if upload.sure is not None:
            await self._uploads.record_sure(upload, None)


async def _behind(blocks: Blocks, skipped: int) -> Blocks:
    """Skip the first `skipped` bytes."""
    async for block in blocks:
        if len(block) > skipped:
            yield block[skipped:]
        skipped = max(0, skipped - len(block))
