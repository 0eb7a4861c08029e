"""Deliver a log's results in its replay: at their times, and results of the same moment in the order of their rows.

Concurrent calls of a job may end at the same moment. In the recorded run, their order depended on the turns of the
event loop that each took. In a replay all take the same number of turns, so the rows decide.

A busy loop was late: it handled a row before timers that had been due before the row's time, see `Row.lag`. In the
replay, such timers are late too.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from math import inf
from typing import Any, TypeVar

from wakestream.streams.recording.recording import TICK, Row

T = TypeVar("T")

QUIET = 4
"""Turns of the loop after which all callbacks of a moment have made their next calls."""


def moments(rows: Iterable[Row]) -> dict[float, float]:
    """The moment of each row, by its time: a tap gives the rows of one moment times that are a tick apart.

    The moment of a row with a `lag` is the time up to which timers had fired.
    """
    moment_by_time: dict[float, float] = {}
    begun, fired, before = 0.0, 0.0, float("-inf")
    for row in rows:
        if not 0 <= row.t - before < 1.5 * TICK:
            begun = row.t
        if row.lag:
            fired = max(fired, row.t - row.lag)
        moment_by_time[row.t], before = fired if row.lag else begun, row.t
    return moment_by_time


class RowOrder:
    """Calls functions for rows, one at a time, at their moments, which are seconds from `start`, the loop's time.

    A row that is not in `rows` is a moment of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rows: Sequence[Row], start: float) -> None:
        self._loop: Any = loop
        self._at, self._start = moments(rows), start
        # Only a loop in virtual time can be as late as the recorded one was.
        self._lagging = {row.t for row in rows if row.lag} if hasattr(loop, "jump") else set()
        self._planned: deque[float] = deque()
        self._waiting: list[tuple[float, float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._next: asyncio.Handle | None = None

    def plan(self, t: float, function: Callable[[T], None], argument: T) -> None:
        """Like `call`, for rows that do not wait for others: the first row of a moment is delivered at once.

        They are planned in their order.
        """
        moment = self._at.get(t, t)
        at = self._start + moment
        if moment == t:
            self._loop.call_at(at, function, argument)
        elif t in self._lagging:
            self._planned.append(at)
            self._loop.call_at(at, self._come, t, function, argument)
        else:
            self._loop.call_at(at, self.call, t, function, argument)

    def _come(self, t: float, function: Callable[[Any], None], argument: Any) -> None:
        self._planned.popleft()
        self.call(t, function, argument)

    def call(self, t: float, function: Callable[[T], None], argument: T) -> None:
        """Call at the moment of the row with time `t`, or now if that is over, and after all earlier rows."""
        entry = (self._start + self._at.get(t, t), t, next(self._numbers), function, argument)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._arm()

    async def until(self, t: float) -> None:
        """Wait until `call` would call."""
        due = self._loop.create_future()
        self.call(t, _arrive, due)
        await due

    def _arm(self) -> None:
        if self._next is not None:
            self._next.cancel()
        when = self._waiting[0][0]
        self._hold()
        if when > self._loop.time():
            self._next = self._loop.call_at(when, self._turn, QUIET)
        else:
            self._next = self._loop.call_soon(self._turn, QUIET - 1)

    def _turn(self, left: int) -> None:
        self._next = None
        while self._next is None and self._waiting:
            if self._waiting[0][0] > self._loop.time():
                self._arm()
            elif left and not getattr(self._loop, "idle", False):  # turns in which nothing happens are left out
                self._next = self._loop.call_soon(self._turn, left - 1)
            else:
                self._deliver(*heapq.heappop(self._waiting))
                left = QUIET

    def _deliver(self, _: float, t: float, __: int, function: Callable[[Any], None], argument: Any) -> None:
        if t in self._lagging:
            self._loop.jump(max(0.0, self._start + t - self._loop.time()))
        function(argument)
        self._hold()

    def close(self) -> None:
        """Let all timers fire again."""
        self._waiting.clear()
        self._planned.clear()
        self._hold()

    def _hold(self) -> None:
        """No timer fires before a row that the loop handled before it."""
        if self._lagging:
            planned = self._planned[0] if self._planned else inf
            self._loop.hold = min(planned, self._waiting[0][0] if self._waiting else inf)


def _arrive(due: asyncio.Future[None]) -> None:
    if not due.done():  # the call was not cancelled
        due.set_result(None)
