"""Says at times that a work waits at an engine, so that neither people nor the watchdog take the wait for a hang."""

from __future__ import annotations

import asyncio

from wakestream.operators.model.engine import Line, Waits

SAY_AGAIN = 60.0
"""Seconds between two lines about the same wait."""


class Waiting:
    """The wait of one work.

    Example:
        >>> waiting = Waiting()
        >>> waiting.line("2 works are before it")
        Waits(text='the work waits for 0 s: 2 works are before it')
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._began = self._said_at = self._clock()
        self._said = ""

    def line(self, why: str, before: int = 0) -> Waits | None:
        """The line to show, with the number of works before this one; None if the same was said lately."""
        now = self._clock()
        if self._said == why and now - self._said_at < SAY_AGAIN:
            return None
        self._said, self._said_at = why, now
        return Waits(f"the work waits for {now - self._began:.0f} s: {why}", before)

    def over(self) -> Line | None:
        """The line for the end of the wait; None if there was none."""
        waited, self._said = bool(self._said), ""
        return Line("the wait is over; the engine works on it") if waited else None
