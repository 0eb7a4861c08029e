"""Counts bytes that move, and hands the count on about ten times a second: displays need no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

INTERVAL = 0.1
"""Seconds between two counts at least."""


class Meter:
    """Fed by whoever moves the bytes, followed by whoever shows them."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._due = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() - INTERVAL

    def add(self, count: int) -> bool:
        """Count more bytes; true when it is time to tell the new total."""
        self.total += count
        now = self._clock()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        self._due.set()
        return True

    async def follow(self, work: asyncio.Task[None]) -> AsyncGenerator[int, None]:
        """The totals until `work` is done; its error is raised here."""
        work.add_done_callback(lambda _: self._due.set())
        while not work.done():
            await self._due.wait()
            self._due.clear()
            if not work.done():
                yield self.total
        work.result()
