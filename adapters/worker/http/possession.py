"""Proof that a caller has a file which another license sent, so that it need not be sent twice.

The caller hashes the whole file under a key (`challenge`) that is its license's alone; so does the worker, once. Who
knows only the file's name cannot answer, and an answer is of no use to another license or for another file.
"""

from __future__ import annotations

import asyncio
import hmac
import os

from blake3 import blake3

from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.net.rate_limit import Rate
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker.worker import file_name

WRONG, AGAIN = 5, 60.0
"""Wrong proofs of a license at once, then one more every so many seconds: each makes the worker read a file."""


class Proofs:
    """What licenses are asked, and what they answer. The key of it all lives as long as the worker runs."""

    def __init__(self, store: FileStore, queue: TaskQueue) -> None:
        self._store, self._queue = store, queue
        self._key = os.urandom(32)
        self._wrong = Rate(WRONG, AGAIN)
        self._proving: set[str] = set()
        self._reading = asyncio.Semaphore(1)

    def challenge(self, license_: str, file: FileRef) -> str:
        """The key (64 hex digits) under which this license hashes this file. `WorkerRefused` (`not_found`)."""
        if not self._store.has(file):
            raise _not_here(file)
        return blake3(f"{license_}|{file_name(file)}".encode(), key=self._key).hexdigest()

    async def check(self, license_: str, file: FileRef, proof: str) -> None:
        """The file is this license's too, if the proof is right.

        `WorkerRefused`: `not_proved`, `not_found`, `too_many` (wrong ones, or one is being looked at).
        """
        wait = self._wrong.wait(license_)
        if wait > 0 or license_ in self._proving:
            raise WorkerRefused(
                f"no further proof is looked at for {max(wait, 1):.0f} s: send the file", code="too_many"
            )
        key = bytes.fromhex(self.challenge(license_, file))
        self._proving.add(license_)
        try:
            async with self._reading:
                right = await self._store.in_thread(lambda: self._hash(file, key))
        finally:
            self._proving.discard(license_)
        if not hmac.compare_digest(right, proof):
            self._wrong.count(license_)
            raise WorkerRefused(
                "this is not the hash of the file under the challenge: send the file", code="not_proved"
            )
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
