"""The small files of a hub in the database of its journal, so that each hub of a cluster has the same."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from wakestream.adapters.disk.documents import LOCK_WITHIN
from wakestream.adapters.disk.file_lock import HeldElsewhereError
from wakestream.adapters.disk.postgres import CLASS, LOCKS, Session, connect, errors, make_tables, scalar
from wakestream.operators.model.errors import JournalError, NoSpace

_CHANGED = """SELECT name, version, data FROM wakestream.documents
    WHERE (name, version) NOT IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))"""
_WRITE = """INSERT INTO wakestream.documents AS d VALUES (%b, 1, %b)
    ON CONFLICT (name) DO UPDATE SET version = d.version + 1, data = excluded.data RETURNING version"""


class PostgresDocuments:
    """Implements `Documents`. Each call opens a session of its own, except what `look` has read.

    Args:
        address: The database.
    """

    def __init__(self, address: str) -> None:
        self.place = address
        self._seen: Mapping[str, tuple[int, bytes]] | None = None
        self._noting = threading.Lock()
        self._mine = threading.local()

    def look(self, session: Session) -> None:
        """Read what has changed, so that `stamp` and `read` need not ask: for a program that calls this regularly."""
        seen = self._seen or {}
        names, versions = list(seen), [version for version, _ in seen.values()]
        changed = session.execute(_CHANGED, (names, versions), binary=True).fetchall()
        with self._noting:
            now = self._seen or {}  # another thread may have written meanwhile
            if changed or self._seen is None:
                fresh = {name: (version, data) for name, version, data in changed if now.get(name) is seen.get(name)}
                self._seen = {**now, **fresh}

    def path(self, name: str) -> str:
        """See `Documents.path`."""
        return f"{name.partition('.')[0]} in {self.place}"

    def stamp(self, name: str) -> object:
        """See `Documents.stamp`."""
        return self._stored(name)[0]

    def read(self, name: str) -> bytes | None:
        """See `Documents.read`."""
        return self._stored(name)[1]

    def _stored(self, name: str) -> tuple[int, bytes] | tuple[None, None]:
        session: Session | None = getattr(self._mine, name, None)
        if session is None and self._seen is not None:
            return self._seen.get(name, (None, None))
        with self._session(name) as session:
            query = "SELECT version, data FROM wakestream.documents WHERE name = %s"
            row = session.execute(query, (name,), binary=True).fetchone()
            return (row[0], row[1]) if row else (None, None)

    def write(self, name: str, content: bytes) -> None:
        """See `Documents.write`."""
        with self._session(name) as session:
            version = scalar(session, _WRITE, name, content)
        with self._noting:
            if self._seen is not None:  # what this program wrote it knows at once
                self._seen = {**self._seen, name: (version, content)}

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """See `Documents.locked`."""
        with self._session(name) as session:
            session.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_WITHIN:g}s",))
            try:
                session.execute("SELECT pg_advisory_lock(%s, %s)", (CLASS, LOCKS[name]))
            except psycopg.errors.LockNotAvailable:
                raise HeldElsewhereError from None
            setattr(self._mine, name, session)
            try:
                yield
            finally:
                delattr(self._mine, name)

    @contextmanager
    def _session(self, name: str) -> Iterator[Session]:
        """The session that holds the lock of this document in this thread, or a new one. Errors are `OSError`s."""
        held: Session | None = getattr(self._mine, name, None)
        try:
            session = held or connect(self.place)
            try:
                if held is None:
                    make_tables(self.place, session)
                with errors(self.place, "be used", session):
                    yield session
            finally:
                if held is None:
                    session.close()
        except (NoSpace, JournalError) as error:
            number = errno.ENOSPC if isinstance(error, NoSpace) else errno.EIO
            raise OSError(number, str(error).removeprefix(f"{self.place} ")) from error
