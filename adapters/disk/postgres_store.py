"""The journal's rows in PostgreSQL. The session that holds an advisory lock writes all of them; others follow.

The server releases the lock when it ends the session, so a program that was paused or cut off cannot write after
another one has the lock. All calls block; use a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from wakestream.adapters.disk import journal_chain as sums
from wakestream.adapters.disk.journal_bound import Bound, BoundFile, bound_path, read_bound
from wakestream.adapters.disk.journal_chain import End
from wakestream.adapters.disk.postgres import BEAT, CLASS, IDLE, LOCKS, connect, errors, make_tables, scalar, unusable
from wakestream.adapters.disk.postgres_documents import PostgresDocuments
from wakestream.adapters.disk.postgres_lease import Lease
from wakestream.operators.model.errors import Fenced, JournalError
from wakestream.streams.recording.facts_json import JournalRow

_FACTS = """INSERT INTO wakestream.facts
    SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bytea[], %b::bigint[])"""
_LEDGER = """INSERT INTO wakestream.ledger
    SELECT * FROM unnest(%b::bigint[], %b::float8[], %b::text[], %b::bytea[], %b::bigint[])"""
_BOTH = f"WITH kept AS ({_LEDGER}) {_FACTS}"

_LOCK = "SELECT pg_try_advisory_lock(%s, %s)"
_END_PAUSED = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE locktype = 'advisory' AND classid = %s AND objid = ANY(%s) AND objsubid = 2 AND granted
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND wait_event = 'ClientRead' AND clock_timestamp() - state_change > %s * interval '1 second'"""
"""Ends a leader's session of which the server waits for the rest of a statement: `idle_session_timeout` does not."""


