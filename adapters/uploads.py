"""Uploads that need not come in one go: what came stays on the disk, and the next connection goes on behind it.

An upload is a record (`ID.json`: what was announced) and a partial (`ID.part`: what came). Nothing else needs to be
remembered: how far it is, is the partial's size, and how it hashes is worked out again after a restart. The id follows
from hash, ending and length, so whoever comes again with the same file finds its upload without having kept anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from blake3 import blake3
from loguru import logger

from wakestream.adapters.patience import put
from wakestream.adapters.sink import Sink, hash_of
from wakestream.adapters.store import Store, check, disk_errors
from wakestream.operators.errors import Corrupt, WorkerRefused
from wakestream.operators.events import FileRef

MAX_UPLOADS = 256
"""Unfinished uploads at a time of all who know the secret."""

MAX_OF_LICENSE = 64
"""Unfinished uploads at a time of a license."""

STEP = 8 * 1024 * 1024
"""Bytes for which room is made sure of at a time; more as more has come."""

MAX_RECORDS = 1024
"""Uploads that are known, the finished among them: a sender whose last answer was lost asks how it ended."""

KEPT = 24 * 3600.0
"""Seconds after its last byte that an unfinished upload is kept."""

IDLE = 3600.0
"""Seconds after which an unfinished upload goes where room is needed for another."""

LOOK_EVERY = 300.0

_ID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_EXT = re.compile(r"\.[a-z0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Announced:
    """What the sender said: bytes in all, ending with its dot, and the BLAKE3 (hex) if it knows it.

    `metadata` is all that it said of the file, in its own words. `license` (a public id) is the sender's: what others
    send, and what they made of it, is theirs. Empty for all who know the secret.
    """

    length: int
    ext: str
    blake3: str | None = None
    metadata: str = ""
    license: str = ""

    @property
    def ref(self) -> FileRef | None:
        """The name that the file will have."""
        return None if self.blake3 is None else FileRef(self.blake3, self.ext)

    def name(self) -> str:
        """The id: the same for the same file; of one that is not known by its hash, a new one."""
        if self.blake3 is None:
            return uuid.uuid4().hex
        whose = f"|{self.license}" if self.license else ""
        return hashlib.sha256(f"{self.blake3}{self.ext}|{self.length}{whose}".encode()).hexdigest()[:32]


class Upload:
    """One upload. `offset` counts the bytes that are on the disk, `used` is when it last grew (Unix seconds).

    `hasher` has seen the first `hashed` bytes, and is of use while these are all that there are.
    """

    def __init__(self, name: str, announced: Announced, offset: int, used: float) -> None:
        self.id = name
        self.announced = announced
        self.sink: Sink | None = None
        """Where bytes go while they come: it knows best how many are on the disk."""
        self.used = used
        self.hasher = blake3()
        self.hashed = 0
        self.finished = False
        self.sure: int | None = None
        """While bytes come under a checksum: how many there were before, since no others may outlast a crash."""
        self.lock = asyncio.Lock()
        """Held by whoever appends, finishes or removes."""
        self._offset = offset
        self.granted = 0
        """Bytes for which there was room when it was last looked at."""

    @property
    def offset(self) -> int:
        """Also while the sender is silent; the file's last byte counts only when he is done."""
        if self.sink is None:
            return self._offset
        return min(self.sink.written, self.announced.length - 1)

    @offset.setter
    def offset(self, offset: int) -> None:
        self._offset = offset

    @property
    def reserved(self) -> int:
        """Bytes of the disk that others leave to it: as many again as have come, so that words alone take up none."""
        return min(self.offset, self.announced.length - self.offset)

    @property
    def complete(self) -> bool:
        """Whether all bytes came; they may still have to be verified."""
        return self.offset == self.announced.length

    @property
    def expires(self) -> float:
        """Unix seconds."""
        return self.used + KEPT

    def forget_hash(self) -> None:
        """The bytes on the disk are no longer those that were hashed."""
        self.hasher, self.hashed = blake3(), 0


