"""Bytes on their way into one file, written and hashed in a thread while the next ones come.

A batch goes to the thread at a time, one ahead of the network: a disk that stalls then stalls one transfer and not the
whole program. Writing and hashing free the interpreter lock, and the hop (some 50 us) is small beside a batch.
Blocks are written as they came, never joined.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from io import FileIO
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from wakestream.operators.events import Algorithm

BATCH = 1024 * 1024
"""Bytes that go to the disk at a time."""

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


def hash_of(path: Path, size: int) -> blake3:
    """The BLAKE3 of the file's first `size` bytes, to go on with. It blocks: for a thread."""
    found = blake3()
    buffer = bytearray(BATCH)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while size and (count := file.readinto(view[: min(size, BATCH)])):
            found.update(view[:count])
            size -= count
    return found


class Sink:
    """Appends to `file` and feeds the `hashers`. Every method may raise the disk's `OSError`.

    `size` counts what was taken, `written` what the disk has; both begin at `size`. Used by one task at a time.
    """

    def __init__(self, file: FileIO, hashers: Sequence[Hasher], executor: Executor, size: int = 0) -> None:
        self.file = file
        self.size = self.written = size
        self._hashers = hashers
        self._executor = executor
        self._batch: list[bytes | memoryview] = []
        self._batched = 0
        self._clock = asyncio.get_running_loop().time
        self._handed = self._clock()
        self._writing: asyncio.Future[None] | None = None

    async def add(self, block: bytes | memoryview) -> None:
        """Take the next bytes; waits only while the batch before the last is still being written.

        A view is written at once: whose memory it is may use it again after the next but one.
        """
        self.size += len(block)
        self._batch.append(block)
        self._batched += len(block)
        late = self._clock() - self._handed >= LATEST
        if self._batched >= BATCH or late or isinstance(block, memoryview):
            await self._hand_over()

    async def flush(self) -> None:
        """Returns when all that was taken is written. It can be called again after an error, and when cancelled."""
        if self._batch:
            await self._hand_over()
        await self._settled()

    async def _hand_over(self) -> None:
        await self._settled()
        batch, self._batch, self._batched = self._batch, [], 0
        self._handed = self._clock()
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, self.write, batch)

    async def _settled(self) -> None:
        if self._writing is not None:
            # Shielded: the thread writes on when we are cancelled, and must have ended before the file is closed.
            await asyncio.wait((self._writing,))
            writing, self._writing = self._writing, None
            writing.result()

    def write(self, batch: Sequence[bytes | memoryview]) -> None:
        """In the thread."""
        for block in batch:
            rest = memoryview(block)
            while rest:
                rest = rest[self.file.write(rest) :]
            for one in self._hashers:
                one.update(block)
            self.written += len(block)
