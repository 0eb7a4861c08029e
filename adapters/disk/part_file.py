"""The file in which a result comes: beside its place, known by what it is a part of, and one program's alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
from io import FileIO
from pathlib import Path

from wakestream.adapters.disk.atomic import sync_folder
from wakestream.adapters.disk.file_lock import locked

_LONGEST = 200
"""Bytes of the result's own name in that of its part: disks take 255 in all."""

_NO_FOLLOW: int | None = getattr(os, "O_NOFOLLOW", None)

_LOOKS = 10
"""After so many a disk is believed that gives one file another number at each look."""


def beside(output: Path, of: str) -> Path:
    """Where a part of `output` is until it is whole; `of`, a task or a job, tells parts apart."""
    name = os.fsencode(output.name)[:_LONGEST].decode(errors="ignore")
    return output.with_name(f"{name}.{hashlib.sha256(of.encode()).hexdigest()[:8]}.part")


def said_of(part: Path) -> Path:
    """The file that says what it is a part of."""
    return part.with_name(f"{part.name}.json")


def taken(part: Path) -> FileIO | None:
    """The part, made if it is not there, and ours alone until it is closed; None while another program has it.

    Also None where the name is a link, or another account's file: in a shared folder, others can guess it.
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
        # Elsewhere what is open can neither be renamed nor removed.
        if os.name != "posix" or not looks or _is_at(part, file):
            return file
        file.close()  # it became the result, or went, before it was locked


def _made(path: str, flags: int) -> int:
    if _NO_FOLLOW is None and os.path.islink(path):  # noqa: PTH114 - FileIO gives a string
        raise FileExistsError(path)
    return os.open(path, flags | os.O_CREAT | (_NO_FOLLOW or 0), 0o666)


def _ours(file: FileIO) -> bool:
    found = os.fstat(file.fileno())
    if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_nlink > 1):
        return False
    if os.name != "posix":  # a lock there stops whoever reads it, and nobody has tried it with one
        return True
    try:
        return locked(file.fileno())
    except OSError:  # this disk knows no locks
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
    """Away with it, and with what is said of it."""
    for path in (part, said_of(part)):
        with contextlib.suppress(OSError):  # on Windows somebody may have it open; the name says that it is a part
            path.unlink(missing_ok=True)


def remove_part(output: Path, task_id: str) -> None:
    """Nobody wants this task at `output` any more: what an earlier run of this program left of it goes."""
    unlink(beside(output, task_id))


def settle(output: Path) -> None:
    """Make its new name outlast a power cut, where we may: it is about to be said that it is there."""
    with contextlib.suppress(OSError):
        sync_folder(output.parent)
