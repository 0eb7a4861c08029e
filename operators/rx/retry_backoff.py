"""Retry with increasing delays. (The library's `retry` has no delay.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.rx.core.observable import FollowingObserver, operator_from
from wakestream.operators.rx.core.scheduler import clock, seconds_now

T = TypeVar("T")


def retry_backoff(
    backoff: Backoff, random: Random, progress: Callable[[T], float] | None = None
) -> Callable[[Observable[T]], Observable[T]]:
    """Subscribe again after an error that `backoff.retry_on` accepts, when its delay has passed in scheduler time.

    When the attempts are used up, the last error is passed on. `CancelledError` is passed on at once. If a function of
    `backoff` raises, the result fails with that error.

    Example:
        >>> call.pipe(retry_backoff(Backoff(max_retries=3), Random(seed)))

    Args:
        backoff: Which errors are retried, how often, and after which delays.
        random: The seeded source of jitter.
        progress: How far an attempt has got, from 0. When an item gets further than all before it, in any attempt, the
            count of failures starts at 0 again.

    Returns:
        An operator function: the result has the items of all attempts.
    """

    def subscribe(source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        return _Attempts(observer, scheduler, clock(scheduler), source, backoff, random, progress).start()

    return operator_from(subscribe)


@dataclass(slots=True, eq=False, repr=False)
class _Attempts(FollowingObserver[Any]):
    """The state of one subscription: how many failures in a row, and since when. It follows an attempt or a delay."""

    time: SchedulerBase
    source: Observable[Any]
    backoff: Backoff
    random: Random
    progress: Callable[[Any], float] | None
    most: float = 0.0
    failures: int = 0
    since: float | None = None

    def start(self) -> DisposableBase:
        self.follow(self.source, self)
        return self.followed

    def on_next(self, value: Any) -> None:
        try:
            if self._succeeds(value):
                self.failures, self.since = 0, None
        except Exception as error:  # raised by a predicate, not by the source: no retry
            self.observer.on_error(error)
        else:
            self.observer.on_next(value)

    def _succeeds(self, value: Any) -> bool:
        success = self.backoff.reset_on_success
        if self.progress is not None and (reached := self.progress(value)) > self.most:
            self.most = reached
            return True
        return success is not None and success(value)

    def on_error(self, error: Exception) -> None:
        self.failures += 1
        self.since = seconds_now(self.time) if self.since is None else self.since
        delay = self.backoff.delay(self.failures, self.random)
        try:
            allowed, limit = self.backoff.max_retries, self.backoff.max_elapsed
            late = limit is not None and seconds_now(self.time) + delay - (self.since or 0.0) > limit
            again = self._is_retryable(error) and not (late or (allowed is not None and self.failures > allowed))
            item = again and self.backoff.on_retry and self.backoff.on_retry(self.failures, delay, error)
        except Exception as fault:  # raised by a function of `backoff`
            self.observer.on_error(fault)
            return
        if not again:
            self.observer.on_error(error)
            return
        self.followed.disposable = self.time.schedule_relative(delay, self._again)
        if item is not None:
            self.observer.on_next(item)

    def _is_retryable(self, error: Exception) -> bool:
        return not isinstance(error, asyncio.CancelledError) and self.backoff.retry_on(error)

    def _again(self, *_: Any) -> None:
        # Returns nothing: the timer would own what it started, and the next timer would dispose it.
        self.start()
