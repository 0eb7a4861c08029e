"""The GPU's failed starts, shared by all jobs of a program: they pause together and retry together."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.model.backoff import Backoff

PAUSES: Final = Backoff(initial=60.0, max_delay=1800.0)
"""The pause after a failed start, and after each further one: 1 min, 2 min … 30 min, less jitter."""


class Starts:
    """How many starts in a row have failed, and until when the jobs pause."""

    def __init__(self) -> None:
        self.count = 0
        self.until = 0.0
        self._granted: Subject[Any] = Subject()

    @property
    def granted(self) -> Observable[Any]:
        """Emits when a job was granted a GPU, which ends all pauses."""
        return self._granted

    def failed(self, now: float, random: Random) -> float:
        """Count a failed start, once for all jobs that report it during a pause; returns the seconds to pause."""
        if now >= self.until:
            self.count += 1
            self.until = now + PAUSES.delay(self.count, random)
        return self.until - now

    def succeeded(self) -> None:
        """A job was granted a GPU: end the pause."""
        self.count, self.until = 0, 0.0
        self._granted.on_next(None)
