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
from collections.abc import Callable, Iterator
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
"""Unfinished uploads at a time."""

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

    `metadata` is all that it said of the file, in its own words.
    """

    length: int
    ext: str
    blake3: str | None = None
    metadata: str = ""

    @property
    def ref(self) -> FileRef | None:
        """The name that the file will have."""
        return None if self.blake3 is None else FileRef(self.blake3, self.ext)

    def name(self) -> str:
        """The id: the same for the same file; of one that is not known by its hash, a new one."""
        if self.blake3 is None:
            return uuid.uuid4().hex
        return hashlib.sha256(f"{self.blake3}{self.ext}|{self.length}".encode()).hexdigest()[:32]


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
        self._creating = asyncio.Lock()
        self._uploads = {upload.id: upload for upload in self._found()}

    def partial(self, upload: Upload) -> Path:
        """Where its bytes are while it is unfinished."""
        return self._folder / f"{upload.id}.part"

    def room(self) -> int:
        """Bytes that the disk has left beyond what other uploads still wait for. It blocks."""
        return max(0, self.store.free() - self._awaited())

    def _awaited(self) -> int:
        return sum(one.announced.length - one.offset for one in self._unfinished())

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
        if announced.ref is not None and self.store.claim(announced.ref):
            upload.offset, upload.finished = announced.length, True
        else:
            await self._make_room(announced.length)
        with disk_errors():
            await self.store.in_thread(lambda: self._save(upload))
        self._uploads[upload.id] = upload
        return upload

    async def find(self, name: str) -> Upload:
        """The upload of this id, verified if all of it is here. `WorkerRefused` (`not_found`), `Corrupt`."""
        upload = self._uploads.get(name)
        if upload is None or not await self._still(upload):
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
            await self.store.in_thread(lambda: self._publish(upload, FileRef(digest, upload.announced.ext)))
        upload.finished, upload.used = True, self.clock()

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
            here = upload.announced.ref is not None and self.store.claim(upload.announced.ref)
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

    async def _make_room(self, length: int) -> None:
        await self.expire()
        for one in sorted(self._unfinished(), key=lambda one: one.used):
            if self._lacks(length) is None:
                return
            if one.used + IDLE <= self.clock() and not one.lock.locked():
                await self.remove(one)
        if (why := self._lacks(length)) is not None and why.code == "no_space":
            with disk_errors():
                await self.store.make_room(length + self._awaited())
            why = self._lacks(length)
        if why is not None:
            raise why

    def _lacks(self, length: int) -> WorkerRefused | None:
        if len(self._unfinished()) >= MAX_UPLOADS:
            return WorkerRefused(f"{MAX_UPLOADS} uploads are unfinished here: try again later", code="queue_full")
        with disk_errors():
            room = self.room()
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
        elif announced.ref is not None and self.store.has(announced.ref):
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
        metadata = str(plain.get("metadata", ""))
        sure = length if plain["sure"] is None else int(plain["sure"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    known = digest is None or _HASH.fullmatch(str(digest))
    if length <= 0 or sure < 0 or not known or not _EXT.fullmatch(ext):
        return None
    return Announced(length, ext, None if digest is None else str(digest), metadata), sure
