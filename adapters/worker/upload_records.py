"""Uploads and their folder, in which they survive a restart: a record and a partial file for each."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from blake3 import blake3
from loguru import logger
from msgspec import Meta

from wakestream.adapters.disk.atomic import remove, write_atomic
from wakestream.adapters.disk.hashing_writer import HashingWriter
from wakestream.operators.model.events import FileRef

KEPT = 24 * 3600.0
"""Seconds for which an unfinished upload is kept after its last byte."""

ID = re.compile(r"[0-9a-f]{32}")


class Announced(msgspec.Struct, frozen=True):
    """The file that the sender announced.

    Args:
        length: Its size in bytes.
        ext: Its ending, with the dot.
        blake3: Its BLAKE3 in hex; None if the sender does not know it.
        metadata: The sender's metadata header, unchanged.
        license: The sender's license (a public id), which owns the file; empty for callers with the secret.
    """

    length: Annotated[int, Meta(gt=0)]
    ext: Annotated[str, Meta(pattern=r"^\.[a-z0-9]{1,10}\Z")]
    blake3: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    metadata: str = ""
    license: str = ""

    @property
    def ref(self) -> FileRef | None:
        """The name that the file will have."""
        return None if self.blake3 is None else FileRef(self.blake3, self.ext)

    def name(self) -> str:
        """The id: the same for the same file, and a new one for a file without a hash."""
        if self.blake3 is None:
            return uuid.uuid4().hex
        whose = f"|{self.license}" if self.license else ""
        return hashlib.sha256(f"{self.blake3}{self.ext}|{self.length}{whose}".encode()).hexdigest()[:32]


class _Record(Announced, frozen=True, kw_only=True):
    """The file of an upload's record; `sure` is the number of valid bytes, None if all are."""

    sure: Annotated[int, Meta(ge=0)] | None
    v: int = 1


@dataclass(eq=False, slots=True)
class Upload:
    """One upload. `used` is when its last byte came (Unix seconds).

    `hasher` has the first `hashed` bytes; it can be used while `hashed` equals `offset`.
    """

    id: str
    announced: Announced
    used: float
    sink: HashingWriter | None = None
    """Writes received bytes, and knows how many are on the disk."""
    hasher: blake3 = field(default_factory=blake3)
    hashed: int = 0
    finished: bool = False
    sure: int | None = None
    """While bytes with a checksum come: the number of bytes before, since only these are valid after a crash."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while bytes are appended, and while the upload is finished or removed."""
    granted: int = 0
    """Bytes that have been reserved on the disk."""
    _offset: int = 0

    @property
    def offset(self) -> int:
        """The bytes on the disk. The last byte of the file counts only when the sender has finished."""
        if self.sink is None:
            return self._offset
        return min(self.sink.written, self.announced.length - 1)

    @offset.setter
    def offset(self, offset: int) -> None:
        self._offset = offset

    @property
    def reserved(self) -> int:
        """Bytes that other uploads must leave free: as many as came, so that an announcement alone reserves none."""
        return min(self.offset, self.announced.length - self.offset)

    @property
    def complete(self) -> bool:
        """Whether all bytes have come; they may not be verified yet."""
        return self.offset == self.announced.length

    @property
    def expires(self) -> float:
        """When it expires, in Unix seconds."""
        return self.used + KEPT

    def forget_hash(self) -> None:
        """Reset the hash, since the bytes on the disk have changed."""
        self.hasher, self.hashed = blake3(), 0


class UploadFolder:
    """The folder of uploads. All methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def partial(self, upload: Upload) -> Path:
        """Where its bytes are while it is unfinished."""
        return self._folder / f"{upload.id}.part"

    def found(self, has: Callable[[FileRef], bool]) -> Iterator[Upload]:
        """The uploads of earlier runs; `has` says whether a file is in the store. Invalid ones are removed."""
        for path in sorted(self._folder.glob("*.json")):
            upload = _restored(path, has)
            if upload is None:
                logger.warning("the upload {} cannot be continued and was removed", path.stem[:32])
                path.unlink(missing_ok=True)
                path.with_suffix(".part").unlink(missing_ok=True)
            else:
                yield upload
        for path in self._folder.iterdir():
            if path.suffix == ".new" or (path.suffix == ".part" and not path.with_suffix(".json").exists()):
                remove(path)  # a kill interrupted a write, or came before the upload was removed

    def save(self, upload: Upload) -> None:
        """Store a new upload."""
        if not upload.finished:
            self.partial(upload).open("wb").close()
        self.record(upload)

    def record(self, upload: Upload) -> None:
        """Write the record of an upload."""
        path = self._folder / f"{upload.id}.json"
        record = _Record(**msgspec.structs.asdict(upload.announced), sure=upload.sure)
        write_atomic(path, msgspec.json.encode(record), sync=False)

    def erase(self, upload: Upload) -> None:
        """Remove the files of an upload."""
        for path in (self._folder / f"{upload.id}.json", self.partial(upload)):
            remove(path)  # if it is being written on Windows, the next start removes it


def _restored(path: Path, has: Callable[[FileRef], bool]) -> Upload | None:
    if not ID.fullmatch(path.stem):
        return None
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, ValueError):
        return None
    announced = Announced(record.length, record.ext, record.blake3, record.metadata, record.license)
    upload = Upload(path.stem, announced, path.stat().st_mtime)
    partial = path.with_suffix(".part")
    if partial.exists():
        status = partial.stat()
        sure = record.length if record.sure is None else record.sure
        upload.offset, upload.used = min(status.st_size, record.length, sure), status.st_mtime
    elif announced.ref is not None and has(announced.ref):  # its license is checked later
        upload.offset, upload.finished = record.length, True
    else:
        return None
    return upload
