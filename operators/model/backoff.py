"""How long to wait before an attempt is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any


def always(_: Any) -> bool:
    """The predicate that holds for everything."""
    return True


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before attempt after attempt; times in seconds.

    The n-th delay is `initial * factor**(n-1)`, at most `max_delay`, less a random part of up to `jitter` (0-1) of it.
    `max_retries` None means no limit. `max_elapsed` counts from the first failure since the last success.
    `retry_on(error)` chooses which errors are tried again; an item for which `reset_on_success(item)` holds is a
    success and sets the count back. What `on_retry(attempt, delay, error)` returns, unless None, is emitted.
    """

    max_retries: int | None = None
    initial: float = 1.0
    max_delay: float = 60.0
    factor: float = 2.0
    jitter: float = 0.5
    max_elapsed: float | None = None
    retry_on: Callable[[Exception], bool] = always
    reset_on_success: Callable[[Any], bool] | None = None
    on_retry: Callable[[int, float, Exception], Any] | None = None

    def delay(self, attempt: int, random: Random) -> float:
        """Seconds before attempt number `attempt` (from 1)."""
        try:
            full = min(self.max_delay, self.initial * float(self.factor) ** (attempt - 1))
        except OverflowError:
            full = self.max_delay if self.initial else 0.0
        return full * (1.0 - self.jitter * random.random())
