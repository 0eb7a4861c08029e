"""The journal's SQLite file: durable commits, and migrations of its schema. All calls block; use a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from wakestream.operators.model.errors import JournalError, NoSpace
from wakestream.streams.recording.facts_json import JournalRow

T = TypeVar("T")

_MIGRATIONS = (
    """
    CREATE TABLE facts (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL);
    CREATE TABLE ledger (seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL);
    CREATE INDEX ledger_at ON ledger (at);
    """,
)
"""Each script migrates a file to the next version; the file's version is its `user_version`."""

_FULL_SYNC = 2
_CHECKPOINT_PAGES = 1000


class SqliteFile:
    """The file at `path`, locked by this process until `close`. `rows` counts its facts."""

    def __init__(self, path: Path, program: str, vfs: str | None = None) -> None:
        self.path = path
        with self._errors("be opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = apsw.Connection(str(path), vfs=vfs) if vfs else apsw.Connection(str(path))
        try:
            self._begin(program)
            self.rows = self.count()
        except BaseException:
            with contextlib.suppress(apsw.Error):  # the first error is reported
                self._db.close()
            raise

    def count(self) -> int:
        """The number of facts."""
        with self._errors("be read"):
            return int(self._one("SELECT count(*) FROM facts"))

    def read(self) -> Iterator[JournalRow]:
        """All facts, oldest first."""
        with self._errors("be read"):
            for kind, data in self._db.execute("SELECT kind, data FROM facts ORDER BY seq"):
                yield JournalRow(kind, data)

    def ledger(self, since: float) -> Iterator[JournalRow]:
        """The permanent rows from `since` on."""
        with self._errors("be read"):
            query = "SELECT kind, data, at FROM ledger WHERE at >= ? ORDER BY at, seq"
            for kind, data, at in self._db.execute(query, (since,)):
                yield JournalRow(kind, data, at)

    def append(self, rows: Sequence[JournalRow]) -> None:
        """Write the rows; they are on the disk when it returns. After `NoSpace` none of them is."""
        self._change(lambda: self._insert(rows))
        self.rows += len(rows)

    def replace(self, snapshot: Iterable[JournalRow], rows: Sequence[JournalRow]) -> None:
        """Replace all facts by the snapshot and these rows, in one transaction; the ledger is unchanged."""

        def change() -> None:
            self._db.execute("DELETE FROM facts")
            self._db.executemany("INSERT INTO facts (kind, data) VALUES (?, ?)", (row[:2] for row in snapshot))
            self._insert(rows)

        self._change(change)
        self.rows = self.count()

    def close(self) -> None:
        """Close the file, after a checkpoint of the write-ahead log."""
        with contextlib.suppress(apsw.Error):  # commits in the log are read at the next start
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(apsw.Error):
            self._db.close()

    def _begin(self, program: str) -> None:
        with self._errors("be opened", busy=f"another wakestream {program} uses it; stop that one, or give --state"):
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            mode = self._one("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
            self._db.wal_autocheckpoint(_CHECKPOINT_PAGES)
            if (mode, self._one("PRAGMA synchronous")) != ("wal", _FULL_SYNC):
                raise self._unusable(f"the disk does not let SQLite write durably (journal mode {mode})")
            with self._db:  # takes the lock and keeps it
                self._migrate()

    def _migrate(self) -> None:
        version = int(self._one("PRAGMA user_version"))
        if version > len(_MIGRATIONS):
            raise self._unusable(f"a later version of wakestream wrote it (format {version}); use that version")
        for script in _MIGRATIONS[version:]:
            self._db.execute(script)
        self._db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def _change(self, change: Callable[[], None]) -> None:
        with self._errors("be written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                change()
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(apsw.Error):  # SQLite may have rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    def _insert(self, rows: Sequence[JournalRow]) -> None:
        self._db.executemany("INSERT INTO facts (kind, data) VALUES (?, ?)", [row[:2] for row in rows])
        kept = [(row.at, row.kind, row.data) for row in rows if row.at is not None]
        if kept:
            self._db.executemany("INSERT INTO ledger (at, kind, data) VALUES (?, ?, ?)", kept)

    def _one(self, query: str) -> Any:
        return self._db.execute(query).get

    @contextlib.contextmanager
    def _errors(self, what: str, busy: str = "another program holds it") -> Iterator[None]:
        """Errors of SQLite and the disk as `JournalError` with a sentence."""
        try:
            yield
        except apsw.FullError as error:
            then = "; the program continues by itself then" if what == "be written" else " and start it again"
            raise NoSpace(f"no space left for {self.path}; make room{then}") from error
        except (apsw.BusyError, apsw.LockedError) as error:
            raise self._unusable(busy) from error
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise self._unusable("it is damaged; restore a backup, or move it away to start without it") from error
        except UnicodeEncodeError as error:
            raise self._unusable("its name is not UTF-8; choose another folder") from error
        except (apsw.Error, OSError) as error:
            raise JournalError(f"{self.path} cannot {what}: {error}; look at the disk and its permissions") from error

    def _unusable(self, reason: str) -> JournalError:
        return JournalError(f"{self.path} cannot be used: {reason}")
