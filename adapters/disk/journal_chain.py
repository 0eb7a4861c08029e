"""The checksums of a journal's rows, which SQLite and PostgreSQL share.

Each row's checksum includes the one of the row before. The first fact's includes the snapshot's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from wakestream.operators.model.errors import JournalError
from wakestream.streams.recording.facts_json import JournalRow

Damaged = Callable[[str], JournalError]


class End(NamedTuple):
    """The last row of a chain: its number and its checksum."""

    seq: int
    sum: int

    def next(self, kind: str, data: bytes) -> End:
        """The row that follows."""
        seq = self.seq + 1
        return End(seq, zlib.crc32(data, self.sum ^ seq ^ _mark(kind)))


@cache
def _mark(kind: str) -> int:
    """A number for a kind. A CRC that begins with another value ends with another one."""
    return zlib.crc32(kind.encode())


def start_of(id_: str) -> End:
    """What the first row of the snapshot follows."""
    return End(0, zlib.crc32(id_.encode()))


def after_snapshot(id_: str, seq: int, snapshot: End) -> End:
    """What the first fact after a snapshot follows."""
    return End(seq, zlib.crc32(f"{id_} {seq} {snapshot.seq} {snapshot.sum}".encode()))


def _ledger_sum(seq: int, row: JournalRow) -> int:
    """The checksum of a row of the ledger, which is no chain."""
    return zlib.crc32(row.data, zlib.crc32(f"{seq} {row.at} {row.kind}".encode()))


def kept(rows: Iterable[JournalRow], last: int) -> list[tuple[int, float | None, str, bytes, int]]:
    """The rows as they are stored in the ledger after number `last`: number, time, kind, data and checksum."""
    return [(seq, row.at, row.kind, row.data, _ledger_sum(seq, row)) for seq, row in enumerate(rows, last + 1)]


def bytes_of(rows: Sequence[JournalRow]) -> int:
    """The bytes of these rows."""
    return sum([len(data) for _, data, _ in rows])


def numbered(rows: Sequence[JournalRow], end: End) -> tuple[list[tuple[int, str, bytes, int]], End]:
    """The rows as they are stored after `end`: number, kind, data and checksum; and the last one."""
    seq, checksum = end
    stored_rows = []
    crc32, mark = zlib.crc32, _mark  # this loop does what `End.next` does, in less time
    for kind, data, _ in rows:
        seq += 1
        checksum = crc32(data, checksum ^ seq ^ mark(kind))
        stored_rows.append((seq, kind, data, checksum))
    return stored_rows, End(seq, checksum)


def snapshot_rows(stored_rows: Iterable[tuple[Any, ...]], start: End, last: End, damaged: Damaged) -> list[bytes]:
    """The data of a snapshot's stored rows (number, data, checksum), when their checksums are right."""
    end, rows = start, []
    for n, data, checksum in stored_rows:
        end = end.next("snapshot", data) if type(data) is bytes else end
        if end != (n, checksum):
            raise damaged(f"row {n} of its snapshot")
        rows.append(data)
    if end != last:
        raise damaged("its snapshot is incomplete")
    return rows


def fact_rows(stored_rows: Iterable[tuple[Any, ...]], end: End, damaged: Damaged) -> Iterator[JournalRow]:
    """The stored facts (number, kind, data, checksum) that follow `end`, when their checksums are right."""
    seq, checksum = end
    for number, kind, data, stored in stored_rows:
        seq += 1
        if type(kind) is str and type(data) is bytes:
            checksum = zlib.crc32(data, checksum ^ seq ^ _mark(kind))
        if number != seq or stored != checksum:
            raise damaged(f"fact {number}")
        yield JournalRow(kind, data)


def ledger_rows(stored_rows: Iterable[tuple[Any, ...]], damaged: Damaged) -> Iterator[JournalRow]:
    """The stored rows of the ledger (kind, data, time, number, checksum), when their checksums are right."""
    for kind, data, at, seq, checksum in stored_rows:
        row = JournalRow(kind, data, at)
        if (type(kind), type(data)) != (str, bytes) or _ledger_sum(seq, row) != checksum:
            raise damaged(f"row {seq} of its ledger")
        yield row
