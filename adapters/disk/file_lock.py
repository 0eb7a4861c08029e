"""A lock file, held by one process at a time. The operating system releases it when the process dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_TRY_EVERY = 0.05


class HeldElsewhereError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def file_lock(path: Path, within: float) -> Iterator[None]:
    """Hold the lock at `path` until the block ends. It blocks the thread for `within` seconds at most.

    Raises:
        OSError: the file cannot be created.
        HeldElsewhereError: another process holds the lock for all this time.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(max(1, int(within / _TRY_EVERY))):
            if locked(handle):
                break
            time.sleep(_TRY_EVERY)
        else:
            raise HeldElsewhereError
        yield
    finally:
        os.close(handle)  # which also unlocks


if sys.platform == "win32":
    import msvcrt

    def locked(handle: int) -> bool:
        """Lock an open file; whether that succeeded."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def locked(handle: int) -> bool:
        """Lock an open file; whether that succeeded."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
