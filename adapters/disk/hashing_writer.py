"""Bytes on their way into one file, written and hashed in a thread while the next ones come.

The thread goes from batch to batch by itself: to come back to the loop in between took it half as long again as the
work. A few are ahead of it and no more, so a disk that stalls stalls one transfer and not the whole program. It stands
in the pool's line again after a while, so more transfers than there are threads go on side by side. Writing and hashing
free the interpreter lock. Blocks are written as they came, never joined.
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

from wakestream.operators.model.events import Algorithm

BATCH = 1024 * 1024
"""Bytes that go to the disk at a time."""

AHEAD = 2
"""Batches that are with the thread at most when the next is asked for: one that it writes, and one for after that."""

TURN = 0.05
"""Seconds after which a thread is left to others who wait for one, though there is more to write."""

LATEST = 1.0
"""Seconds after which they go there though they are fewer: what came must outlast a kill."""


class Hasher(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take more bytes in."""
        ...

    def digest(self) -> bytes:
        """The hash of all bytes so far."""
        ...

    def hexdigest(self) -> str:
        """The same in lower-case hex."""
        ...


def hasher(algorithm: Algorithm) -> Hasher:
    """A new one of either kind that files are named by."""
    return blake3() if algorithm == "blake3" else hashlib.md5(usedforsecurity=False)


def algorithm_of(digest: str) -> Algorithm:
    """Which algorithm made `digest`: MD5 has 32 hex digits (deployed clients), BLAKE3 has 64."""
    return "md5" if len(digest) == 32 else "blake3"


def hash_of(path: Path, size: int, key: bytes | None = None) -> blake3:
    """The BLAKE3 (under a key of 32 bytes) of the file's first `size` bytes, to go on with. It blocks: for a thread."""
    with path.open("rb", buffering=0) as file:
        return hash_in(file, size, key)


def hash_in(file: FileIO, size: int, key: bytes | None = None) -> blake3:
    """As `hash_of`, of the next `size` bytes of a file that is open: where it is locked, another may not read it."""
    found = blake3() if key is None else blake3(key=key)
    buffer = bytearray(BATCH)
    view = memoryview(buffer)
    while size and (count := file.readinto(view[: min(size, BATCH)])):
        found.update(view[:count])
        size -= count
    return found


class HashingWriter:
    """Appends to `file` and feeds the `hashers`. Every method may raise the disk's `OSError`; nothing is written after.

    `size` counts what was taken, `written` what the disk has; both begin at `size`. Used by one task at a time.
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
        """Take the next bytes; waits only while more than `AHEAD` batches are with the thread.

        A view is handed over at once: whose memory it is may use it again once the next `AHEAD` were taken.
        """
        self.size += len(block)
        self._batch.append(block)
        self._batched += len(block)
        late = self._loop.time() - self._handed >= LATEST
        if self._batched >= BATCH or late or isinstance(block, memoryview):
            self._hand_over()
            await self._until(AHEAD)

    async def flush(self) -> None:
        """Returns when all that was taken is written, and raises when no more will be. It can be called again."""
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
        """Wait until the thread has no more than `enough` batches, or has ended with an error, which is raised."""
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
        """Batch after batch, for a while. After an error it counts as at work for ever, so that no other begins."""
        ends = time.monotonic() + TURN
        try:
            while more := self._write_next():
                if time.monotonic() >= ends:
                    break
        except BaseException as error:  # raised where it is waited for
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
            rest = memoryview(block)
            while rest:
                rest = rest[self.file.write(rest) :]
            for one in self._hashers:
                one.update(block)
            self.written += len(block)
