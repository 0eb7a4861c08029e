"""Our hub as a process for the benchmarks, with room for many connections.

Its journal is SQLite in the folder given, or the PostgreSQL database whose address follows.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from wakestream.adapters.disk.journal import StoredJournal, journal_in, open_journal
from wakestream.adapters.disk.postgres_store import PostgresStore
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
from wakestream.adapters.telemetry import logs
from wakestream.streams.hub import hub
from wakestream.streams.hub.events import Fact

LIMITS = hub.Limits(per_license=20_000, per_address=20_000, jobs_per_key=1_000_000)


def opened(state: Path, address: str | None) -> AbstractAsyncContextManager[StoredJournal[Fact]]:
    """The journal."""
    if address is None:
        return open_journal(state / "hub.sqlite", Fact, program="hub")
    store = PostgresStore(address)
    while not store.lead():  # the server is still ending the session of the hub before
        pass
    return journal_in(store, Fact)


async def main(state: Path, address: str | None = None) -> None:
    """Say the port, serve until standard input ends."""
    logs.configure("ERROR")
    book = LicenseBook(state)
    async with (
        opened(state, address) as journal,
        open_hub(HubConfig(book, limits=LIMITS), journal) as running,
    ):
        with few_collections(*SERVER):
            print(running.port, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
