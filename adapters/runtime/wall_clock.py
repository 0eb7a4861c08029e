"""The wall clock of a program, which says when it was set."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

STEP = 5.0
"""Seconds by which the wall clock may differ from the monotonic clock between two looks: such corrections are usual."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The clock was set by `by` seconds and says `now`, which was `since` seconds ago or less."""

    by: float
    now: float
    since: float

    def moved(self, at: float) -> float:
        """Return what an earlier time is on the new clock. Times since the clock was set stay."""
        return at if self.now - self.since <= at <= self.now else min(at + self.by, self.now)


class WallClock:
    """Returns UNIX seconds when it is called. If the clock was set since the last call, it calls `on_step` first.

    So each time that a program counts from can be moved before it is compared with a time of the new clock.

    Args:
        program: What to say of the program in the log, as "leases keep their lengths".
        wall: Returns UNIX seconds.
        steady: Returns seconds of a clock that cannot be set. None: it is not looked whether the clock is set.

    Example:
        >>> clock = WallClock("files are kept as long as before", time.time, time.monotonic)
        >>> clock.on_step = lambda step: print(step.by)
    """

    def __init__(
        self,
        program: str,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = time.monotonic,
    ) -> None:
        self.on_step: Callable[[ClockStep], object] = lambda _: None
        self._program, self._wall = program, wall
        self._steady = wall if steady is None else steady
        self._last = self._wall(), self._steady()

    def __call__(self) -> float:
        """Return UNIX seconds."""
        before, now = self._last, (self._wall(), self._steady())
        self._last = now
        since = now[1] - before[1]
        by = now[0] - before[0] - since
        if abs(by) > STEP:
            logger.warning("the clock moved by {:.0f} s; {}", by, self._program)
            self.on_step(ClockStep(by, now[0], since))
        return now[0]
