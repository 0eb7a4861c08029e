"""Hashes the user's files. Each file is read once for all its hashes, in a few threads for all jobs."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from wakestream.adapters.disk.hashing_writer import Hasher, hasher
from wakestream.adapters.disk.state_folder import holds_state
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model.errors import FileChanged, FileUnusable
from wakestream.operators.model.events import Algorithm, Fingerprint

BLOCK = 4 * 1024 * 1024
"""Bytes of a block; a reading can be cancelled between two blocks."""

SMALL = 64 * 1024
"""Bytes of a file that is read at once: a switch to a thread and back takes longer."""

THREADS = 2
"""Files that are read at the same time; more would not be faster."""

REMEMBERED = 4096
"""Files whose digests are remembered."""


_NO_NAME = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|^(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])(?:\.|$)', re.IGNORECASE)
"""Names that are not a file on Windows, but a device, a stream of another file, or an error."""


@dataclass(frozen=True, slots=True)
class _Key:
    """One version of one file. A program can set `mtime_ns` back, but not `ctime_ns`."""

    path: Path
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int


@dataclass(slots=True)
class _Reading:
    """A reading in progress, and the number of tasks that wait for it."""

    algorithms: frozenset[Algorithm]
    stop: threading.Event
    result: asyncio.Future[dict[str, str]]
    waiting: int = 0


class DiskFiles:
    """Implements the port `Files`. For one event loop; `close` ends the readings."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, "wakestream-files")
        self._known: Recent[_Key, dict[str, str]] = Recent(REMEMBERED)
        self._readings: dict[_Key, _Reading] = {}

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """Hash the file with these algorithms.

        Several calls for the same unchanged file read it once.

        Raises:
            FileUnusable: the file is missing, empty or cannot be read.
            FileChanged: the file was written to during the reading.
        """
        key = _look(path)
        wanted = frozenset(algorithms)
        while missing := wanted - self._digests(key).keys():
            if key.size <= SMALL:
                self._known[key] = {**self._digests(key), **_hashed(key, missing, threading.Event())}
            else:
                await self._read(key, missing)
        digests = self._digests(key)
        return Fingerprint(path, key.size, key.mtime_ns, {name: digests[name] for name in sorted(wanted)})

    def _digests(self, key: _Key) -> dict[str, str]:
        return self._known.get(key, {})

    async def _read(self, key: _Key, missing: frozenset[Algorithm]) -> None:
        """Wait for the reading in progress, or begin one. The last task that stops waiting cancels it."""
        reading = self._readings.get(key)
        if reading is None:
            stop = threading.Event()
            work = asyncio.wrap_future(self._executor.submit(_hashed, key, missing, stop))
            reading = begun = self._readings[key] = _Reading(missing, stop, work)
            work.add_done_callback(lambda _: self._ended(key, begun))
        reading.waiting += 1
        try:
            await asyncio.shield(reading.result)
            # Before the loop runs the callback: a call in between would find neither the reading nor the digests.
            self._ended(key, reading)
        finally:
            reading.waiting -= 1
            if not reading.waiting and not reading.result.done():
                reading.stop.set()
                self._readings.pop(key, None)

    def _ended(self, key: _Key, reading: _Reading) -> None:
        if self._readings.get(key) is reading:
            del self._readings[key]
        if reading.result.cancelled() or reading.result.exception() is not None:
            return
        self._known[key] = {**self._digests(key), **reading.result.result()}

    async def close(self) -> None:
        """Stop all readings; the threads end after their current block."""
        for reading in self._readings.values():
            reading.stop.set()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _look(path: Path) -> _Key:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FileUnusable(f"{path} does not exist; check its name") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if stat.S_ISDIR(status.st_mode):
        raise FileUnusable(f"{path} is a folder; name one of the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise FileUnusable(f"{path} is not a regular file; copy its content into one first")
    if status.st_size == 0:
        raise FileUnusable(f"{path} is empty; wait until it has been written, or choose another")
    return _Key(path.absolute(), status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def _unreadable(path: Path, error: Exception) -> FileUnusable:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileUnusable(f"{path} cannot be read ({reason}); check its permissions and its disk")


def check_readable(path: Path) -> None:
    """Raise `FileUnusable` unless `path` is a file that is not empty and that this account can read."""
    _look(path)
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise _unreadable(path, error) from None


def check_named(path: Path) -> None:
    """Raise `FileUnusable` without a file extension: hub and workers identify a file by hash and extension."""
    if not re.fullmatch(r"\.[A-Za-z0-9]{1,10}", path.suffix):
        raise FileUnusable(f"{path} has no file extension; rename it, for example to {path.stem}.mp4")


def check_writable(path: Path, *, keep: Collection[Path] = (), flag: str = "-o", new: bool = False) -> None:
    """Raise `FileUnusable` when no file can be written to `path`, or when it would replace one of `keep`.

    With `new` it must not replace any file.

    `flag` is what names the file on the command line.
    """
    folder = path.parent
    if os.name == "nt" and _NO_NAME.search(path.name):
        rule = 'a file name on Windows has no <>:"|?*, no dot or space at its end, and is not a device such as nul'
        raise FileUnusable(f"{path.name} cannot be a file name: {rule}; choose another with {flag}")
    if path.is_dir():
        raise FileUnusable(f"{path} is a folder; name a file in it for the result")
    if folder.is_file():
        raise FileUnusable(f"{folder} is a file, not a folder for the result; choose another with {flag}")
    if not folder.is_dir():
        raise FileUnusable(f"the folder {folder} for the result does not exist; create it first")
    if holds_state(folder.resolve()):
        raise FileUnusable(f"{folder} belongs to a wakestream program's state; choose another folder with {flag}")
    if not os.access(folder, os.W_OK):
        raise FileUnusable(f"the folder {folder} for the result is not writable; choose another with {flag}")
    if any(path.exists() and path.samefile(other) for other in keep):
        raise FileUnusable(
            f"the result would replace {path}, which is one of the inputs; choose another name with {flag}"
        )
    if new and os.path.lexists(path):
        raise FileUnusable(f"{path} exists; choose another name with {flag}, or give --overwrite to replace it")


class _StoppedError(FileUnusable):
    """No task waits for this reading any more, or the program ends."""


def _hashed(key: _Key, algorithms: Collection[Algorithm], stop: threading.Event) -> dict[str, str]:
    """One reading, in a thread."""
    hashes = {name: hasher(name) for name in algorithms}
    try:
        with key.path.open("rb", buffering=0) as file:
            _unchanged(key, file)
            _feed(file, list(hashes.values()), stop)
            _unchanged(key, file)
        _unchanged(key, None)
    except FileNotFoundError:
        raise _changed(key.path) from None
    except (OSError, ValueError) as error:
        raise _unreadable(key.path, error) from None
    return {name: hash_.hexdigest() for name, hash_ in hashes.items()}


def _feed(file: FileIO, hashes: list[Hasher], stop: threading.Event) -> None:
    """Hash block after block while another thread reads the next: both free the interpreter lock."""
    size = os.fstat(file.fileno()).st_size
    if size < BLOCK:
        buffer = bytearray(size + 1)  # a small file is read faster without another thread
        while count := file.readinto(buffer):
            for hash_ in hashes:
                hash_.update(memoryview(buffer)[:count])
        return
    here, ahead = bytearray(BLOCK), bytearray(BLOCK)
    with ThreadPoolExecutor(1, "wakestream-reader") as reader:
        count = file.readinto(here)
        while count:
            if stop.is_set():
                raise _StoppedError("the reading was stopped: the program ends")
            reading = reader.submit(file.readinto, ahead)
            for hash_ in hashes:
                hash_.update(memoryview(here)[:count])
            count = reading.result()
            here, ahead = ahead, here


def _unchanged(key: _Key, file: FileIO | None) -> None:
    status = os.fstat(file.fileno()) if file is not None else key.path.stat()
    now = (status.st_size, status.st_mtime_ns, status.st_ino)  # a new link or owner changes ctime only
    if now != (key.size, key.mtime_ns, key.inode):
        raise _changed(key.path)


def _changed(path: Path) -> FileChanged:
    return FileChanged(f"{path} was changed while it was read; submit it again when it is complete")
