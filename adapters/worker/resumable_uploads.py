"""Resumable uploads: received bytes stay on the disk, and the next connection continues after them.

An upload has a record (`ID.json`: the announced file) and a partial file (`ID.part`: the received bytes). The size of
the partial file is the progress, and the hash is computed again after a restart. The id is made of hash, ending and
length, so a client that sends the same file again finds its upload without storing anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from loguru import logger

from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.worker.file_store import FileStore, check, disk_errors
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.adapters.worker.upload_records import Announced, Upload, UploadFolder
from wakestream.operators.model.errors import Corrupt, WorkerRefused
from wakestream.operators.model.events import FileRef

MAX_UPLOADS = 256
"""The most unfinished uploads of all callers with the secret."""

MAX_OF_LICENSE = 64
"""The most unfinished uploads of a license."""

STEP = 8 * 1024 * 1024
"""The least bytes that are reserved on the disk at a time; the more have come, the more are reserved."""

MAX_RECORDS = 1024
"""The most stored uploads, with finished ones, since a sender that missed the last answer asks for the result."""

IDLE = 3600.0
"""Seconds after which an unfinished upload may be removed to make room for another one."""

LOOK_EVERY = 300.0


class Uploads:
    """All uploads of one worker, also those of earlier runs. `queue` knows which license has which file.

    All methods may raise `NoSpace` for a full disk, and `WorkerError` for another error of the disk.
    """

    def __init__(self, store: FileStore, queue: TaskQueue, *, clock: Callable[[], float] = time.time) -> None:
        self.store, self._queue = store, queue
        self.clock = clock
        self.folder = UploadFolder(store.root / "uploads")
        self._creating = asyncio.Lock()
        self._uploads = {upload.id: upload for upload in self.folder.found(store.has)}
        store.unfinished = lambda: sum(upload.offset for upload in self._unfinished())

    def room(self, but: Upload | None = None) -> int:
        """Free bytes that are not reserved for uploads other than `but`. It blocks."""
        return max(0, self.store.free() - sum(upload.reserved for upload in self._unfinished() if upload is not but))

    async def grow(self, upload: Upload, size: int) -> None:
        """Reserve room for `size` bytes of the upload and for the next step. `WorkerRefused` (`no_space`)."""
        if size <= upload.granted:
            return
        left = upload.announced.length - upload.offset
        step = min(left, max(size - upload.offset, upload.offset, STEP))
        with disk_errors():
            room = await self.store.in_thread(lambda: self.room(upload))
            if room < step:
                await self.store.make_room(step + self.store.free() - room)
                room = await self.store.in_thread(lambda: self.room(upload))
        if room < min(step, size - upload.offset):
            raise self.store.refusal(left, room)
        upload.granted = upload.offset + min(step, room)

    async def create(self, announced: Announced) -> Upload:
        """Return a new upload, or the existing one; it is verified if all bytes are here.

        `WorkerRefused`: `no_space`, `too_large` (for the whole disk), `queue_full`.
        """
        while True:
            async with self._creating:
                upload = await self._create(announced)
            try:
                return await self._verified(upload)
            except Corrupt as error:
                logger.warning("{}; the upload starts again", error)

    async def _create(self, announced: Announced) -> Upload:
        known = self._uploads.get(announced.name())
        if known is not None and await self._exists(known):
            return known
        upload = Upload(known.id if known else announced.name(), announced, self.clock())
        if self._here(announced):
            upload.offset, upload.finished = announced.length, True
        else:
            await self._make_room(announced)
        await self.store.on_disk(lambda: self.folder.save(upload))
        self._uploads[upload.id] = upload
        return upload

    def _here(self, announced: Announced) -> bool:
        ref = announced.ref
        # A license need not send a file that it has proved to have.
        return ref is not None and self._queue.state.has(announced.license, ref) and self.store.claim(ref)

    async def find(self, name: str, license_: str = "") -> Upload:
        """The upload of this id, verified if all bytes are here. `WorkerRefused` (`not_found`), `Corrupt`."""
        upload = self._uploads.get(name)
        if upload is None or license_ not in ("", upload.announced.license) or not await self._exists(upload):
            raise gone()
        return await self._verified(upload)

    def knows(self, upload: Upload) -> bool:
        """Whether it has not been removed."""
        return self._uploads.get(upload.id) is upload

    async def _verified(self, upload: Upload) -> Upload:
        if upload.complete and not upload.finished:
            async with upload.lock:
                if not self.knows(upload):
                    raise Corrupt("the received bytes do not have the announced hash: start the upload again")
                await self.finish(upload)
        return upload

    async def record_sure(self, upload: Upload, sure: int | None) -> None:
        """Record that after a restart only the first `sure` bytes are valid; None: all bytes."""
        upload.sure = sure
        await self.store.on_disk(lambda: self.folder.record(upload))

    async def finish(self, upload: Upload) -> None:
        """Verify the upload and move it to the store; the caller holds its lock. `Corrupt`: it was removed."""
        if upload.finished:
            return
        await self.rehash(upload)
        digest = upload.hasher.hexdigest()
        try:
            check(digest, upload.announced.blake3)
        except Corrupt:
            await self.remove(upload)
            raise
        if upload.announced.blake3 is None:  # recorded first, since a restart must know the hash
            upload.announced = msgspec.structs.replace(upload.announced, blake3=digest)
            await self.store.on_disk(lambda: self.folder.record(upload))
        ref = FileRef(digest, upload.announced.ext)
        await self.store.on_disk(lambda: self._publish(upload, ref))
        upload.finished, upload.used = True, self.clock()
        await self._queue.show(upload.announced.license, ref)

    async def rehash(self, upload: Upload) -> None:
        """Make sure that `hasher` has all bytes on the disk; read them if it has not."""
        if upload.hashed == upload.offset:
            return
        upload.forget_hash()
        path, size = self.folder.partial(upload), upload.offset
        upload.hasher = await self.store.on_disk(lambda: hash_of(path, size))
        upload.hashed = size

    async def remove(self, upload: Upload) -> None:
        """Remove an upload and its bytes; a finished file stays in the store. Its lock is held, or it is unused."""
        self._uploads.pop(upload.id, None)
        await self.store.in_thread(lambda: self.folder.erase(upload))

    async def expire(self) -> int:
        """Remove expired uploads and the oldest finished ones; returns how many."""
        now = self.clock()
        idle = [upload for upload in self._uploads.values() if upload.expires <= now and not upload.lock.locked()]
        finished = sorted(
            (upload for upload in self._uploads.values() if upload.finished), key=lambda upload: upload.used
        )
        surplus = finished[: max(0, len(self._uploads) - MAX_RECORDS)]
        gone = {upload.id: upload for upload in (*idle, *surplus)}
        for upload in gone.values():
            await self.remove(upload)
        return len(gone)

    def move_times(self, moved: Callable[[float], float]) -> None:
        """Move the last use of all uploads when the clock was set."""
        for upload in self._uploads.values():
            upload.used = moved(upload.used)

    async def _exists(self, upload: Upload) -> bool:
        """Whether the upload still exists; a finished one exists as long as its file."""
        if upload.finished:
            here = self._here(upload.announced)
        else:
            here = upload.lock.locked() or (upload.expires > self.clock() and self._on_disk(upload))
        if not here:
            await self.remove(upload)
        return here

    def _on_disk(self, upload: Upload) -> bool:
        """Whether its partial file exists; if another program made it shorter, its size counts."""
        try:
            size = self.folder.partial(upload).stat().st_size
        except OSError:
            return False
        if size < upload.offset:
            upload.offset = size
            upload.forget_hash()
        return True

    async def _make_room(self, announced: Announced) -> None:
        """Make sure that this license may have one more upload. Files are removed only when its bytes come."""
        await self.expire()
        mine = [upload for upload in self._unfinished() if upload.announced.license == announced.license]
        most = MAX_OF_LICENSE if announced.license else MAX_UPLOADS
        for upload in mine[: max(0, len(mine) + 1 - most)]:
            if not self._is_idle(upload):
                raise WorkerRefused(f"{most} uploads are unfinished here: try again later", code="queue_full")
            await self.remove(upload)
        if (why := await self._lacks(announced.length)) is None:
            return
        for upload in filter(self._is_idle, self._unfinished()):
            await self.remove(upload)
            if await self._lacks(announced.length) is None:
                return
        raise why

    def _is_idle(self, upload: Upload) -> bool:
        return upload.used + IDLE <= self.clock() and not upload.lock.locked()

    async def _lacks(self, length: int) -> WorkerRefused | None:
        with disk_errors():
            room = await self.store.in_thread(self.room)
            if length > room:
                room += await self.store.removable()
        return self.store.refusal(length, room) if length > room else None

    def _unfinished(self) -> list[Upload]:
        """The unfinished uploads, the longest unused first."""
        # A copy, since threads call this while the loop adds and removes uploads.
        return sorted(
            (upload for upload in list(self._uploads.values()) if not upload.finished), key=lambda upload: upload.used
        )

    def _publish(self, upload: Upload, ref: FileRef) -> None:
        partial = self.folder.partial(upload)
        file = partial.open("rb+", buffering=0)
        file.truncate(upload.announced.length)  # only the bytes that were hashed
        self.store.publish(file, partial, ref)
        partial.unlink(missing_ok=True)  # Windows, when the same content was there already


async def expire_regularly(uploads: Uploads) -> None:
    """Remove expired uploads every few minutes."""
    while True:
        await uploads.expire()
        await asyncio.sleep(LOOK_EVERY)


def gone() -> WorkerRefused:
    """The error for an upload that does not exist."""
    return WorkerRefused("this worker does not have this upload: start it again", code="not_found")
