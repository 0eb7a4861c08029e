"""The file that receives a result: in the folder of the result, named by its task, and locked by one program."""

from __future__ import annotations

import contextlib
import hashlib
import os
from io import FileIO
from pathlib import Path

from wakestream.adapters.disk.atomic import sync_folder
from wakestream.adapters.disk.file_lock import locked

_LONGEST = 200
"""Bytes of the result's name in the name of its part; most file systems allow 255 in all."""

_NO_FOLLOW: int | None = getattr(os, "O_NOFOLLOW", None)

_LOOKS = 10
"""Attempts, for file systems that report another inode at each call."""


def beside(output: Path, of: str) -> Path:
    """The path of an incomplete `output`; `of`, a task or a job, distinguishes several."""
    name = os.fsencode(output.name)[:_LONGEST].decode(errors="ignore")
    return output.with_name(f"{name}.{hashlib.sha256(of.encode()).hexdigest()[:8]}.part")


def said_of(part: Path) -> Path:
    """The file that describes what the part belongs to."""
    return part.with_name(f"{part.name}.json")


def taken(part: Path) -> FileIO | None:
    """Open the part, create it if needed, and lock it; None while another program holds it.

    Also None when the name is a link or another account's file: in a shared folder, others can guess the name.
    """
    looks = _LOOKS
    while True:
        try:
            file = FileIO(part, "r+", opener=_made)
        except OSError:
            if part.is_symlink():
                return None
            raise
        if not _ours(file):
            file.close()
            return None
        looks -= 1
        # On Windows an open file can neither be renamed nor removed.
        if os.name != "posix" or not looks or _is_at(part, file):
            return file
        file.close()  # it was renamed or removed before it was locked


def _made(path: str, flags: int) -> int:
    if _NO_FOLLOW is None and os.path.islink(path):  # noqa: PTH114 - FileIO gives a string
        raise FileExistsError(path)
    return os.open(path, flags | os.O_CREAT | (_NO_FOLLOW or 0), 0o666)


def _ours(file: FileIO) -> bool:
    status = os.fstat(file.fileno())
    if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_nlink > 1):
        return False
    if os.name != "posix":  # a lock on Windows blocks readers too, and was never tested
        return True
    try:
        return locked(file.fileno())
    except OSError:  # this file system has no locks
        return True


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def write_fresh(path: Path, data: bytes) -> None:
    """Replace the small file at `path`; a link of that name is removed, never followed."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(data)


def unlink(part: Path) -> None:
    """Remove the part and its description."""
    for path in (part, said_of(part)):
        with contextlib.suppress(OSError):  # on Windows another program may have it open
            path.unlink(missing_ok=True)


def remove_part(output: Path, task_id: str) -> None:
    """Remove what an earlier run left of this task's download to `output`."""
    unlink(beside(output, task_id))


def sync_rename(output: Path) -> None:
    """Make the rename survive a power cut, where the folder can be synced, before the result is reported."""
    with contextlib.suppress(OSError):
        sync_folder(output.parent)
