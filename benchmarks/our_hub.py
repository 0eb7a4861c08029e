"""Our hub as a process for the benchmarks: on a SQLite journal in the folder given, with room for many connections."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
from wakestream.adapters.telemetry import logs
from wakestream.streams.hub import hub
from wakestream.streams.hub.events import Fact

LIMITS = hub.Limits(per_license=20_000, per_address=20_000, jobs_per_key=1_000_000)


async def main(state: Path) -> None:
    """Say the port, serve until standard input ends."""
    logs.configure("ERROR")
    book = LicenseBook(state)
    opened: AbstractAsyncContextManager[StoredJournal[Fact]] = open_journal(state / "hub.sqlite", Fact, program="hub")
    async with (
        opened as journal,
        open_hub(HubConfig(book, limits=LIMITS), journal) as running,
    ):
        with few_collections(*SERVER):
            print(running.port, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
