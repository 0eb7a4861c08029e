"""The journal's SQLite file: durable commits with checksums, and migrations. All calls block; use a thread.

Each fact has a sequence number, which never starts again, and a checksum that includes the one of the fact before. So a
changed, missing or repeated row is noticed when it is read. The first fact's checksum includes the snapshot's.
"""

from __future__ import annotations

import contextlib
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import apsw

from wakestream.adapters.disk import journal_chain as sums
from wakestream.adapters.disk.atomic import replace_file, sync_folder, temporary_beside
from wakestream.adapters.disk.full_disk import is_full
from wakestream.adapters.disk.journal_bound import Bound, BoundFile, bound_path, read_bound
from wakestream.adapters.disk.journal_chain import End
from wakestream.adapters.disk.state_file import LATER
from wakestream.operators.model.errors import JournalError, NoSpace
from wakestream.streams.recording.facts_json import JournalRow

T = TypeVar("T")

FORMAT = 2
"""The file's `user_version`. CONTRIBUTING.md says when it is raised."""

_TABLES = {
    "meta": "(id TEXT NOT NULL, seq INTEGER NOT NULL, rows INTEGER NOT NULL, chain INTEGER NOT NULL,"
    " sum INTEGER NOT NULL)",
    "snapshot": "(n INTEGER PRIMARY KEY, data BLOB NOT NULL, sum INTEGER NOT NULL)",
    "facts": "(seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL, sum INTEGER NOT NULL)",
    "ledger": "(seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL,"
    " sum INTEGER NOT NULL)",
}
"""`meta` has one row: the journal's id, and of the snapshot its sequence number, its rows and its last checksum."""

_SCHEMA = [(name, f"CREATE TABLE {name} {columns}") for name, columns in sorted(_TABLES.items())]

Purpose = Literal["run", "check", "accept"]

_FULL_SYNC = 2
_CHECKPOINT_PAGES = 1000

_DISK = (
    apsw.AuthError, apsw.CantOpenError, apsw.IOError, apsw.PermissionsError, apsw.ReadOnlyError, apsw.NoLFSError,
    apsw.ConnectionClosedError, OSError,
)  # fmt: skip
_DAMAGE = (apsw.Error, MemoryError, OverflowError, UnicodeDecodeError)


