"""Writes one file and hashes it, in a thread of a pool, while the next bytes arrive.

The thread takes batch after batch without a return to the loop, which would cost half as much again. The number of
batches ahead of it is bounded, so a slow disk delays one transfer and not the whole program. After a while the thread
goes back to the pool, so that more transfers than threads make progress. Writing and hashing release the interpreter
lock. Blocks are written as they arrive, without a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from io import FileIO
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from wakestream.adapters.disk.atomic import write_all
from wakestream.operators.model.events import Algorithm

BATCH = 1024 * 1024
"""Bytes of one batch."""

AHEAD = 2
"""Most batches of the thread before the next one is accepted: one that it writes, and one that waits."""

TURN = 0.05
"""Seconds after which the thread goes back to the pool although there is more to write."""

LATEST = 1.0
"""Seconds after which a smaller batch is written too, so that its bytes survive a kill."""


class Hasher(Protocol):
    """The common methods of hashlib and blake3."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Hash more bytes."""

    def digest(self) -> bytes:
        """The hash of all bytes so far."""

    def hexdigest(self) -> str:
        """The same in lower-case hexadecimal."""


def hasher(algorithm: Algorithm) -> Hasher:
    """A new hash object of this algorithm."""
    return blake3() if algorithm == "blake3" else hashlib.md5(usedforsecurity=False)


def algorithm_of(digest: str) -> Algorithm:
    """Which algorithm made `digest`: MD5 has 32 hex digits (deployed clients), BLAKE3 has 64."""
    return "md5" if len(digest) == 32 else "blake3"


def hash_of(path: Path, size: int, key: bytes | None = None) -> blake3:
    """BLAKE3 of the file's first `size` bytes, with a key of 32 bytes if given; more can be added. Blocks."""
    with path.open("rb", buffering=0) as file:
        return hash_in(file, size, key)


def hash_in(file: FileIO, size: int, key: bytes | None = None) -> blake3:
    """As `hash_of`, for the next `size` bytes of an open file: a locked one cannot be opened again on Windows."""
    hash_ = blake3() if key is None else blake3(key=key)
    buffer = bytearray(BATCH)
    view = memoryview(buffer)
    while size and (count := file.readinto(view[: min(size, BATCH)])):
        hash_.update(view[:count])
        size -= count
    return hash_


class HashingWriter:
    """Appends to `file` and feeds the `hashers`. Methods may raise the disk's `OSError`; then nothing more is written.

    `size` counts the bytes that were added, `written` those on the disk; both begin at `size`. For one task at a time.
    """

    def __init__(self, file: FileIO, hashers: Sequence[Hasher], executor: Executor, size: int = 0) -> None:
        self.file = file
        self.size = self.written = size
        self._hashers = hashers
        self._executor = executor
        self._batch: list[bytes | memoryview] = []
        self._batched = 0
        self._loop = asyncio.get_running_loop()
        self._handed = self._loop.time()
        self._ahead: deque[list[bytes | memoryview]] = deque()  # its first is being written
        self._lock = threading.Lock()
        self._at_work = False
        self._error: BaseException | None = None
        self._enough = -1
        self._news = asyncio.Event()

    async def add(self, block: bytes | memoryview) -> None:
        """Add the next bytes; waits only while the thread has more than `AHEAD` batches.

        A view goes to the thread at once. Its memory may be used again after the next `AHEAD` calls.
        """
        self.size += len(block)
        self._batch.append(block)
        self._batched += len(block)
        late = self._loop.time() - self._handed >= LATEST
        if self._batched >= BATCH or late or isinstance(block, memoryview):
            self._hand_over()
            await self._until(AHEAD)

    async def flush(self) -> None:
        """Wait until everything is written. It can be called again."""
        if self._batch:
            self._hand_over()
        await self._until(0)

    def _hand_over(self) -> None:
        batch, self._batch, self._batched = self._batch, [], 0
        self._handed = self._loop.time()
        with self._lock:
            self._ahead.append(batch)
            idle, self._at_work = not self._at_work, True
        if idle:
            self._in_line()

    async def _until(self, enough: int) -> None:
        """Wait until the thread has at most `enough` batches; raises its error."""
        self._enough = enough
        while len(self._ahead) > enough and self._error is None:
            self._news.clear()
            await self._news.wait()
        if self._error is not None:
            raise self._error

    def _in_line(self) -> None:
        try:
            self._executor.submit(self._turn).add_done_callback(self._over)
        except RuntimeError as error:  # the pool was closed
            self._end(error)

    def _over(self, turn: Future[None]) -> None:
        if turn.cancelled():
            self._end(RuntimeError("the pool was closed while there was more to write"))

    # In the thread

    def _turn(self) -> None:
        """Write batches for `TURN` seconds. After an error `_at_work` stays true, so that no other thread begins."""
        ends = time.monotonic() + TURN
        try:
            while more := self._write_next():
                if time.monotonic() >= ends:
                    break
        except BaseException as error:  # `_until` raises it
            self._end(error)
        else:
            if more:
                self._in_line()

    def _write_next(self) -> bool:
        """Write the next batch; whether there is another."""
        self.write(self._ahead[0])
        with self._lock:
            self._ahead.popleft()
            left = len(self._ahead)
            self._at_work = left > 0
        if left == self._enough:
            self._tell()
        return left > 0

    def _end(self, error: BaseException) -> None:
        self._error = error
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._news.set)

    def write(self, batch: Sequence[bytes | memoryview]) -> None:
        """In the thread."""
        for block in batch:
            write_all(self.file, block)
            for hash_ in self._hashers:
                hash_.update(block)
            self.written += len(block)
