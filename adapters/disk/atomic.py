"""Atomic writes: a file appears under its name only when it is complete, and survives a power cut where that matters.

On Windows a file that another program has open cannot be replaced or opened: such calls are retried for one second.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")

BLOCK = 4 * 1024 * 1024

TRIES = 50
TRY_EVERY = 0.02
"""Seconds. Our own readers, virus scanners and the search index close a file within one second; a player does not."""


def retry_in_use(call: Callable[[], T]) -> T:
    """Return the result of `call`. On Windows it is retried while the file is in use; it blocks for a second at most.

    Raises:
        PermissionError: the file stays in use, or this account may not access it.
    """
    for _ in range(TRIES if os.name == "nt" else 0):
        try:
            return call()
        except PermissionError:
            time.sleep(TRY_EVERY)
    return call()


def replace_file(partial: Path, path: Path) -> None:
    """Rename a complete file to `path` and replace what is there. Raises `OSError` (see `retry_in_use`)."""
    retry_in_use(lambda: partial.replace(path))


def place_new(partial: Path, path: Path) -> None:
    """Rename a complete file to `path`. `FileExistsError` leaves both as they are: something is there."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without hard links: reserve the name first
        path.touch(exist_ok=False)
        try:
            replace_file(partial, path)
        except OSError:
            remove(path)
            raise
    else:
        remove(partial)


def private(path: str, flags: int) -> int:
    """An opener for `open` that makes files which only this account can read."""
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the platform can open a folder."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
    """Replace a small file, completely or not at all.

    Args:
        path: The file. Its folder exists.
        data: The whole content.
        mode: The permissions of a new file. By default only this account can read it.
        sync: Whether name and content are on the disk when this returns.

    Raises:
        OSError: the file cannot be written; the former one is unchanged.
    """
    with temporary_beside(path, ".new") as fresh:
        with open(fresh, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        replace_file(fresh, path)
    if sync:
        with suppress(OSError):  # some network file systems cannot sync a folder
            sync_folder(path.parent)


def write_all(file: BinaryIO | FileIO, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes to an unbuffered file, which may take fewer at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def copy_new(source: BinaryIO, partial: Path, wanted: Callable[[], bool]) -> bool:
    """Copy to a new file, which is on the disk when this returns. False if the copy is no longer `wanted`."""
    with partial.open("xb") as file:
        while wanted() and (block := source.read(BLOCK)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return wanted()


@contextmanager
def temporary_beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """A new name in the folder of `path`; what is written there is removed at the end, unless it was renamed."""
    # A new name each time: the engine of a killed worker may still write to the last one.
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.part{suffix}")
    try:
        yield temporary
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file or a folder. What cannot be removed now is left for the next cleanup."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # on Windows another program may still write to it
            path.unlink(missing_ok=True)