class PostgresStore:
    """The database at `address`, in a session of its own. It implements `Store` once `lead` returned True.

    Args:
        address: `postgresql://USER@HOST:5432/DATABASE`, without a password.
        documents: Read twice a second after `keep`, if they have changed.
        bound: A file beside which another one has the number of the last fact: see `journal_bound`.
        idle: Seconds without a call after which the server ends the session.

    Attributes:
        id: The journal's id, which is that of the cluster.
        end: The last fact that was read or written.
        epoch: How often the leader changed.
        leader: What the leader said of itself.
        rows: See `Store`, as `size` and `cut_size`.

    Raises:
        JournalError: The server cannot be reached or used, a setting of it would lose facts, or the tables are those of
            a later version.
    """

    def __init__(
        self,
        address: str,
        documents: PostgresDocuments | None = None,
        bound: Path | None = None,
        idle: float = IDLE,
    ) -> None:
        self.name, self._documents, self._bound_at = address, documents, bound
        self._bound: BoundFile | None = None
        self.epoch, self.leader = 0, ""
        self.rows = self.size = self.cut_size = 0
        self._restored: list[bytes] = []
        self._read: list[JournalRow] = []
        self._kept = 0
        self._idle = idle
        self._lease: Lease | None = None
        self._session = connect(address, idle)
        with ExitStack() as stack:
            stack.callback(self._session.close)
            make_tables(address, self._session)
            with errors(address, "be read", self._session):
                self.id = str(scalar(self._session, "SELECT id FROM wakestream.meta"))
            stack.pop_all()
        self._session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._base = self.end = End(-1, 0)
        self._on_lost: Callable[[Exception], object] = lambda _: None
        self._closing = threading.Event()
        self._beats: threading.Thread | None = None

    # Leading

    def lead(self, name: str = "") -> bool:
        """Take the lock and read the last facts; False if another session holds it.

        Args:
            name: What the others say of this leader, such as its address.
        """
        session = self._session
        with errors(self.name, "be locked", session):
            if not scalar(session, _LOCK, CLASS, LOCKS["lead"]) or not self._leased():
                session.execute(_END_PAUSED, (CLASS, [LOCKS["lead"], LOCKS["lease"]], IDLE + 1))
                return False
        make_tables(self.name, session)  # a hub of a later version may have led since the session began
        self.follow()
        self.epoch, self.leader = self.epoch + 1, name
        with errors(self.name, "be written", session):
            session.execute("UPDATE wakestream.meta SET epoch = %s, leader = %s", (self.epoch, name))
            self.cut_size = int(scalar(session, "SELECT coalesce(sum(length(data)), 0) FROM wakestream.snapshot"))
            self._kept = int(scalar(session, "SELECT coalesce(max(seq), 0) FROM wakestream.ledger"))
            facts = "SELECT coalesce(sum(length(data)), 0) FROM wakestream.facts WHERE seq > %s"
            self.size = self.cut_size + int(scalar(session, facts, self._base.seq))
        self.rows = self.end.seq - self._base.seq
        if self._bound_at is not None:
            self._bound = BoundFile(self._bound_at, Bound(self.id, self.end.seq))
        self._beat()
        return True

    def _leased(self) -> bool:
        """Take the lease; without it, release the lock."""
        lease = Lease(self.name, self._idle)
        if lease.taken:
            self._lease = lease
            self._keep_lease()
        else:
            lease.close()
            self._session.execute("SELECT pg_advisory_unlock(%s, %s)", (CLASS, LOCKS["lead"]))
        return lease.taken

    def follow(self) -> int:
        """Read what was written since the last call, which `restore` and `read` return; the number of these facts.

        `restore` returns a snapshot only when facts that were not read yet were replaced by it.
        """
        session, first = self._session, self.end.seq < 0
        with errors(self.name, "be read", session), session.transaction():
            snapshot = self._head()
            query = "SELECT seq, kind, data, sum FROM wakestream.facts WHERE seq > %s ORDER BY seq"
            rows = session.execute(query, (self.end.seq,), binary=True).fetchall()
            self._restored, self._read = snapshot, list(self._verified(rows))
        if first:
            self._check_bound()
        return len(self._read)

    def _check_bound(self) -> None:
        """Refuse another journal than the one that this program has seen, and one that has lost facts since."""
        if self._bound_at is None:
            return
        beside = bound_path(self._bound_at)
        try:
            bound = read_bound(self._bound_at)
        except ValueError:
            raise unusable(self.name, f"{beside} is damaged, so facts may be missing; look, and remove it") from None
        what = "this hub has written to another one before"
        if bound is None or (bound.id == self.id and bound.seq <= self.end.seq):
            return
        if bound.id == self.id:
            what = f"it ends with fact {self.end.seq}, but {bound.seq} facts were written"
        raise unusable(self.name, f"{what}; correct the address, or remove {beside} to continue with this one")

    def _head(self) -> list[bytes]:
        """Read where the snapshot ends. Returns it if facts are missing between what was read and what there is."""
        head = self._session.execute("SELECT seq, rows, chain, sum, epoch, leader FROM wakestream.meta").fetchone()
        if head is None:
            raise self._damaged("its head")
        seq, self.epoch, self.leader = int(head[0]), int(head[4]), str(head[5])
        last = End(int(head[1]), int(head[2]))
        self._base = sums.after_snapshot(self.id, seq, last)
        if self._base.sum != head[3]:
            raise self._damaged("its head")
        first = scalar(self._session, "SELECT min(seq) FROM wakestream.facts")
        snapshot: list[bytes] = []
        if self.end.seq < 0 or (self.end.seq < seq and (first is None or first > self.end.seq + 1)):
            rows = self._session.execute("SELECT n, data, sum FROM wakestream.snapshot ORDER BY n", binary=True)
            snapshot = sums.snapshot_rows(rows, sums.start_of(self.id), last, self._damaged)
            self.end = self._base
        elif self.end.seq == seq:
            self.end = self._base
        return snapshot

    def _verified(self, stored_rows: Sequence[tuple[Any, ...]]) -> Iterator[JournalRow]:
        """The facts that follow `end`. The checksums begin again after the fact with which the snapshot ends."""
        old = max(0, min(len(stored_rows), self._base.seq - self.end.seq))
        for part, then in ((stored_rows[:old], self._base), (stored_rows[old:], None)):
            if part:
                yield from sums.fact_rows(part, self.end, self._damaged)
                self.end = then or End(part[-1][0], part[-1][3])

    # The store

    def restore(self) -> list[bytes]:
        """The rows of the snapshot, if the last `follow` or `lead` had to read it."""
        return self._restored

    def read(self) -> Iterator[JournalRow]:
        """The facts that the last `follow` or `lead` read."""
        yield from self._read
        self._restored, self._read = [], []

    def ledger(self, since: float) -> Iterator[JournalRow]:
        """The permanent rows from `since` on."""
        query = "SELECT kind, data, at, seq, sum FROM wakestream.ledger WHERE at >= %s ORDER BY at, seq"
        with errors(self.name, "be read", self._session):
            rows = self._session.execute(query, (since,), binary=True).fetchall()
        return sums.ledger_rows(rows, self._damaged)

    def append(self, rows: Sequence[JournalRow]) -> None:
        """Write the rows; they are on the disk when it returns. After `NoSpace` none of them is."""
        with errors(self.name, "be written", self._session):
            end = self._insert(rows, self.end)
        self._check()
        self.end = end
        self.rows += len(rows)
        self.size += sums.bytes_of(rows)
        self._wrote()

    def replace(self, snapshot: Iterable[bytes], included: int, rows: Sequence[JournalRow]) -> None:
        """Replace the facts by the snapshot and these rows, of which it contains the first `included` already.

        The facts since the snapshot before stay until the next call, for those who follow.
        """
        session, last, size = self._session, sums.start_of(self.id), 0
        with errors(self.name, "be written", session), session.patient(), session.transaction():
            session.execute("DELETE FROM wakestream.snapshot")
            session.execute("DELETE FROM wakestream.facts WHERE seq <= %s", (self._base.seq,))
            for data in snapshot:
                last, size = last.next("snapshot", data), size + len(data)
                session.execute("INSERT INTO wakestream.snapshot VALUES (%b, %b, %b)", (last.seq, data, last.sum))
            base = sums.after_snapshot(self.id, self._insert(rows[:included], self.end).seq, last)
            query = "UPDATE wakestream.meta SET seq = %s, rows = %s, chain = %s, sum = %s"
            session.execute(query, (base.seq, *last, base.sum))
            end = self._insert(rows[included:], base)
        self._check()
        self._base, self.end = base, end
        self.rows = len(rows) - included
        self.cut_size = size
        self.size = size + sums.bytes_of(rows[included:])
        self._wrote()

    def _check(self) -> None:
        """After a commit. When its wait for a synchronous standby is cancelled, the server only warns."""
        if self._session.doubt:
            self._session.close()
            raise Fenced(f"{self.name} may lose what was written: {self._session.doubt}")

    def _wrote(self) -> None:
        if self._bound is not None:
            self._bound.write(self.end.seq)

    def fill(
        self, id_: str, seq: int, snapshot: Iterable[bytes], facts: Sequence[JournalRow], ledger: Sequence[JournalRow]
    ) -> None:
        """Make this new journal a copy of another one with this id, whose snapshot ends with the fact `seq`."""
        session = self._session
        with errors(self.name, "be written", session), session.transaction():
            session.execute("UPDATE wakestream.meta SET id = %s", (id_,))
            self.id, self.end = id_, End(seq, 0)
            self.replace(snapshot, 0, facts)
            if ledger:
                session.execute(_LEDGER, self._ledger_columns(ledger))

    def keep(self, on_lost: Callable[[Exception], object] = lambda _: None) -> None:
        """Let a thread show the server that this program runs, whatever else it does; a paused one has no thread.

        Args:
            on_lost: Called in that thread when the session has ended.
        """
        self._on_lost = on_lost
        if self._beats is None or not self._beats.is_alive():
            self._beats = threading.Thread(target=self._keep, name="beats", daemon=True)
            self._beats.start()
        self._keep_lease()

    def leads(self) -> bool:
        """Whether it is sure that no other session can write, by its own clock."""
        return self._lease is not None and self._lease.holds()

    def _keep_lease(self) -> None:
        if self._lease is not None and self._beats is not None:
            self._lease.keep(self._lost)

    def _lost(self, error: Exception) -> None:
        self._session.over = True
        self._on_lost(error)

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                self._beat()
            except Exception as error:
                # A transaction that failed, and that is not ended yet, takes no statement.
                if not isinstance(error.__cause__, psycopg.errors.InFailedSqlTransaction):
                    self._on_lost(error)
                    break
            self._closing.wait(BEAT)

    def _beat(self) -> None:
        with errors(self.name, "be read", self._session):
            if self._documents is not None:
                self._documents.look(self._session)
            else:
                self._session.execute("SELECT 1")

    def confirm(self) -> None:
        """Raise `Fenced` if the session has ended."""
        with errors(self.name, "be read", self._session):
            self._session.execute("SELECT 1")

    def close(self) -> None:
        """End the session, which releases the lock."""
        self._closing.set()
        if self._beats is not None:
            self._beats.join()
        self._session.close()
        if self._lease is not None:
            self._lease.close()
        if self._bound is not None:
            self._bound.close(self.end.seq)

    def _insert(self, rows: Sequence[JournalRow], end: End) -> End:
        if not rows:
            return end
        facts, end = sums.numbered(rows, end)
        kept = self._ledger_columns([row for row in rows if row.at is not None])
        self._session.execute(_BOTH if kept else _FACTS, [*kept, *_columns(facts)], prepare=True)
        return end

    def _ledger_columns(self, rows: Sequence[JournalRow]) -> list[list[Any]]:
        kept = sums.kept(rows, self._kept)
        self._kept += len(kept)  # a gap, after a transaction that failed, means nothing
        return _columns(kept)

    def _damaged(self, what: str) -> JournalError:
        return unusable(self.name, f"it is damaged ({what}); restore a backup")


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
