"""Counts transferred bytes, and reports the count about ten times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from wakestream.operators.model.ports import Resumed

INTERVAL = 0.1
"""Least seconds between two reports."""


class Meter:
    """A counter of bytes: the transfer adds to it, `follow` yields the totals."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._due = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() - INTERVAL
        self._resumed = False

    def add(self, count: int) -> bool:
        """Add bytes; True when it is time to report the total."""
        self.total += count
        now = self._clock()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        self._due.set()
        return True

    def resume(self, at: int) -> None:
        """Set the total: the transfer continues from there."""
        self._resumed = self._resumed or at != self.total
        self.total = at
        if self._resumed:
            self._due.set()

    async def follow(self, work: asyncio.Task[None]) -> AsyncGenerator[int | Resumed, None]:
        """Yield the totals until `work` is done, and `Resumed` after a jump. Raises the error of `work`."""
        work.add_done_callback(lambda _: self._due.set())
        while not work.done():
            await self._due.wait()
            self._due.clear()
            if self._resumed:
                self._resumed = False
                yield Resumed(self.total)
            elif not work.done():
                yield self.total
        work.result()
