"""The worker's files, named by their hash: written to a partial file, verified, and then renamed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeVar

from loguru import logger

from wakestream.adapters.disk.atomic import remove, replace_file, retry_in_use, sync_folder, write_all
from wakestream.adapters.disk.full_disk import is_full
from wakestream.adapters.disk.hashing_writer import HashingWriter, algorithm_of, hash_in, hash_of, hasher
from wakestream.operators.model.errors import Corrupt, FileUnusable, NoSpace, WorkerError, WorkerRefused
from wakestream.operators.model.events import Algorithm, FileRef
from wakestream.operators.model.ports import Output

T = TypeVar("T")

SMALL = 1024 * 1024
"""Bytes of a file that is received together with others."""

_THREADS = 4
_BLAKE3 = 64
_NAME = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{64})(?:\.[a-z0-9]{1,10}){0,4}")
"""A file, or what has come of one from the depot: `HASH.EXT.NUMBER.part`, and `.json` beside it."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Convert the errors of the disk in this block to errors that say what to do."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise NoSpace("the worker's disk is full: free some space there; what waits goes on then") from error
        why = f"the worker cannot write to its disk: {error.strerror or error}"
        raise WorkerError(why, code="disk_error") from error


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of `size` bytes on the disk, last used at `used` (Unix seconds)."""

    path: Path
    used: float
    size: int


def _stored(folder: Path) -> Iterator[Stored]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _NAME.fullmatch(entry.name) or entry.is_symlink():
                continue
            with suppress(FileNotFoundError):  # it was removed meanwhile
                files = [entry] if entry.is_file() else os.scandir(entry)
                size = sum(_share(file.stat()) for file in files)
                yield Stored(folder / entry.name, entry.stat().st_mtime, size)


def _share(status: os.stat_result) -> int:
    """The bytes of a file, shared among its names: a result is also one of the files."""
    return status.st_size // max(1, status.st_nlink)


def _use(path: Path | str) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # without write access, the file is not removed either
        return Path(path).exists()
    return True


def _write(path: str, content: bytes | memoryview) -> None:
    """Write a new file. A job may have many small ones, and `pathlib` takes twice as long."""
    with FileIO(path, "x") as file:
        write_all(file, content)


async def _remove_nothing(_: int = 0) -> int:
    """The default: no file may be removed."""
    return 0


class FileStore:
    """Files by their hash in `root`, of at most `most` bytes. `OSError`: the folder cannot be written."""

    def __init__(self, root: Path, most: int | None = None) -> None:
        self.root, self.most = root, most
        self._used, self._counting = 0, threading.Lock()
        self._files, self.partials, self._results = root / "files", root / "partial", root / "results"
        self.fetched = root / "fetched"
        """Where files from the depot arrive; what has come stays after a restart."""
        for folder in (self._files, self.partials, self._results, self.fetched):
            folder.mkdir(parents=True, exist_ok=True)
        self._marker = root / "unsynced"
        self._marked = False
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self.in_memory = asyncio.Semaphore(_THREADS)
        """For those who have a whole request of small files in memory, which only the disk delays."""
        self.make_room: Callable[[int], Awaitable[object]] = _remove_nothing
        """Removes files until this many bytes are free, if possible."""
        self.removable: Callable[[], Awaitable[int]] = _remove_nothing
        """Returns the bytes of the files that may be removed."""
        self.unfinished: Callable[[], int] = lambda: 0
        """Returns the bytes of unfinished uploads on the disk."""
        self.needed: Callable[[], Collection[Path]] = tuple
        """Returns the files of jobs that have no task yet, or still need its results."""

    def sweep(self) -> None:
        """Remove what an earlier run left: partial files, and small files that a power cut damaged.

        Call it before any other method, and only when no other worker can use the folder.
        """
        for leftover in (*self.partials.iterdir(), *self._results.glob("*.part.*")):
            remove(leftover)
        if self._marker.exists():
            # Remove small files of an earlier run that a power cut has damaged, and sync the others.
            for path in self._small():
                if not _is_whole(path):
                    logger.warning("{} was damaged by the end of the machine and is removed", path.name)
                    remove(path)
            self._sync_small()
        self._used = sum(file.size for file in self.stored()) if self.most is not None else 0

    def close(self) -> None:
        """Wait for running writes."""
        self.pool.shutdown()
        if self._marked:
            with suppress(OSError):  # the next run checks them
                self._sync_small()

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking function in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function)

    async def on_disk(self, function: Callable[[], T]) -> T:
        """As `in_thread`, with the errors of the disk converted."""
        with disk_errors():
            return await self.in_thread(function)

    def path(self, ref: FileRef) -> Path:
        """The path of this file, even if it does not exist."""
        return self._files / f"{ref.hash}{ref.ext}"

    def _place(self, ref: FileRef) -> str:
        return f"{self._files}{os.sep}{ref.hash}{ref.ext}"

    def has(self, ref: FileRef) -> bool:
        """Whether this file is here."""
        return self.path(ref).is_file()

    def claim(self, ref: FileRef) -> bool:
        """Whether this file is here. This is a use, so it is not removed for a while."""
        return _use(self._place(ref))

    def kept(self, task_id: str) -> bool:
        """Whether the result of this task is here. This is a use as well."""
        return _use(self.result(task_id)) or _use(self.results(task_id))

    def has_result(self, task_id: str) -> bool:
        """Whether the result of this task is here."""
        return self.result(task_id).is_file() or self.results(task_id).is_dir()

    def last_use(self, task_id: str) -> float | None:
        """The last use of the result of this task (Unix seconds); None if it is not here."""
        for place in (self.result(task_id), self.results(task_id)):
            with suppress(OSError):
                return place.stat().st_mtime
        return None

    def free(self) -> int:
        """The free bytes of the disk, or of the limit."""
        free = shutil.disk_usage(self.root).free
        return free if self.most is None else max(0, min(free, self.most - self._used - self.unfinished()))

    def size(self) -> int:
        """The size of the disk in bytes, or the limit."""
        total = shutil.disk_usage(self.root).total
        return total if self.most is None else min(total, self.most)

    def _count(self, path: Path, size: int) -> None:
        """Count a new file. `WorkerRefused` (`full`): the limit does not allow it."""
        with self._counting:
            if self.most is not None and not path.exists():
                if self._used + size > self.most:
                    raise self.refusal(size, self.most - self._used)
                self._used += size

    def refusal(self, length: int, room: int) -> WorkerRefused:
        """The error for an upload of `length` bytes with room for `room`: `too_large` if removing files cannot help."""
        size = self.size()
        if self.most is not None and length <= size:
            why = f"the depot is full: it has room for {room} bytes, the upload has {length}"
            return WorkerRefused(f"{why}; remove files with `wakestream depot rm`, or give it more room", code="full")
        if length > size:
            why = f"the worker's whole disk has {size} bytes, the upload has {length}: give it a larger one"
            return WorkerRefused(why, code="too_large")
        why = f"the worker's disk is full, it has room for {room} bytes, the upload has {length}: free some space there"
        return WorkerRefused(why, code="no_space")

    def stored(self) -> list[Stored]:
        """All complete files and results. It blocks: call it in a thread."""
        return [*_stored(self._files), *_stored(self._results), *_stored(self.fetched)]

    def move_times(self, moved: Callable[[float], float]) -> None:
        """Move the last use of all files when the clock was set. It blocks, so that no file is judged meanwhile."""
        seen = set[tuple[int, int]]()  # a result and the file of the same content are one
        for folder in (self._files, self.partials, self._results, self.fetched, self.root / "uploads"):
            for path in folder.iterdir() if folder.is_dir() else ():
                with suppress(OSError):  # removed meanwhile
                    status = path.stat()
                    if (key := (status.st_dev, status.st_ino)) not in seen:
                        seen.add(key)
                        os.utime(path, (at := moved(status.st_mtime), at))

    async def remove(self, file: Stored) -> bool:
        """Remove a file unless it was used since `file` was read; whether it was removed."""
        # Checked and moved without waiting, so that no caller can find the file in between.
        aside = self.partials / f"{uuid.uuid4().hex}.part"
        try:
            if file.path.stat().st_mtime != file.used:
                return False
            file.path.rename(aside)
        except OSError:  # removed already, or, on Windows, being read
            return False
        with self._counting:
            self._used -= file.size
        await self.in_thread(lambda: remove(aside))
        return True

    def result(self, task_id: str) -> Path:
        """The path of the one result of a task of the old shape, even if it does not exist."""
        return self._results / f"{task_id}.mp4"

    def results(self, task_id: str) -> Path:
        """The folder of the results of any other task, even if it does not exist."""
        return self._results / task_id

    def erase(self, task_id: str) -> None:
        """Remove the results of a task. `OSError`: a reader has one open (Windows)."""
        self.result(task_id).unlink(missing_ok=True)
        if self.results(task_id).is_dir():
            shutil.rmtree(self.results(task_id))

    @asynccontextmanager
    async def work_folder(self) -> AsyncIterator[Path]:
        """An empty folder while the block runs."""
        folder = self.partials / f"{uuid.uuid4().hex}.part"
        with disk_errors():
            folder.mkdir()
        try:
            yield folder
        finally:
            await asyncio.shield(self.in_thread(lambda: remove(folder)))

    async def take(self, task_id: str, files: Mapping[str, Path], *, single: bool) -> tuple[Output, ...]:
        """Sync the results of a task and give them their place, all or none.

        Args:
            task_id: The task.
            files: The finished files by name, in the order of the outputs, all in one work folder.
            single: Whether this is the one result of a task of the old shape.

        Returns:
            The results.
        """
        return await self.on_disk(lambda: self._take(task_id, files, single=single))

    def _take(self, task_id: str, files: Mapping[str, Path], *, single: bool) -> tuple[Output, ...]:
        made = tuple(_sealed(name, path) for name, path in files.items())
        for output, path in zip(made, files.values(), strict=True):
            self._offer(output, path)
        if single:
            replace_file(next(iter(files.values())), self.result(task_id))
        else:
            ready = self.partials / f"{uuid.uuid4().hex}.part"
            ready.mkdir()
            for output, path in zip(made, files.values(), strict=True):
                path.rename(ready / f"{output.name}{output.ext}")
            with (ready / _ORDER).open("w", encoding="ascii") as order:
                order.write("\n".join(files))
                order.flush()
                os.fsync(order.fileno())
            sync_folder(ready)
            remove(self.results(task_id))
            ready.rename(self.results(task_id))
        sync_folder(self._results)
        return made

    def _offer(self, output: Output, path: Path) -> None:
        """Make a result one of the files, so that a next task can have it as an input without an upload."""
        file = self.path(FileRef(output.blake3, output.ext))
        if _NAME.fullmatch(file.name) and not file.exists():
            with suppress(OSError):  # a disk without hard links: the file is sent again
                file.hardlink_to(path)

    @asynccontextmanager
    async def receive(self, algorithms: Collection[Algorithm]) -> AsyncIterator[Incoming]:
        """Receive a new file and hash it. At the end of the block it is removed unless it was kept."""
        with disk_errors():
            incoming = Incoming(self, self.partials / f"{uuid.uuid4().hex}.part", algorithms)
        try:
            yield incoming
        finally:
            await incoming.discard()

    def publish(self, file: FileIO, partial: Path, ref: FileRef) -> None:
        """Sync a verified file, close it, and rename it to its hash. It blocks: call it in a thread."""
        path = self.path(ref)
        self._count(path, os.fstat(file.fileno()).st_size)
        os.fsync(file.fileno())
        file.close()
        try:
            replace_file(partial, path)
        except PermissionError:  # Windows, when the same content is there already and being read
            if not path.is_file():
                raise
        sync_folder(path.parent)

    async def room_for(self, ref: FileRef, size: int) -> None:
        """Remove files until there is room for the rest of this file from the depot, if that is possible.

        `WorkerRefused` (`too_large`): the whole disk is smaller.
        """
        if size > self.size():
            raise self.refusal(size, 0)
        parts = self.fetched.glob(f"{ref.hash}{ref.ext}.*.part")
        left = await self.in_thread(lambda: size - sum(part.stat().st_size for part in parts))
        if left > await self.in_thread(self.free):
            await self.make_room(left)

    async def keep_all(self, files: Mapping[FileRef, bytes | memoryview]) -> None:
        """Verify and keep small files. Raises `Corrupt`: the BLAKE3 of one is not its name; then none is kept.

        They are not synced, since each sync takes milliseconds. The next run removes those that a power cut damaged,
        and their clients send them again.
        """
        room = sum(map(len, files.values()))
        if not await self.on_disk(lambda: room <= self.free() and self._keep_all(files)):
            await self.make_room(room)
            await self.on_disk(lambda: self._keep_all(files))

    def _keep_all(self, files: Mapping[FileRef, bytes | memoryview]) -> bool:
        for ref, content in files.items():
            digest = hasher("blake3")
            digest.update(content)
            check(digest.hexdigest(), ref.hash)
        if not self._marked:
            self._marker.touch()
            sync_folder(self.root)
            self._marked = True
        part = str(self.partials / f"{uuid.uuid4().hex}.part")
        for ref, content in files.items():
            path = self._place(ref)
            if not os.path.isfile(path):  # noqa: PTH113 - see `_write`
                if self.most is not None:
                    self._count(Path(path), len(content))
                try:
                    _write(part, content)
                    retry_in_use(partial(os.replace, part, path))
                except OSError:  # such as a full disk
                    remove(Path(part))
                    raise
        return True

    def _small(self) -> Iterator[Path]:
        return (path for path in self._files.iterdir() if len(path.stem) == _BLAKE3 and path.stat().st_size <= SMALL)

    def _sync_small(self) -> None:
        """Sync the small files; from now on they need no check."""
        if hasattr(os, "sync"):
            os.sync()
        else:
            for path in self._small():
                with path.open("rb+", buffering=0) as file:
                    os.fsync(file.fileno())
        self._marker.unlink()

    async def seal(self, task_id: str) -> tuple[Output, ...]:
        """Sync the results that an earlier run has left, and return them."""
        return await self.on_disk(lambda: self._seal(task_id))

    def _seal(self, task_id: str) -> tuple[Output, ...]:
        files = self._results_of(task_id)
        made = tuple(_sealed(name, path) for name, path in files.items())
        for output, path in zip(made, files.values(), strict=True):
            self._offer(output, path)
        sync_folder(self._results)
        return made

    def _results_of(self, task_id: str) -> dict[str, Path]:
        if self.result(task_id).is_file():
            return {"video": self.result(task_id)}
        folder = self.results(task_id)
        paths = {path.stem: path for path in folder.iterdir() if path.name != _ORDER}
        return {name: paths[name] for name in (folder / _ORDER).read_text(encoding="ascii").split()}


_ORDER = ".order"
"""The names of the results in a folder, the main one first."""


def _sealed(name: str, path: Path) -> Output:
    with path.open("rb+", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hash_in(file, size).hexdigest()
        os.fsync(file.fileno())
    return Output(name, path.suffix.lower(), size, digest)


def _is_whole(path: Path) -> bool:
    try:
        return hash_of(path, path.stat().st_size).hexdigest() == path.stem
    except OSError:  # it cannot be read
        return False


class Incoming:
    """A file that is being received. `NoSpace`: the disk is full; `WorkerError`: another error of the disk."""

    def __init__(self, store: FileStore, partial: Path, algorithms: Collection[Algorithm]) -> None:
        self._store = store
        self._partial = partial
        self._hashers = {algorithm: hasher(algorithm) for algorithm in algorithms}
        self._sink = HashingWriter(partial.open("wb", buffering=0), list(self._hashers.values()), store.pool)

    async def add(self, block: bytes) -> None:
        """As `HashingWriter.add`."""
        with disk_errors():
            await self._sink.add(block)

    async def keep(self, ext: str, *, expected: str | None = None, algorithm: Algorithm | None = None) -> FileRef:
        """Verify and sync the file, and rename it to its hash; returns that name.

        `Corrupt`: it does not have the `expected` hash; `FileUnusable`: it is empty.
        """
        with disk_errors():
            await self._sink.flush()
        if not self._sink.size:
            raise FileUnusable("the file is empty: send another file")
        digest = self._hashers[algorithm or algorithm_of(expected or "")].hexdigest()
        check(digest, expected)
        ref = FileRef(digest, ext)
        await self._store.on_disk(lambda: self._store.publish(self._sink.file, self._partial, ref))
        return ref

    async def discard(self) -> None:
        """Remove what came, unless the file was kept."""
        with suppress(OSError):
            await self._sink.flush()
        await self._store.in_thread(self._remove)

    def _remove(self) -> None:
        with suppress(OSError):
            self._sink.file.close()
        self._partial.unlink(missing_ok=True)


def check(digest: str, expected: str | None) -> None:
    """`Corrupt`: the hash is not the expected one."""
    if expected is not None and digest != expected:
        raise Corrupt(f"the file's hash is {digest} and not {expected} as announced: send it again")
