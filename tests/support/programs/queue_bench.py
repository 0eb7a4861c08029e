"""The worker's queue on a temporary disk, with an engine of the test's."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.operators.model.engine import Engine
from wakestream.streams.worker import state as w


class QueueBench:
    """A queue with its store, and a way to wait for what becomes true. It is `changed` by each fact."""

    def __init__(
        self, root: Path, engine: Engine, journal: FakeJournal[w.Kept] | None = None, watchdog: Watchdog | None = None
    ) -> None:
        self.store = FileStore(root)
        self.journal = journal or FakeJournal()
        self.queue = TaskQueue(self.store, self.journal, engine, clock=lambda: 7.0, watchdog=watchdog or Watchdog())
        self.changed = asyncio.Event()
        self.queue.facts.subscribe(lambda _: self.changed.set())

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when this holds."""
        async with asyncio.timeout(100):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def status(self, task: w.Task, *status: str) -> w.Task:
        """The task once it has one of these."""
        await self.until(lambda: self.queue.state.tasks[task.id].status in status)
        return self.queue.state.tasks[task.id]

    async def close(self) -> None:
        """Stop the queue."""
        await self.queue.close()
        self.store.close()

    @asynccontextmanager
    async def ready(self) -> AsyncGenerator[None, None]:
        """The queue works within this block."""
        await self.queue.ready()
        yield
        await self.close()
