"""How long to wait before a failed attempt is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any


def always(_: Any) -> bool:
    """The predicate that is true for everything.

    Example:
        >>> Backoff(retry_on=always)

    Args:
        _: Any value.

    Returns:
        True.
    """
    return True


@dataclass(frozen=True, slots=True)
class Backoff:
    """Which failures are retried, how often, and after which delays. All times are seconds.

    The n-th delay is `initial * factor**(n-1)`, at most `max_delay`, less a random part of up to `jitter` of it.

    Example:
        >>> Backoff(max_retries=3, initial=0.5, max_delay=5.0, retry_on=is_retryable)
    """

    max_retries: int | None = None
    """How many retries in a row are allowed; None means no limit."""
    initial: float = 1.0
    """The first delay."""
    max_delay: float = 60.0
    """The longest delay."""
    factor: float = 2.0
    """By how much each delay is longer than the one before."""
    jitter: float = 0.5
    """The part of each delay that is random, from 0 to 1."""
    max_elapsed: float | None = None
    """How long retries go on, counted from the first failure since the last success; None means no limit."""
    retry_on: Callable[[Exception], bool] = always
    """Whether an error is retried."""
    reset_on_success: Callable[[Any], bool] | None = None
    """Whether an item is a success, which sets the count of failures to 0."""
    on_retry: Callable[[int, float, Exception], Any] | None = None
    """Makes an item to emit before a retry, from its number, its delay and the error; None emits nothing."""

    def delay(self, attempt: int, random: Random) -> float:
        """Compute a delay.

        Args:
            attempt: The number of the retry, from 1.
            random: The source of jitter.

        Returns:
            Seconds to wait before that retry.
        """
        try:
            full = min(self.max_delay, self.initial * float(self.factor) ** (attempt - 1))
        except OverflowError:
            full = self.max_delay if self.initial else 0.0
        return full * (1.0 - self.jitter * random.random())
