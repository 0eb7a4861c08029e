"""Uploads that need not come in one go: what came stays on the disk, and the next connection goes on behind it.

An upload is a record (`ID.json`: what was announced) and a partial (`ID.part`: what came). Nothing else needs to be
remembered: how far it is, is the partial's size, and how it hashes is worked out again after a restart. The id follows
from hash, ending and length, so whoever comes again with the same file finds its upload without having kept anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from loguru import logger

from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.worker.file_store import FileStore, check, disk_errors
from wakestream.adapters.worker.upload_records import ID, Announced, Upload, UploadFolder
from wakestream.operators.model.errors import Corrupt, WorkerRefused
from wakestream.operators.model.events import FileRef

MAX_UPLOADS = 256
"""Unfinished uploads at a time of all who know the secret."""

MAX_OF_LICENSE = 64
"""Unfinished uploads at a time of a license."""

STEP = 8 * 1024 * 1024
"""Bytes for which room is made sure of at a time; more as more has come."""

MAX_RECORDS = 1024
"""Uploads that are known, the finished among them: a sender whose last answer was lost asks how it ended."""

IDLE = 3600.0
"""Seconds after which an unfinished upload goes where room is needed for another."""

LOOK_EVERY = 300.0


class Uploads:
    """All uploads of one worker, found again in its state folder. `clock` gives Unix time in seconds.

    May raise `NoSpace`, and `WorkerError` for any other trouble with the disk.
    """

    def __init__(self, store: FileStore, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.clock = clock
        self._folder = UploadFolder(store.root / "uploads")
        self.has: Callable[[str, FileRef], bool] = lambda license_, _: not license_
        """Whether a license has shown that it has a file, and need not send it."""
        self.show: Callable[[str, FileRef], Awaitable[None]] = _nobody_asks
        """Told when a license has sent a file."""
        self._creating = asyncio.Lock()
        self._uploads = {upload.id: upload for upload in self._folder.found(store.has)}

    def partial(self, upload: Upload) -> Path:
        """Where its bytes are while it is unfinished."""
        return self._folder.partial(upload)

    def room(self, but: Upload | None = None) -> int:
        """Bytes that the disk has left beyond what is reserved for uploads (other than `but`). It blocks."""
        return max(0, self.store.free() - sum(one.reserved for one in self._unfinished() if one is not but))

    async def grow(self, upload: Upload, size: int) -> None:
        """Make sure of room for the upload up to `size` bytes, and for the next step. `WorkerRefused` (`no_space`)."""
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
        """A new upload, or the one that began before, verified if all of it is here.

        `WorkerRefused`: `no_space`, `too_large` (for the whole disk), `queue_full`.
        """
        while True:
            async with self._creating:
                upload = await self._create(announced)
            try:
                return await self._verified(upload)
            except Corrupt as error:
                logger.warning("{}; that upload begins anew", error)

    async def _create(self, announced: Announced) -> Upload:
        known = self._uploads.get(announced.name())
        if known is not None and await self._still(known):
            return known
        upload = Upload(known.id if known else announced.name(), announced, 0, self.clock())
        if self._here(announced):
            upload.offset, upload.finished = announced.length, True
        else:
            await self._make_room(announced)
        with disk_errors():
            await self.store.in_thread(lambda: self._folder.save(upload))
        self._uploads[upload.id] = upload
        return upload

    def _here(self, announced: Announced) -> bool:
        ref = announced.ref
        return ref is not None and self.has(announced.license, ref) and self.store.claim(ref)

    async def find(self, name: str, license_: str = "") -> Upload:
        """The upload of this id, verified if all of it is here. `WorkerRefused` (`not_found`), `Corrupt`."""
        upload = self._uploads.get(name)
        if upload is None or license_ not in ("", upload.announced.license) or not await self._still(upload):
            raise gone()
        return await self._verified(upload)

    def knows(self, upload: Upload) -> bool:
        """Whether it was not removed meanwhile."""
        return self._uploads.get(upload.id) is upload

    async def _verified(self, upload: Upload) -> Upload:
        if upload.complete and not upload.finished:
            async with upload.lock:
                if not self.knows(upload):
                    raise Corrupt("what came of this upload was not what was announced: begin it again")
                await self.finish(upload)
        return upload

    async def doubt(self, upload: Upload, sure: int | None) -> None:
        """See to it that a restart counts no more than the first `sure` bytes; None: all that are there."""
        upload.sure = sure
        with disk_errors():
            await self.store.in_thread(lambda: self._folder.record(upload))

    async def finish(self, upload: Upload) -> None:
        """Verify what came and make it one of the store's files; its lock is held. `Corrupt`: it was removed."""
        if upload.finished:
            return
        await self.rehash(upload)
        digest = upload.hasher.hexdigest()
        try:
            check(digest, upload.announced.blake3)
        except Corrupt:
            await self.remove(upload)
            raise
        with disk_errors():
            if upload.announced.blake3 is None:  # said on the disk first: a restart must know what it became
                upload.announced = replace(upload.announced, blake3=digest)
                await self.store.in_thread(lambda: self._folder.record(upload))
            ref = FileRef(digest, upload.announced.ext)
            await self.store.in_thread(lambda: self._publish(upload, ref))
        upload.finished, upload.used = True, self.clock()
        await self.show(upload.announced.license, ref)

    async def rehash(self, upload: Upload) -> None:
        """See to it that `hasher` has seen all bytes that are on the disk; reads them if it has not."""
        if upload.hashed == upload.offset:
            return
        upload.forget_hash()
        path, size = self.partial(upload), upload.offset
        with disk_errors():
            upload.hasher = await self.store.in_thread(lambda: hash_of(path, size))
        upload.hashed = size

    async def remove(self, upload: Upload) -> None:
        """Forget it, and what came of it; a finished file stays in the store. Its lock is held, or nobody uses it."""
        self._uploads.pop(upload.id, None)
        await self.store.in_thread(lambda: self._folder.erase(upload))

    async def expire(self) -> int:
        """Remove what nobody went on with, and the oldest finished ones; returns how many."""
        now = self.clock()
        idle = [one for one in self._uploads.values() if one.expires <= now and not one.lock.locked()]
        finished = sorted((one for one in self._uploads.values() if one.finished), key=lambda one: one.used)
        surplus = finished[: max(0, len(self._uploads) - MAX_RECORDS)]
        gone = {one.id: one for one in (*idle, *surplus)}
        for one in gone.values():
            await self.remove(one)
        return len(gone)

    async def _still(self, upload: Upload) -> bool:
        """Whether it is here; a finished one is as long as its file."""
        if upload.finished:
            here = self._here(upload.announced)
        else:
            here = upload.lock.locked() or (upload.expires > self.clock() and self._on_disk(upload))
        if not here:
            await self.remove(upload)
        return here

    def _on_disk(self, upload: Upload) -> bool:
        """Whether its partial is there; what was cut off it behind our back counts no more."""
        try:
            size = self.partial(upload).stat().st_size
        except OSError:
            return False
        if size < upload.offset:
            upload.offset = size
            upload.forget_hash()
        return True

    async def _make_room(self, announced: Announced) -> None:
        """One more of this license, where it could find room. What is in its way goes only as its bytes come."""
        await self.expire()
        mine = sorted((one for one in self._unfinished() if self._same(one, announced)), key=lambda one: one.used)
        most = MAX_OF_LICENSE if announced.license else MAX_UPLOADS
        for one in mine[: max(0, len(mine) + 1 - most)]:
            if one.used + IDLE > self.clock() or one.lock.locked():
                raise WorkerRefused(f"{most} uploads are unfinished here: try again later", code="queue_full")
            await self.remove(one)
        if (why := await self._lacks(announced.length)) is None:
            return
        for one in sorted(self._unfinished(), key=lambda one: one.used):
            if one.used + IDLE <= self.clock() and not one.lock.locked():
                await self.remove(one)
                if await self._lacks(announced.length) is None:
                    return
        raise why

    def _same(self, upload: Upload, announced: Announced) -> bool:
        return upload.announced.license == announced.license

    async def _lacks(self, length: int) -> WorkerRefused | None:
        with disk_errors():
            room = await self.store.in_thread(self.room)
            if length > room:
                room += await self.store.removable()
        return self.store.refusal(length, room) if length > room else None

    def _unfinished(self) -> list[Upload]:
        # A copy in one go: a thread asks too, while the loop adds and removes.
        return [one for one in list(self._uploads.values()) if not one.finished]

    def _publish(self, upload: Upload, ref: FileRef) -> None:
        partial = self.partial(upload)
        file = partial.open("rb+", buffering=0)
        file.truncate(upload.announced.length)  # what was hashed, and no more
        self.store.publish(file, partial, ref)
        partial.unlink(missing_ok=True)  # Windows, when the same content was there already


async def _nobody_asks(_license: str, _file: FileRef) -> None:
    """Until somebody wants to know."""


async def expire_for_ever(uploads: Uploads) -> None:
    """Look every few minutes for what nobody goes on with."""
    while True:
        await uploads.expire()
        await asyncio.sleep(LOOK_EVERY)


def gone() -> WorkerRefused:
    """What is said to one who goes on with an upload that is not here."""
    return WorkerRefused("there is no such upload here: begin it again", code="not_found")


def upload_id(text: str) -> str:
    """The id in a caller's address; what is none is as unknown as one that was never given out."""
    if not ID.fullmatch(text):
        raise gone()
    return text
