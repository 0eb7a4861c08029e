"""Check that a caller has a file that another license has sent, so that it is not sent twice.

The caller and the worker hash the whole file with a key (`challenge`) for this license and file. A caller that only
knows the file's name cannot compute the hash, and the hash is not valid for another license or file.
"""

from __future__ import annotations

import asyncio
import hmac
import os

from blake3 import blake3

from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.net.connection_limits import Rate
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker.state import file_name

WRONG, AGAIN = 5, 60.0
"""Wrong proofs of a license at once, and the seconds until one more is allowed: each makes the worker read a file."""


class Proofs:
    """Makes challenges and checks proofs. Its key is new at each start of the worker."""

    def __init__(self, store: FileStore, queue: TaskQueue) -> None:
        self._store, self._queue = store, queue
        self._key = os.urandom(32)
        self._wrong = Rate(WRONG, AGAIN)
        self._reading = asyncio.Semaphore(1)

    def challenge(self, license_: str, file: FileRef) -> str:
        """The key (64 hex digits) with which this license must hash this file. `WorkerRefused` (`not_found`)."""
        if not self._store.has(file):
            raise _not_here(file)
        return blake3(f"{license_}|{file_name(file)}".encode(), key=self._key).hexdigest()

    async def check(self, license_: str, file: FileRef, proof: str) -> None:
        """Add the file to this license if the proof is correct. `WorkerRefused` (`not_proved`, `not_found`)."""
        key = bytes.fromhex(self.challenge(license_, file))
        async with self._reading:
            if self._queue.state.has(license_, file):
                return
            if self._wrong.wait(license_) > 0:
                raise WorkerRefused("too many proofs of this license were wrong: send the file", code="not_proved")
            right = await self._store.in_thread(lambda: self._hash(file, key))
            if not hmac.compare_digest(right, proof):
                self._wrong.count(license_)
                why = "this is not the hash of the file with the challenge: send the file"
                raise WorkerRefused(why, code="not_proved")
            await self._queue.show(license_, file)
        self._store.claim(file)

    def _hash(self, file: FileRef, key: bytes) -> str:
        path = self._store.path(file)
        try:
            return hash_of(path, path.stat().st_size, key).hexdigest()
        except OSError:
            raise _not_here(file) from None


def _not_here(file: FileRef) -> WorkerRefused:
    return WorkerRefused(f"{file_name(file)} is not here: send the file", code="not_found")
