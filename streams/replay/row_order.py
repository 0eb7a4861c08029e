"""When a log's answers come in its replay: at their times, and those of one moment in the order of their rows.

What runs side by side in a job may end at one moment; which came first is then no matter of time. In a recorded run it
was settled by how many turns of the loop each took. A replay, where every call takes as many, asks the rows.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, TypeVar

from wakestream.streams.recording.recording import TICK, Row

T = TypeVar("T")

QUIET = 4
"""Turns of the loop in which all that happens at a moment has asked for what comes next."""


def moments(rows: Iterable[Row]) -> dict[float, float]:
    """When each row happened, by its time: a tap dates the rows of one moment a tick apart."""
    found: dict[float, float] = {}
    begun, before = 0.0, float("-inf")
    for row in rows:
        if not 0 <= row.t - before < 1.5 * TICK:
            begun = row.t
        found[row.t], before = begun, row.t
    return found


class RowOrder:
    """Calls for rows, each at its moment and by itself. `at` are the moments, in seconds from the time this is made."""

    def __init__(self, loop: asyncio.AbstractEventLoop, at: Mapping[float, float]) -> None:
        self._loop, self._at, self._start = loop, at, loop.time()
        self._waiting: list[tuple[float, float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._next: asyncio.Handle | None = None

    def plan(self, t: float, function: Callable[[T], None], argument: T) -> None:
        """As `call`, for what comes by itself: the first row of a moment does not wait for what else happens then."""
        at = self._at[t]
        if at == t:
            self._loop.call_at(self._start + at, function, argument)
        else:
            self._loop.call_at(self._start + at, self.call, t, function, argument)

    def call(self, t: float, function: Callable[[T], None], argument: T) -> None:
        """Call it at the moment of the row of time `t`, or now where that has been, and after all earlier rows."""
        entry = (self._start + self._at[t], t, next(self._numbers), function, argument)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._arm()

    async def until(self, t: float) -> None:
        """Returns when `call` would call."""
        due = self._loop.create_future()
        self.call(t, _arrive, due)
        await due

    def _arm(self) -> None:
        if self._next is not None:
            self._next.cancel()
        when = self._waiting[0][0]
        if when > self._loop.time():
            self._next = self._loop.call_at(when, self._turn, QUIET)
        else:
            self._turn(QUIET)

    def _turn(self, left: int) -> None:
        if left:
            self._next = self._loop.call_soon(self._turn, left - 1)
            return
        self._next = None
        *_, function, argument = heapq.heappop(self._waiting)
        function(argument)
        if self._waiting and self._next is None:
            self._arm()


def _arrive(due: asyncio.Future[None]) -> None:
    if not due.done():  # else its call was let go of
        due.set_result(None)
