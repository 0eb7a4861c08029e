"""The worker's files on the disk, named by what is in them: written to a partial, verified, and only then renamed.

Writing and hashing go to a small pool of threads, a batch of 1 MiB at a time and one batch ahead of the network: a disk
that stalls then stalls one upload and not the whole server, both hash algorithms free the interpreter lock, and the
hop (some 50 us) is small beside a batch. Blocks are written as they came, never joined.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from blake3 import blake3

from wakestream.adapters.engines.partial import remove
from wakestream.operators.errors import Corrupt, FileUnusable, NoSpace, WorkerError
from wakestream.operators.events import Algorithm, FileRef

T = TypeVar("T")

BATCH = 1024 * 1024
"""Bytes that go to the disk at a time."""

_THREADS = 4
_NAME = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{64})\.[a-z0-9]{1,10}")
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Hasher(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: bytes, /) -> object:
        """Take more bytes in."""
        ...

    def hexdigest(self) -> str:
        """Lower-case hex of all bytes so far."""
        ...


def _hasher(algorithm: Algorithm) -> Hasher:
    return blake3() if algorithm == "blake3" else hashlib.md5(usedforsecurity=False)


def algorithm_of(digest: str) -> Algorithm:
    """MD5 has 32 hex digits (the field's clients), BLAKE3 has 64."""
    return "md5" if len(digest) == 32 else "blake3"


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power cut, where the platform lets one open a folder."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_error(error: OSError) -> WorkerError | NoSpace:
    """The disk's complaint as a sentence that says what to do."""
    if error.errno in _FULL:
        return NoSpace("the worker's disk is full: free some space there and send the file again")
    return WorkerError(f"the worker cannot write to its disk: {error.strerror or error}", code="disk_error")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file on the disk, last used at `used` (Unix seconds)."""

    path: Path
    used: float


def _stored(folder: Path) -> Iterator[Stored]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                yield Stored(folder / entry.name, entry.stat().st_mtime)


def _use(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # a disk that cannot be written to cannot lose it either
        return path.is_file()
    return path.is_file()


class Store:
    """Files by content under `root`. `OSError` when that cannot be written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files, self._partials, self._results = root / "files", root / "partial", root / "results"
        for folder in (self._files, self._partials, self._results):
            folder.mkdir(parents=True, exist_ok=True)
        self._leftovers = [*self._partials.iterdir(), *self._results.glob("*.part.*")]
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")

    def sweep(self) -> None:
        """Remove what an earlier run left half-written. Only once no other worker can be at work here."""
        for leftover in self._leftovers:
            remove(leftover)
        self._leftovers = []

    def close(self) -> None:
        """Wait for what is being written."""
        self._pool.shutdown()

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking disk job in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    def path(self, ref: FileRef) -> Path:
        """Where this file is, or would be."""
        return self._files / f"{ref.hash}{ref.ext}"

    def has(self, ref: FileRef) -> bool:
        """Whether this file is here."""
        return self.path(ref).is_file()

    def claim(self, ref: FileRef) -> bool:
        """Whether this file is here. That counts as a use: what is here now stays for a while."""
        return _use(self.path(ref))

    def kept(self, task_id: str) -> bool:
        """Whether the result of this task is here; a use, likewise."""
        return _use(self.result(task_id))

    def free(self) -> int:
        """Bytes left on the disk."""
        return shutil.disk_usage(self.root).free

    def stored(self) -> list[Stored]:
        """All whole files and results. It blocks: call it in a thread."""
        return [*_stored(self._files), *_stored(self._results)]

    async def remove(self, one: Stored) -> bool:
        """Remove a file, unless it was used again since it was looked at; whether it went."""
        # Looked at and moved away in one go, so that nobody can be told in between that it is here.
        aside = self._partials / f"{uuid.uuid4().hex}.part"
        try:
            if one.path.stat().st_mtime != one.used:
                return False
            one.path.rename(aside)
        except OSError:  # gone already, or, on Windows, being read
            return False
        await self.in_thread(lambda: aside.unlink(missing_ok=True))
        return True

    def result(self, task_id: str) -> Path:
        """Where the result of this task is, or would be."""
        return self._results / f"{task_id}.mp4"

    def receive(self, algorithms: Collection[Algorithm]) -> Incoming:
        """A new file on its way in, hashed as it comes; an async context manager that removes what was not kept."""
        try:
            return Incoming(self, self._partials / f"{uuid.uuid4().hex}.part", algorithms)
        except OSError as error:
            raise disk_error(error) from error

    async def seal(self, task_id: str) -> tuple[int, str]:
        """Make a finished result durable; its size in bytes and its BLAKE3."""
        path = self.result(task_id)
        try:
            return await self.in_thread(lambda: _seal(path))
        except OSError as error:
            raise disk_error(error) from error


def _seal(path: Path) -> tuple[int, str]:
    hasher = blake3()
    with path.open("rb+") as file:
        while block := file.read(BATCH):
            hasher.update(block)
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return path.stat().st_size, hasher.hexdigest()


class Incoming:
    """One file on its way in. May raise `NoSpace`, and `WorkerError` for any other trouble with the disk."""

    def __init__(self, store: Store, partial: Path, algorithms: Collection[Algorithm]) -> None:
        self._store = store
        self._partial = partial
        self._hashers = {algorithm: _hasher(algorithm) for algorithm in algorithms}
        self._file = partial.open("wb")
        self._batch: list[bytes] = []
        self._batched = 0
        self._writing: asyncio.Future[None] | None = None
        self.size = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with suppress(WorkerError, NoSpace):
            await self._written()
        await self._store.in_thread(self._discard)

    async def add(self, block: bytes) -> None:
        """Take the next bytes; waits only while the batch before the last is still being written."""
        self.size += len(block)
        self._batch.append(block)
        self._batched += len(block)
        if self._batched >= BATCH:
            await self._flush()

    async def keep(self, ext: str, *, expected: str | None = None, algorithm: Algorithm | None = None) -> FileRef:
        """Verify, make durable, and name the file after its content; returns that name.

        `Corrupt` when it is not the `expected` hash, `FileUnusable` when it is empty.
        """
        await self._flush()
        await self._written()
        if not self.size:
            raise FileUnusable("the file is empty: send one with something in it")
        digest = self._hashers[algorithm or algorithm_of(expected or "")].hexdigest()
        if expected is not None and digest != expected:
            raise Corrupt(f"the file's hash is {digest} and not {expected} as announced: send it again")
        ref = FileRef(digest, ext)
        try:
            await self._store.in_thread(lambda: self._publish(self._store.path(ref)))
        except OSError as error:
            raise disk_error(error) from error
        return ref

    async def _flush(self) -> None:
        await self._written()
        batch, self._batch, self._batched = self._batch, [], 0
        self._writing = asyncio.ensure_future(self._store.in_thread(lambda: self._write(batch)))

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                await writing
            except OSError as error:
                raise disk_error(error) from error

    def _write(self, batch: Sequence[bytes]) -> None:
        for block in batch:
            self._file.write(block)
            for hasher in self._hashers.values():
                hasher.update(block)

    def _publish(self, path: Path) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        try:
            self._partial.replace(path)
        except PermissionError:  # Windows, when the same content is there already and being read
            if not path.is_file():
                raise
        sync_folder(path.parent)

    def _discard(self) -> None:
        with suppress(OSError):  # closing flushes, and a full disk says so once more
            self._file.close()
        self._partial.unlink(missing_ok=True)
