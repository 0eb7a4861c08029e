"""The dead-man switch: when a machine without hub and work switches itself off. Pure; the time is an argument."""

from __future__ import annotations

from typing import Final, Literal

Step = Literal["wait", "warn", "off"]

FIRST_RETRY: Final = 60.0
"""Seconds after the command until it is run again, because the machine is still on."""

LONGEST_RETRY: Final = 3600.0
"""The longest such pause; each is twice as long as the one before."""

WARNING: Final = 0.9
"""The share of the time after which a warning is given."""


class DeadManSwitch:
    """Decides when the machine is switched off.

    Args:
        after: Seconds without hub and work after which it is.
        now: When the worker started, in seconds on any clock that goes forward.

    Example:
        >>> switch = DeadManSwitch(7200.0, 0.0)
        >>> switch.look(7200.0, alive=False)
        'off'
    """

    def __init__(self, after: float, now: float) -> None:
        self.after = after
        self._again(now)

    def _again(self, now: float) -> None:
        self._seen, self._warned = now, False
        self._next, self._pause = now + self.after, FIRST_RETRY

    def look(self, now: float, *, alive: bool) -> Step:
        """Return what to do now. `alive`: a hub is connected, a task can work, or a transfer moves."""
        if alive:
            self._again(now)
        elif now >= self._next:
            self._next, self._pause = now + self._pause, min(LONGEST_RETRY, 2 * self._pause)
            return "off"
        elif not self._warned and now - self._seen >= WARNING * self.after:
            self._warned = True
            return "warn"
        return "wait"