class SqliteFile:
    """The file at `path`, locked by this process until `close`.

    Args:
        path: The file.
        program: The name of the program, for errors.
        vfs: The SQLite VFS instead of the system's.
        purpose: `run` creates or migrates the file if needed. `check` reads all of it and changes nothing; the file is
            closed then. `accept` also reads all of it, and takes it even if facts are missing at its end.

    Attributes:
        format: The format of the file as it was found.
        rows: The number of facts since the snapshot.
        size: The bytes of the snapshot and of the facts that were read or appended.
        cut_size: `size` after the last snapshot.
        end: The last fact.
        confirm: See `Store`.
    """

    confirm: Callable[[], None] | None = None

    def __init__(self, path: Path, program: str, vfs: str | None = None, purpose: Purpose = "run") -> None:
        self.path = path
        self._bound: BoundFile
        with self._errors("be opened"):
            flags = apsw.SQLITE_OPEN_READWRITE
            if purpose == "run":
                flags |= apsw.SQLITE_OPEN_CREATE
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = apsw.Connection(str(path), flags, vfs)
        try:
            self._begin(program, purpose)
        except BaseException:
            with contextlib.suppress(apsw.Error):  # the first error is reported
                self._db.close()
            raise

    def restore(self) -> list[bytes]:
        """The rows of the snapshot."""
        with self._errors("be read"):
            rows = self._db.execute("SELECT n, data, sum FROM snapshot ORDER BY n")
            return sums.snapshot_rows(rows, sums.start_of(self.id), self._snapshot, self._damaged)

    def read(self) -> Iterator[JournalRow]:
        """The facts after the snapshot, oldest first."""
        with self._errors("be read"):
            query = "SELECT seq, kind, data, sum FROM facts WHERE seq > ? ORDER BY seq"
            for row in sums.fact_rows(self._db.execute(query, (self._base.seq,)), self._base, self._damaged):
                self.size += len(row.data)
                yield row

    def ledger(self, since: float) -> Iterator[JournalRow]:
        """The permanent rows from `since` on."""
        with self._errors("be read"):
            query = "SELECT kind, data, at, seq, sum FROM ledger ORDER BY at, seq"
            for row in sums.ledger_rows(self._db.execute(query), self._damaged):
                if row.at is not None and row.at >= since:
                    yield row

    def append(self, rows: Sequence[JournalRow]) -> None:
        """Write the rows; they are on the disk when it returns. After `NoSpace` none of them is."""
        self.end = self._change(lambda: self._insert(rows, self.end))
        self.rows += len(rows)
        self.size += sums.bytes_of(rows)
        self._bound.write(self.end.seq)

    def replace(self, snapshot: Iterable[bytes], included: int, rows: Sequence[JournalRow]) -> None:
        """Replace all facts by the snapshot and these rows, of which it contains the first `included` already.

        All in one transaction. The ledger keeps its rows, and gets those of `rows`.
        """

        def change() -> tuple[End, End, End, int]:
            self._db.execute("DELETE FROM facts; DELETE FROM snapshot")
            last, size = sums.start_of(self.id), 0
            for data in snapshot:
                last, size = last.next("snapshot", data), size + len(data)
                self._db.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (last.seq, data, last.sum))
            base = sums.after_snapshot(self.id, self.end.seq + included, last)
            self._db.execute("UPDATE meta SET seq = ?, rows = ?, chain = ?, sum = ?", (base.seq, *last, base.sum))
            self._to_ledger(rows[:included])
            return base, last, self._insert(rows[included:], base), size

        self._base, self._snapshot, self.end, size = self._change(change)
        self.rows = len(rows) - included
        self.size = self.cut_size = size + sums.bytes_of(rows[included:])
        self._bound.write(self.end.seq, sync=True)

    def keep(self, on_lost: Callable[[Exception], object]) -> None:
        """See `Store`: nothing to do."""

    @property
    def name(self) -> str:
        """Its path, for errors."""
        return str(self.path)

    def fill(
        self, id_: str, seq: int, snapshot: Iterable[bytes], facts: Sequence[JournalRow], ledger: Sequence[JournalRow]
    ) -> None:
        """Make this new journal a copy of another one with this id, whose snapshot ends with the fact `seq`."""

        def change() -> None:
            self._db.execute("UPDATE meta SET id = ?", (id_,))
            self.id, self.end = id_, End(seq, 0)
            self._bound = BoundFile(self.path, Bound(id_, seq))
            self.replace(snapshot, 0, facts)
            self._to_ledger(ledger)

        self._bound.close(0)
        self._change(change)

    def close(self) -> None:
        """Close the file, after a checkpoint of the write-ahead log."""
        with contextlib.suppress(apsw.Error):  # commits in the log are read at the next start
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(apsw.Error):
            self._db.close()
        self._bound.close(self.end.seq)

    # The opening

    def _begin(self, program: str, purpose: Purpose) -> None:
        busy = f"another wakestream {program} uses it; stop that one, or give --state"
        with self._errors("be opened", busy=busy):
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # a file that is refused is left as it is
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.format = int(self._scalar("PRAGMA user_version"))
            if self.format > FORMAT:
                raise JournalError(LATER.format(path=self.path, number=self.format))
            if self._db.readonly("main"):  # as its header may say when it is damaged
                raise self._unusable("it is read-only; allow this account to write to it, or restore a backup")
            bound = self._known(purpose)
            if purpose != "check":
                mode = self._scalar("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
                self._db.wal_autocheckpoint(_CHECKPOINT_PAGES)
                if (mode, self._scalar("PRAGMA synchronous")) != ("wal", _FULL_SYNC):
                    raise self._unusable(f"the disk does not let SQLite write durably (journal mode {mode})")
            with self._db:  # takes the lock and keeps it
                self._look(bound, purpose)
            if purpose == "check":
                self._db.close()
                return
            self._bound = BoundFile(self.path, Bound(self.id, self.end.seq))
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)

    def _known(self, purpose: Purpose) -> Bound | None:
        """The bound of a file that is no new one and has one."""
        bound, beside = None, bound_path(self.path).name
        try:
            bound = read_bound(self.path)
        except ValueError:
            if purpose != "accept":
                what = f"{beside} beside it is damaged, so facts may be missing; restore a backup of both"
                raise self._unusable(f"{what}, or run {self._accept} to continue with it") from None
        if self.format == 0 and (purpose != "run" or (bound is not None and bound.seq)):
            written = f", but {bound.seq} facts were written" if bound is not None else ""
            raise self._unusable(
                f"it is missing or empty{written}; restore a backup, or move {beside} away to start without them"
            )
        return bound if self.format == FORMAT and purpose != "accept" else None

    def _migrate(self) -> None:
        version = self.format
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if tables != ({"facts", "ledger"} if version else set()):
            raise self._unusable("it is damaged, or no journal of wakestream; restore a backup")
        if version:
            self._copy(self.path.with_name(f"{self.path.name}.v{version}-backup"))
            self._db.execute("DROP INDEX ledger_at; ALTER TABLE facts RENAME TO facts_1")
            self._db.execute("ALTER TABLE ledger RENAME TO ledger_1")
        for _, statement in _SCHEMA:
            self._db.execute(statement)
        self.id = uuid.uuid4().hex
        none = sums.start_of(self.id)
        first = self._scalar("SELECT min(seq) FROM facts_1") if version else None
        base = end = sums.after_snapshot(self.id, (first or 1) - 1, none)
        self._db.execute("INSERT INTO meta VALUES (?, ?, ?, ?, ?)", (self.id, base.seq, *none, base.sum))
        if version:
            for seq, kind, data in self._db.execute("SELECT seq, kind, data FROM facts_1 ORDER BY seq"):
                if seq != end.seq + 1 or (type(kind), type(data)) != (str, bytes):
                    raise self._damaged(f"fact {end.seq + 1}")
                end = end.next(kind, data)
                self._db.execute("INSERT INTO facts VALUES (?, ?, ?, ?)", (end.seq, kind, data, end.sum))
            self._to_ledger(
                [JournalRow(*row) for row in self._db.execute("SELECT kind, data, at FROM ledger_1 ORDER BY seq")]
            )
            self._db.execute("DROP TABLE facts_1; DROP TABLE ledger_1")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")

    def _copy(self, path: Path) -> None:
        """Copy the file, with the commits in its log, to `path`."""
        with temporary_beside(path) as partial:
            copy = apsw.Connection(str(partial))
            with copy.backup("main", self._db, "main") as backup:
                backup.step(-1)
            copy.execute("PRAGMA journal_mode = DELETE")  # all in the one file
            copy.close()
            replace_file(partial, path)
            sync_folder(path.parent)

    def _look(self, bound: Bound | None, purpose: Purpose) -> None:
        """Compare the structure of the file with what it should be, and read what is needed to append."""
        if self._scalar("PRAGMA quick_check(1)") != "ok":
            raise self._damaged("its pages")
        if self.format != FORMAT:
            if purpose == "check":
                self.rows = int(self._scalar("SELECT count(*) FROM facts"))
                return
            self._migrate()
        if sorted(self._db.execute("SELECT name, sql FROM sqlite_schema")) != _SCHEMA:
            raise self._damaged("its tables")
        head = self._first("SELECT id, seq, rows, chain, sum FROM meta", (None,) * 5)
        self.id, self._snapshot = str(head[0]), End(*head[2:4])
        self._base = sums.after_snapshot(self.id, head[1], self._snapshot)
        if self._base.sum != head[4]:
            raise self._damaged("its head")
        self.end = End(*self._first("SELECT seq, sum FROM facts ORDER BY seq DESC LIMIT 1", self._base))
        self.size = self.cut_size = int(self._scalar("SELECT total(length(data)) FROM snapshot"))
        self.rows = self.end.seq - self._base.seq
        if bound is not None and (bound.id != self.id or bound.seq > self.end.seq):
            what = "it is not the journal that was here before"
            if bound.id == self.id:
                what = f"it ends with fact {self.end.seq}, but {bound.seq} facts were written"
            raise self._unusable(f"{what}; restore a later backup, or run {self._accept} to continue with this one")
        if purpose != "run":
            self.restore()
            deque(chain(self.read(), self.ledger(-math.inf)), 0)

    @property
    def _accept(self) -> str:
        return f"`wakestream journal accept {self.path}`"

    # Changes

    def _change(self, change: Callable[[], T]) -> T:
        with self._errors("be written"):
            if self._db.in_transaction:
                return change()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = change()
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(apsw.Error):  # SQLite may have rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
            return result

    def _insert(self, rows: Sequence[JournalRow], end: End) -> End:
        facts, end = sums.numbered(rows, end)
        self._db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?)", facts)
        self._to_ledger(rows)
        return end

    def _to_ledger(self, rows: Sequence[JournalRow]) -> None:
        kept = [row for row in rows if row.at is not None]
        if kept:
            last = int(self._scalar("SELECT max(seq) FROM ledger") or 0)
            self._db.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", sums.kept(kept, last))

    # Reading

    def _first(self, query: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._db.execute(query).fetchone() or default

    def _scalar(self, query: str) -> Any:
        return self._db.execute(query).get

    # Errors

    @contextlib.contextmanager
    def _errors(self, what: str, busy: str = "another program holds it") -> Iterator[None]:
        """Errors of SQLite and the disk as `JournalError` with a sentence."""
        try:
            yield
        except (apsw.BusyError, apsw.LockedError) as error:
            raise self._unusable(busy) from error
        except UnicodeEncodeError as error:
            raise self._unusable("its name is not UTF-8; choose another folder") from error
        except (apsw.FullError, *_DISK) as error:
            if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and is_full(error)):
                then = "; the program continues by itself then" if what == "be written" else " and start it again"
                raise NoSpace(f"no space left for {self.path}; make room{then}") from error
            raise JournalError(f"{self.path} cannot {what}: {error}; look at the disk and its permissions") from error
        except _DAMAGE as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> JournalError:
        here = f"{self.path.name} and {bound_path(self.path).name}"
        return self._unusable(f"it is damaged ({what}); restore a backup, or move {here} away to start without it")

    def _unusable(self, reason: str) -> JournalError:
        return JournalError(f"{self.path} cannot be used: {reason}")
