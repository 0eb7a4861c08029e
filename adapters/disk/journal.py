"""A journal of facts, in SQLite or PostgreSQL. When `append` returns they survive a crash or a power cut.

One thread owns the connection. Facts that arrive while it syncs are written together by the next commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import UnionType
from typing import Generic, Protocol, TypeVar, cast

from loguru import logger

from wakestream.adapters.disk.journal_chain import End
from wakestream.adapters.disk.sqlite_file import SqliteFile
from wakestream.operators.model.errors import JournalError, NoSpace
from wakestream.streams.recording.facts_json import FactsJson, JournalRow

F = TypeVar("F")


class Store(Protocol):
    """Where the rows of a journal are: `SqliteFile` or `PostgresStore`, which explain the methods. All calls block.

    Attributes:
        name: What it is called in errors and logs.
        id: The journal's id, made with it.
        end: The last fact.
        rows: The number of facts since the snapshot.
        size: The bytes of the snapshot and of the facts since.
        cut_size: `size` after the last snapshot.
        confirm: Raises `Fenced` if another program may write the journal; None if that cannot happen.
    """

    id: str
    end: End
    rows: int
    size: int
    cut_size: int

    @property
    def name(self) -> str: ...
    @property
    def confirm(self) -> Callable[[], None] | None: ...
    def restore(self) -> list[bytes]: ...
    def read(self) -> Iterable[JournalRow]: ...
    def ledger(self, since: float) -> Iterable[JournalRow]: ...
    def append(self, rows: Sequence[JournalRow]) -> None: ...
    def replace(self, snapshot: Iterable[bytes], included: int, rows: Sequence[JournalRow]) -> None: ...
    def keep(self, on_lost: Callable[[Exception], object]) -> None: ...
    def close(self) -> None: ...


class _Batch(list[tuple[Sequence[JournalRow], "asyncio.Future[None]"]]):
    """The rows of one commit. With a `snapshot`, this first replaces all former rows, and the first `included` here."""

    snapshot: Iterable[bytes] | None = None
    included = 0


class StoredJournal(Generic[F]):
    """Implements the port `Journal`. Made by `open_journal`, or of a store, for the event loop that made it.

    Beyond `limit` facts, when they and the last snapshot are twice as large as that snapshot, an `append` replaces them
    by a new snapshot in the same commit. Facts of a class with `LEDGER = True` (and a field `at`, UNIX seconds) are
    also stored permanently; `ledger` reads them.

    Attributes:
        snapshot: If set, returns the state as rows of at most 1 MB. It is called in `append`, and must return quickly:
            a thread iterates over the rows. It contains all facts that were appended before. It is not called while
            another `append` waits, whose facts may find no space.
        snapshot_includes_append: Whether the snapshot also contains the facts of the `append` that calls it.
        on_broken: Called in the loop when the journal broke: nothing can be written any more.
        commits: The number of commits; each needs one sync.
    """

    def __init__(self, file: Store, json: FactsJson[F], limit: int = 10_000) -> None:
        self.snapshot: Callable[[], Iterable[bytes]] | None = None
        self.snapshot_includes_append = True
        self.confirm: Callable[[], Awaitable[None]] | None = None if file.confirm is None else self._confirm
        self.on_broken: Callable[[JournalError], object] = lambda _: None
        self.commits = 0
        self._file = file
        self._json = json
        self._limit = limit
        self._next_cut = 2 * file.cut_size
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._commits = 0  # under way
        self._batch: _Batch | None = None  # what the next commit will write; None once it has begun
        self._broken: JournalError | None = None
        self._thread = ThreadPoolExecutor(1, f"journal-{Path(file.name).stem}")
        self._closed: Future[None] | None = None
        file.keep(self._break)

    @property
    def id(self) -> str:
        """The journal's id, which stays the same for as long as the journal exists."""
        return self._file.id

    @property
    def seq(self) -> int:
        """The number of the last fact."""
        return self._file.end.seq

    @property
    def facts(self) -> int:
        """The number of facts since the snapshot."""
        return self._file.rows

    async def append(self, facts: Sequence[F]) -> None:
        """See `Journal.append`.

        Raises:
            NoSpace: none of the facts was written; try again.
            JournalError: the journal is broken for the rest of this run.
        """
        if self._broken is not None:
            raise self._broken
        if not facts:
            return
        rows = [self._json.row(fact) for fact in facts]
        # The snapshot, when the journal is long enough to be replaced by it.
        long = self._file.rows > self._limit and self._file.size >= self._next_cut
        snapshot = self.snapshot() if long and self.snapshot is not None and not self._commits else None
        kept = self._loop.create_future()
        with self._lock:
            if self._batch is None:
                self._batch, self._commits = _Batch(), self._commits + 1
                self._batch.snapshot = snapshot
                self._batch.included = len(rows) if self.snapshot_includes_append else 0
                self._thread.submit(self._commit, self._batch)
            self._batch.append((rows, kept))
        await kept  # a cancelled caller does not stop the commit

    def restore(self) -> list[bytes]:
        """Return the rows of the last snapshot, in order; none without one.

        Raises:
            JournalError: a row is damaged.
        """
        return self._file.restore()

    def read(self) -> Iterator[F]:
        """See `Journal.read`: the facts after the snapshot. Read everything before the first `append`."""
        return (self._json.fact(row) for row in self._file.read())

    async def ledger(self, since: float = 0.0) -> list[F]:
        """The permanent facts from `since` (UNIX seconds) on, oldest first."""
        rows = await self._loop.run_in_executor(self._thread, lambda: list(self._file.ledger(since)))
        return [self._json.fact(row) for row in rows]

    async def _confirm(self) -> None:
        """See `Journal.confirm`."""
        await self._loop.run_in_executor(self._thread, self._try)

    async def close(self) -> None:
        """Write the pending facts and close the file. A second call waits for the first one."""
        self._closed = self._closed or self._thread.submit(self._file.close)
        await asyncio.to_thread(self._thread.shutdown)
        self._closed.result()

    # In the thread

    def _try(self) -> None:
        if self._broken is None and self._file.confirm is not None:
            try:
                self._file.confirm()
            except Exception as error:
                self._break(error)
        if self._broken is not None:
            raise self._broken

    def _break(self, error: Exception) -> JournalError:
        # After a failed sync the content of the disk is unknown; only a restart can read it.
        self._broken = error if isinstance(error, JournalError) else JournalError(f"the journal broke: {error}")
        self._loop.call_soon_threadsafe(lambda broken: self.on_broken(broken), self._broken)
        return self._broken

    def _commit(self, batch: _Batch) -> None:
        with self._lock:
            if self._batch is batch:
                self._batch = None
        rows = [row for rows, _ in batch for row in rows]
        error: Exception | None = self._broken or self._write(rows, batch)
        self._loop.call_soon_threadsafe(self._tell, [kept for _, kept in batch], error)

    def _write(self, rows: Sequence[JournalRow], batch: _Batch) -> Exception | None:
        try:
            if batch.snapshot is None or not self._cut(batch.snapshot, batch.included, rows):
                self._file.append(rows)
            self.commits += 1
        except NoSpace as error:
            return error
        except Exception as error:
            return self._break(error)
        return None

    def _cut(self, snapshot: Iterable[bytes], included: int, rows: Sequence[JournalRow]) -> bool:
        """Replace all facts by the snapshot and these rows; whether that succeeded."""
        try:
            self._file.replace(snapshot, included, rows)
        except Exception as error:
            logger.warning(
                "the journal {} could not be compacted and keeps growing: {}", Path(self._file.name).name, error
            )
            self._next_cut = 2 * self._file.size
            return False
        self._next_cut = 2 * self._file.cut_size
        return True

    # In the loop

    def _tell(self, waiting: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
        self._commits -= 1
        for kept in waiting:
            if kept.done():
                continue
            if error is None:
                kept.set_result(None)
            else:
                kept.set_exception(error)
                kept.exception()  # retrieved, in case the caller was cancelled


@asynccontextmanager
async def open_journal(
    path: Path,
    facts: type[F] | UnionType,
    *,
    program: str,
    limit: int = 10_000,
    vfs: str | None = None,
) -> AsyncIterator[StoredJournal[F]]:
    """Open the journal at `path`, or create it, until the block ends.

    Args:
        path: The SQLite file.
        facts: The class of the facts or the union of their classes: frozen dataclasses or structs. Fields that were
            added later have defaults.
        program: The name of the program, for errors.
        limit: Facts from which on the journal is replaced by the snapshot.
        vfs: The SQLite VFS instead of the system's.

    Raises:
        JournalError: another process uses the file, a later version wrote it, or it is damaged.
    """
    file = await asyncio.to_thread(SqliteFile, path, program, vfs)
    async with journal_in(file, facts, limit) as journal:
        yield journal


@asynccontextmanager
async def journal_in(store: Store, facts: type[F] | UnionType, limit: int = 10_000) -> AsyncIterator[StoredJournal[F]]:
    """The journal in an open store, which is closed when the block ends; `facts` and `limit` as of `open_journal`."""
    try:
        journal = StoredJournal(store, FactsJson(cast("type[F]", facts), store.name), limit)
    except BaseException:
        store.close()
        raise
    try:
        yield journal
    finally:
        await journal.close()
