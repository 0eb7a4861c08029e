"""What is known of an upload, and the folder in which it outlives a restart: a record and a partial of each."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3
from loguru import logger

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.hashing_writer import HashingWriter
from wakestream.operators.model.events import FileRef

KEPT = 24 * 3600.0
"""Seconds after its last byte that an unfinished upload is kept."""

ID = re.compile(r"[0-9a-f]{32}")
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
        self.sink: HashingWriter | None = None
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


class UploadFolder:
    """Where uploads are while they last. All of it blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def partial(self, upload: Upload) -> Path:
        """Where its bytes are while it is unfinished."""
        return self._folder / f"{upload.id}.part"

    def found(self, has: Callable[[FileRef], bool]) -> Iterator[Upload]:
        """The uploads of an earlier run; `has`: whether a file is in the store. What makes no sense is removed."""
        for path in sorted(self._folder.glob("*.json")):
            upload = _restored(path, has)
            if upload is None:
                logger.warning("the upload {} cannot be gone on with and is removed", path.stem[:32])
                path.unlink(missing_ok=True)
                path.with_suffix(".part").unlink(missing_ok=True)
            else:
                yield upload
        for path in self._folder.iterdir():
            if path.suffix == ".new" or (path.suffix == ".part" and not path.with_suffix(".json").exists()):
                with suppress(OSError):  # a kill interrupted a write, or came before the upload was removed
                    path.unlink()

    def save(self, upload: Upload) -> None:
        """A new upload."""
        if not upload.finished:
            self.partial(upload).open("wb").close()
        self.record(upload)

    def record(self, upload: Upload) -> None:
        """What was announced, and what is sure."""
        path = self._folder / f"{upload.id}.json"
        plain = {"v": 1, "sure": upload.sure, **asdict(upload.announced)}
        write_atomic(path, json.dumps(plain).encode(), sync=False)

    def erase(self, upload: Upload) -> None:
        """All that is here of it."""
        for path in (self._folder / f"{upload.id}.json", self.partial(upload)):
            with suppress(OSError):  # Windows, while it is written: the next sweep finds it
                path.unlink(missing_ok=True)


def _restored(path: Path, has: Callable[[FileRef], bool]) -> Upload | None:
    if not ID.fullmatch(path.stem) or (found := _read(path)) is None:
        return None
    announced, sure = found
    partial = path.with_suffix(".part")
    upload = Upload(path.stem, announced, 0, path.stat().st_mtime)
    if partial.exists():
        status = partial.stat()
        upload.offset, upload.used = min(status.st_size, announced.length, sure), status.st_mtime
    elif announced.ref is not None and has(announced.ref):  # whose it is, is asked when it matters
        upload.offset, upload.finished = announced.length, True
    else:
        return None
    return upload


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
