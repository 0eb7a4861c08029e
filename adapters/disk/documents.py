"""The small files of a hub, such as its licenses: in its folder, or in the database of its journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from wakestream.adapters.disk.atomic import retry_in_use, write_atomic
from wakestream.adapters.disk.file_lock import HeldElsewhereError, file_lock

__all__ = ["LOCK_WITHIN", "NAMES", "Documents", "FolderDocuments", "HeldElsewhereError"]

NAMES = ("licenses.json", "invites.json", "capability.key", "license_uses.json")
"""All documents of a hub."""

LOCK_WITHIN = 10.0
"""Seconds to wait for another process that has locked a document."""


class Documents(Protocol):
    """Where the documents are. Every method blocks and may raise `OSError`, whose `strerror` says why."""

    @property
    def place(self) -> Path | str:
        """The folder, or the address of the database."""

    def path(self, name: str) -> Path | str:
        """What this document is called in messages."""

    def stamp(self, name: str) -> object:
        """A value that differs after each change; None for a missing document."""

    def read(self, name: str) -> bytes | None:
        """Its content; None for a missing document."""

    def write(self, name: str, content: bytes) -> None:
        """Replace it, or make it."""

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Keep others from changing it until the block ends. Raises `HeldElsewhereError` after `LOCK_WITHIN`."""


class FolderDocuments:
    """The documents in a folder, each a file."""

    def __init__(self, folder: Path) -> None:
        self.place = folder

    def path(self, name: str) -> Path:
        """See `Documents.path`."""
        return self.place / name

    def stamp(self, name: str) -> tuple[int, int, int] | None:
        """See `Documents.stamp`."""
        try:
            status = self.path(name).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def read(self, name: str) -> bytes | None:
        """See `Documents.read`."""
        try:
            return retry_in_use(self.path(name).read_bytes)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """See `Documents.write`."""
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self.path(name), content)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """See `Documents.locked`. The operating system removes the lock of a process that has died."""
        with file_lock(self.path(name).with_suffix(".lock"), LOCK_WITHIN):
            yield
