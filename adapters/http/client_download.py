"""A result on its way to disk: beside its place while it comes, in its place only when it is whole and verified."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from blake3 import blake3

from wakestream.operators.errors import Corrupt, FileUnusable, NoSpace

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_BLAKE3 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


class Partial:
    """The bytes of one result that are here so far. `etag` is the strong validator under which more can be had."""

    def __init__(self, task_id: str, output: Path) -> None:
        self.output = output
        # The task's id comes from the worker: only its hash may become part of a path.
        mark = hashlib.sha256(task_id.encode()).hexdigest()[:8]
        self.path = output.with_name(f"{output.name[:100]}.{mark}.part")
        self.size = 0
        self.etag: str | None = None
        self.expected: str | None = None
        self._hash = blake3()
        self._file: FileIO | None = None

    def prepare(self) -> None:
        """Look whether the result can be put into its place at all, before it is asked for."""
        folder = self.output.parent
        if not folder.is_dir():
            raise FileUnusable(f"the folder {folder} does not exist; create it or choose another output")
        if self.output.is_dir():
            raise FileUnusable(f"{self.output} is a folder; name the file that the result is to become")

    def begin(self, *, etag: str | None, verified: bool) -> None:
        """The result comes from its first byte."""
        self.close()
        with disk_errors(self.path):
            self._file = self.path.open("wb", buffering=0)
        self.size = 0
        self._hash = blake3()
        found = _BLAKE3.fullmatch(etag) if etag and verified else None
        self.expected = found[1] if found else None
        self.etag = etag if etag and not etag.startswith("W/") else None

    def resume(self, etag: str | None) -> None:
        """The result comes from where it broke off."""
        with disk_errors(self.path):
            self._file = self.path.open("r+b", buffering=0)
            self._file.seek(self.size)
            self._file.truncate()
        self.etag = etag

    def make_room(self, size: int) -> None:
        """`NoSpace` at once, rather than after an hour, when `size` more bytes do not fit."""
        with disk_errors(self.path):
            free = shutil.disk_usage(self.path.parent).free
        if size > free:
            raise NoSpace(
                f"{self.path.parent} has {free} bytes free, the result needs {size}; make room and run it again"
            )

    def write(self, chunk: bytes) -> None:
        """Append what came, as it came."""
        assert self._file is not None  # noqa: S101 - begin or resume comes first
        rest = memoryview(chunk)
        with disk_errors(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]
        if self.expected is not None:
            self._hash.update(chunk)
        self.size += len(chunk)

    def verify(self, length: int | None) -> None:
        """`Corrupt` if what came is not what was announced."""
        if self.size == 0 or (length is not None and self.size != length):
            raise Corrupt(f"the result broke off: {self.size} bytes came of {length or 'some'}")
        if self.expected is not None and self._hash.hexdigest() != self.expected:
            self.etag = None  # what lies here is of no use
            raise Corrupt("the result's BLAKE3 is not the one that the worker announced; it was thrown away")

    def finish(self) -> None:
        """Make the bytes durable, then put the file into its place. Blocks: for a thread."""
        assert self._file is not None  # noqa: S101 - begin or resume comes first
        with disk_errors(self.path):
            os.fsync(self._file.fileno())
            self.close()
        with disk_errors(self.output):
            self.path.replace(self.output)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Nothing of it stays."""
        self.close()
        self.size, self.etag = 0, None
        with contextlib.suppress(OSError):  # on Windows somebody may have it open; the name says that it is a part
            self.path.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or getattr(error, "winerror", None) == 112:
            raise NoSpace(f"no space left for {path}; make room and run it again") from error
        raise FileUnusable(f"{path} cannot be written: {error.strerror or error}; choose another output") from error
