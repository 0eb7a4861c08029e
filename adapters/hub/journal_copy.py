"""Copies a hub's journal and its small files from its folder to a database, or back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wakestream.adapters.disk.documents import NAMES, Documents, FolderDocuments
from wakestream.adapters.disk.journal_bound import bound_path
from wakestream.adapters.disk.sqlite_file import SqliteFile
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.hub.program import JOURNAL
from wakestream.operators.model.errors import JournalError
from wakestream.streams.recording.facts_json import JournalRow

if TYPE_CHECKING:  # it needs a library that is not always installed
    from wakestream.adapters.disk.postgres_store import PostgresStore

_LONG = 3600.0
"""Seconds that the other side may take before the database ends the session."""


class Content(NamedTuple):
    """All rows of a journal, and the documents beside it."""

    snapshot: list[bytes]
    facts: list[JournalRow]
    ledger: list[JournalRow]
    documents: dict[str, bytes]


def copy(source: str, target: str) -> Content:
    """Copy all of a stopped hub, read it again and compare; returns what was copied. The source stays as it is.

    A source of an earlier format is migrated first, as by its hub.

    Args:
        source: A hub's folder, or the address of a database.
        target: The same. It must have neither a journal nor licenses.

    Raises:
        JournalError: One of them is in use or damaged, or the target is not empty.
        SettingsError: A later version wrote a file in one of the folders.
        OSError: A document cannot be read or written.
    """
    with _opened(source, new=False) as (read, documents):
        content = _content(read, documents)
        with _opened(target, new=True) as (write, beside):
            there = _content(write, beside)
            if any(there):
                raise JournalError(f"{target} has a journal or licenses already; give an empty folder or database")
            write.fill(read.id, read.end.seq - len(content.facts), *content[:3])
            for name, data in content.documents.items():
                beside.write(name, data)
    with _opened(target, new=False) as (again, beside):
        if (again.id, again.end.seq, _content(again, beside)) != (read.id, read.end.seq, content):
            raise JournalError(f"the copy in {target} differs from {source}; remove it and copy again")
    return content


def _content(store: SqliteFile | PostgresStore, documents: Documents) -> Content:
    contents = {name: data for name in NAMES if (data := documents.read(name)) is not None}
    return Content(store.restore(), list(store.read()), list(store.ledger(float("-inf"))), contents)


@contextlib.contextmanager
def _opened(place: str, *, new: bool) -> Iterator[tuple[SqliteFile | PostgresStore, Documents]]:
    """The journal at a place, which no hub may use meanwhile. After an error a new one in a folder is removed."""
    if "://" in place:
        from wakestream.adapters.disk.postgres import checked_address
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments
        from wakestream.adapters.disk.postgres_store import PostgresStore

        with contextlib.closing(PostgresStore(checked_address(place), idle=_LONG)) as store:
            for _ in range(20):  # the server may still be ending a session that was just closed
                if store.lead("wakestream journal copy"):
                    break
                time.sleep(0.1)
            else:
                store.follow()
                raise JournalError(f"{place} is in use, {store.leader} leads; stop all its hubs")
            yield store, PostgresDocuments(place)
        return
    path = Path(place) / JOURNAL
    if path.exists() == new:
        what = "has a journal already; give an empty folder" if new else f"has no journal ({JOURNAL})"
        raise JournalError(f"{place} {what}")
    prepare_state(path.parent)
    with contextlib.ExitStack() as stack:
        if new:
            for left in (path, bound_path(path)):
                stack.callback(left.unlink, missing_ok=True)
        with contextlib.closing(SqliteFile(path, "hub")) as file:
            yield file, FolderDocuments(path.parent)
        stack.pop_all()
