"""The bytes of an upload as they come in: one sender at a time, each behind what is on the disk already."""

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
"""Seconds without a byte after which a sender gives way to another: it may be the same one, on a new connection."""

ALGORITHMS: dict[str, Callable[[], Hasher]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "blake3": lambda: blake3(),
}
"""What a part may be protected with."""


Blocks = AsyncGenerator[bytes | memoryview, None]


class Checksum:
    """What the bytes of one call are to hash to. `KeyError`: unknown algorithm, `ValueError`: that is no hash of it."""

    def __init__(self, algorithm: str, digest: bytes) -> None:
        self.hasher = ALGORITHMS[algorithm]()
        if len(digest) != len(self.hasher.digest()):
            raise ValueError(f"{algorithm} has {len(self.hasher.digest())} bytes")
        self._digest = digest

    def holds(self) -> bool:
        """Whether the bytes were these."""
        return self.hasher.digest() == self._digest


@dataclass(slots=True)
class _Sender:
    """Whose bytes are coming, and when the last came (loop time)."""

    task: asyncio.Task[object]
    heard: float = math.inf
    cut: bool = False


class Appends:
    """Appends to the uploads, and ends them."""

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
        """Append `blocks`, the first of which belongs at `offset`; finishes the upload when it is complete.

        `whole`: they begin with the file's first byte, whatever is here already. `WorkerRefused`: `wrong_offset`,
        `locked` (another is sending), `hash_mismatch` (the checksum), `too_large`, `not_found` (it was given up);
        `Corrupt` if the whole is not what was announced.
        """
        self._make_way(upload)
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
        """Remove the upload; whoever sends is cut off."""
        self._cut(upload)
        async with upload.lock:
            await self._uploads.remove(upload)

    def _make_way(self, upload: Upload) -> None:
        sender = self._senders.get(upload.id)
        if sender is not None and self._now() - sender.heard >= STALE:
            self._cut(upload)
        elif upload.lock.locked():
            raise WorkerRefused("another connection sends this upload just now: ask again", code="locked")

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
            raise WorkerRefused("another connection goes on with this upload", code="locked") from None
        finally:
            del self._senders[upload.id]

    async def _receive(self, upload: Upload, blocks: Blocks, checksum: Checksum | None, sender: _Sender) -> None:
        await self._uploads.rehash(upload)
        upload.granted = 0
        sender.heard = self._now()
        hashers: list[Hasher] = [upload.hasher]
        if checksum is not None:
            hashers.append(checksum.hasher)
            await self._uploads.doubt(upload, upload.offset)
        with disk_errors():
            file = self._uploads.partial(upload).open("r+b", buffering=0)
        sink = HashingWriter(file, hashers, self._uploads.store.pool, upload.offset)
        back_to = upload.offset if checksum else None
        try:
            with disk_errors():
                file.seek(upload.offset)
                file.truncate()
            upload.sink = sink
            await self._fill(sink, upload, blocks, sender)
            if checksum is not None and not checksum.holds():
                why = "these bytes do not have the hash of Upload-Checksum: send them again"
                raise WorkerRefused(why, code="hash_mismatch")
            back_to = None
        finally:
            await finish_despite_cancel(self._leave(sink, upload, back_to))

    async def _fill(self, sink: HashingWriter, upload: Upload, blocks: Blocks, sender: _Sender) -> None:
        length = upload.announced.length
        async for block in blocks:
            if sink.size + len(block) > length:
                raise WorkerRefused(f"the upload has {length} bytes, more came", code="too_large")
            await self._uploads.grow(upload, sink.size + len(block))
            with disk_errors():
                await sink.add(block)
            sender.heard = self._now()
        with disk_errors():
            await sink.flush()

    async def _leave(self, sink: HashingWriter, upload: Upload, back_to: int | None) -> None:
        """What came is on the disk and counted; with `back_to`, all of it behind that byte is taken back."""
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
                sink.file.truncate(upload.offset)  # a disk that filled up may have taken a part of a block
        finally:
            sink.file.close()
        if upload.sure is not None:
            await self._uploads.doubt(upload, None)


async def _behind(blocks: Blocks, skipped: int) -> Blocks:
    """What comes after the first `skipped` bytes."""
    async for block in blocks:
        if len(block) > skipped:
            yield block[skipped:]
        skipped = max(0, skipped - len(block))
