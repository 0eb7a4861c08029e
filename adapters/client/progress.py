"""Counts bytes that move, and hands the count on about ten times a second: displays need no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from wakestream.operators.model.ports import Resumed

INTERVAL = 0.1
"""Seconds between two counts at least."""


class Meter:
    """Fed by whoever moves the bytes, followed by whoever shows them."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._due = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() - INTERVAL
        self._resumed = False

    def add(self, count: int) -> bool:
        """Count more bytes; true when it is time to tell the new total."""
        self.total += count
        now = self._clock()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        self._due.set()
        return True

    def resume(self, at: int) -> None:
        """The bytes go on at this one, however many were counted before."""
        self._resumed = self._resumed or at != self.total
        self.total = at
        if self._resumed:
            self._due.set()

    async def follow(self, work: asyncio.Task[None]) -> AsyncGenerator[int | Resumed, None]:
        """The totals until `work` is done, `Resumed` where they go on from elsewhere; its error is raised here."""
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
