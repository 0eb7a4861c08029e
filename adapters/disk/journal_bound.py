"""The small file beside a journal: the journal's id, and the number of a fact that the journal contains for sure.

A journal with fewer facts, or with another id, has lost facts: its file was emptied, replaced, or its log is damaged.
The journal writes the number after each commit, and syncs it at its opening, after a snapshot and at its close. So it
may be behind the journal, and never ahead.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

from wakestream.adapters.disk.atomic import private, write_atomic
from wakestream.adapters.disk.state_file import LATER
from wakestream.operators.model.errors import JournalError

_FORMAT = b"wakestream-journal-bound-1"
_LINE = len(_FORMAT) + len(" ID SEQUENCE CHECKSUM\n") - len("IDSEQUENCECHECKSUM") + 32 + 20 + 8


class Bound(NamedTuple):
    """The journal's id, and the number of a fact that it contains."""

    id: str
    seq: int


def bound_path(journal: Path) -> Path:
    """The file with the bound of a journal."""
    return journal.with_name(f"{journal.name}-seq")


def read_bound(journal: Path) -> Bound | None:
    """The bound of a journal; None without a file.

    Raises:
        JournalError: A later version wrote the file.
        ValueError: The file is damaged.
        OSError: The file cannot be read.
    """
    try:
        content = bound_path(journal).read_bytes()
    except FileNotFoundError:
        return None
    bounds = [bound for line in (content[:_LINE], content[_LINE:]) if (bound := _parse(line))]
    if not bounds:
        if later := re.match(rb"wakestream-journal-bound-([2-9]|\d\d+) ", content):
            raise JournalError(LATER.format(path=bound_path(journal), number=int(later[1])))
        raise ValueError("damaged")
    return max(bounds, key=lambda bound: bound.seq)


class BoundFile:
    """Writes the bound of one journal. It has two lines, written in turn: after a torn write the other one holds."""

    def __init__(self, journal: Path, bound: Bound) -> None:
        self._id, self._turn = bound.id, 0
        write_atomic(bound_path(journal), 2 * _line(bound))
        self._file: io.FileIO = open(bound_path(journal), "r+b", buffering=0, opener=private)  # noqa: SIM115

    def write(self, seq: int, *, sync: bool = False) -> None:
        """Raise the bound. An error leaves the former one, which holds too."""
        self._turn = 1 - self._turn
        with contextlib.suppress(OSError):
            self._file.seek(self._turn * _LINE)
            self._file.write(_line(Bound(self._id, seq)))
            if sync:
                os.fsync(self._file.fileno())

    def close(self, seq: int) -> None:
        """Write the last bound and close the file."""
        self.write(seq, sync=True)
        self._file.close()


def _line(bound: Bound) -> bytes:
    text = b"%s %s %020d" % (_FORMAT, bound.id.encode(), bound.seq)
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _parse(line: bytes) -> Bound | None:
    words = line.split(b" ")
    with contextlib.suppress(ValueError, IndexError):
        bound = Bound(words[1].decode(), int(words[2]))
        return bound if line == _line(bound) else None
    return None
