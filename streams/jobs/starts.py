"""The GPU's failed starts, as all jobs of one program see them: they pause together, and try together."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.model.backoff import Backoff

PAUSES: Final = Backoff(initial=60.0, max_delay=1800.0)
"""How long no start is asked for after a failed one, and after each further one: 1 min, 2 min … 30 min, less jitter."""


class Starts:
    """How many starts in a row have failed, and until when no further one is asked for. `came` tells of a GPU."""

    def __init__(self) -> None:
        self.count = 0
        self.until = 0.0
        self._came: Subject[Any] = Subject()

    @property
    def came(self) -> Observable[Any]:
        """Emits when a job was given a GPU: who pauses need not."""
        return self._came

    def failed(self, now: float, random: Random) -> float:
        """A job was told of a failed start; returns the seconds that it pauses. Within a pause it is the same start."""
        if now >= self.until:
            self.count += 1
            self.until = now + PAUSES.delay(self.count, random)
        return self.until - now

    def succeeded(self) -> None:
        """A job was given a GPU."""
        self.count, self.until = 0, 0.0
        self._came.on_next(None)