class Uploads:
    """All uploads of one worker, found again in its state folder. `clock` gives Unix time in seconds.

    May raise `NoSpace`, and `WorkerError` for any other trouble with the disk.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.clock = clock
        self._folder = store.root / "uploads"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.has: Callable[[str, FileRef], bool] = lambda license_, _: not license_
        """Whether a license has shown that it has a file, and need not send it."""
        self.show: Callable[[str, FileRef], Awaitable[None]] = _nobody_asks
        """Told when a license has sent a file."""
        self._creating = asyncio.Lock()
        self._uploads = {upload.id: upload for upload in self._found()}

    def partial(self, upload: Upload) -> Path:
        """Where its bytes are while it is unfinished."""
        return self._folder / f"{upload.id}.part"

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
            await self.store.in_thread(lambda: self._save(upload))
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
            await self.store.in_thread(lambda: self._record(upload))

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
                await self.store.in_thread(lambda: self._record(upload))
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
        await self.store.in_thread(lambda: self._erase(upload))

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

    # On the disk

    def _found(self) -> Iterator[Upload]:
        for path in sorted(self._folder.glob("*.json")):
            upload = self._restored(path)
            if upload is None:
                logger.warning("the upload {} cannot be gone on with and is removed", path.stem[:32])
                path.unlink(missing_ok=True)
                path.with_suffix(".part").unlink(missing_ok=True)
            else:
                yield upload
        for path in self._folder.iterdir():
            if path.suffix in (".part", ".new") and not path.with_suffix(".json").exists():
                with suppress(OSError):  # of an upload that was removed when a kill came in between
                    path.unlink()

    def _restored(self, path: Path) -> Upload | None:
        if not _ID.fullmatch(path.stem) or (found := _read(path)) is None:
            return None
        announced, sure = found
        partial = path.with_suffix(".part")
        upload = Upload(path.stem, announced, 0, path.stat().st_mtime)
        if partial.exists():
            status = partial.stat()
            upload.offset, upload.used = min(status.st_size, announced.length, sure), status.st_mtime
        elif announced.ref is not None and self.store.has(announced.ref):  # whose it is is asked when it is needed
            upload.offset, upload.finished = announced.length, True
        else:
            return None
        return upload

    def _save(self, upload: Upload) -> None:
        if not upload.finished:
            self.partial(upload).open("wb").close()
        self._record(upload)

    def _record(self, upload: Upload) -> None:
        path = self._folder / f"{upload.id}.json"
        half = path.with_suffix(".new")
        half.write_text(json.dumps({"v": 1, "sure": upload.sure, **asdict(upload.announced)}), encoding="utf-8")
        put(half, path)

    def _publish(self, upload: Upload, ref: FileRef) -> None:
        partial = self.partial(upload)
        file = partial.open("rb+", buffering=0)
        file.truncate(upload.announced.length)  # what was hashed, and no more
        self.store.publish(file, partial, ref)
        partial.unlink(missing_ok=True)  # Windows, when the same content was there already

    def _erase(self, upload: Upload) -> None:
        for path in (self._folder / f"{upload.id}.json", self.partial(upload)):
            with suppress(OSError):  # Windows, while it is written: the next sweep finds it
                path.unlink(missing_ok=True)


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
    if not _ID.fullmatch(text):
        raise gone()
    return text


def _read(path: Path) -> tuple[Announced, int] | None:
    """A record: what was announced, and how many bytes may be counted on; None when it makes no sense."""
    try:
        plain = json.loads(path.read_bytes())
        length, ext, digest = int(plain["length"]), str(plain["ext"]), plain["blake3"]
        metadata, license_ = str(plain.get("metadata", "")), str(plain.get("license", ""))
        sure = length if plain["sure"] is None else int(plain["sure"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    known = digest is None or _HASH.fullmatch(str(digest))
    if length <= 0 or sure < 0 or not known or not _EXT.fullmatch(ext):
        return None
    return Announced(length, ext, None if digest is None else str(digest), metadata, license_), sure
