"""Limit how many sources are subscribed at the same time; the others wait, in an order that can change."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.rx.core.observable import FollowingObserver, SerialDisposable, operator_from
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


class Limiter:
    """At most `max_concurrent` of the sources that go through `limit` are subscribed at a time.

    All jobs share one limiter. A waiting source with a higher priority starts first; among equals, the one that
    waits longest.

    Example:
        >>> uploads = Limiter(2)
        >>> upload(file).pipe(uploads.limit(priority=job.priority))

    Args:
        max_concurrent: How many sources may run at once.

    Raises:
        ValueError: `max_concurrent` is less than 1.
    """

    def __init__(self, max_concurrent: int) -> None:
        if max_concurrent < 1:
            raise ValueError("max_concurrent must be at least 1")
        self.max_concurrent = max_concurrent
        self.running = 0
        self._waiting: list[tuple[Any, int, _Limited]] = []
        self._yielding: set[_Limited] = set()
        self._numbers = count()

    @property
    def waiting(self) -> int:
        """How many sources wait."""
        return len(self._waiting)

    def limit(
        self,
        priority: int = 0,
        on_wait: Callable[[int], T | None] = lambda _: None,
        *,
        key: Callable[[], Any] | None = None,
        gives_way: Callable[[], bool] | None = None,
    ) -> Callable[[Observable[T]], Observable[T]]:
        """Subscribe to the source when fewer than `max_concurrent` run: at once, or after a wait.

        The place is free again when the source ends or is disposed.

        Args:
            priority: Sources with a higher priority start first.
            on_wait: Is called if the source must wait, with the number of sources before it. What it returns, unless
                None, is emitted.
            key: Replaces `priority`: the source with the least key starts first. It is asked for when the wait begins,
                and again by `reorder`.
            gives_way: Is asked by `reorder` and `make_way` when a source that waits now comes before this one, which
                runs. If it returns True, this one is disposed, and subscribed again when it is its turn.

        Returns:
            An operator function: the result has the source's items.
        """

        return operator_from(partial(self._begin, key or (lambda: -priority), on_wait, gives_way))

    def _begin(
        self,
        key: Callable[[], Any],
        on_wait: Callable[[int], T | None],
        gives_way: Callable[[], bool] | None,
        source: Observable[T],
        observer: ObserverBase[T],
        scheduler: SchedulerBase | None,
    ) -> DisposableBase:
        limited = _Limited(observer, scheduler, clock(scheduler), source, self, key, on_wait, gives_way)
        if self.running < self.max_concurrent:
            self.running += 1
            limited.start()
        else:
            limited.wait()
        return limited

    def reorder(self) -> None:
        """Sort the waiting sources by their keys, which have changed. Running ones may give way to them."""
        waiting: list[tuple[Any, int, _Limited]] = []
        for _, number, limited in self._waiting:
            key = limited.key()
            limited.place = (key, number)
            waiting.append((key, number, limited))
        waiting.sort()
        self._waiting = waiting
        self.make_way()

    def make_way(self) -> None:
        """Ask the running sources again whether they give way: one that could not before may do so now."""
        for running in sorted(self._yielding, key=lambda limited: limited.key(), reverse=True):
            if self._waiting and self._waiting[0][0] < running.key() and running.may_give_way:
                running.give_way()

    def _enqueue(self, limited: _Limited) -> int:
        limited.place = (limited.key(), next(self._numbers))
        insort(self._waiting, (*limited.place, limited))
        return bisect_left(self._waiting, limited.place)

    def _remove(self, limited: _Limited) -> None:
        del self._waiting[bisect_left(self._waiting, limited.place)]

    def _release(self) -> None:
        if self._waiting:  # the next one takes the place
            self._waiting.pop(0)[2].start_soon()
        else:
            self.running -= 1


@dataclass(slots=True, eq=False, repr=False)
class _Limited(FollowingObserver[Any], DisposableBase):
    """One subscription: waits, runs, is over."""

    time: SchedulerBase
    source: Observable[Any]
    limiter: Limiter
    key: Callable[[], Any]
    on_wait: Callable[[int], Any]
    gives_way: Callable[[], bool] | None
    place: tuple[Any, int] = (0, 0)
    state: str = "new"

    def wait(self) -> None:
        self.state = "waiting"
        before = self.limiter._enqueue(self)
        try:
            item = self.on_wait(before)
            if item is not None:
                self.observer.on_next(item)
        except Exception:  # raised by `on_wait`, or by the observer
            self.finish()
            raise

    def start_soon(self) -> None:
        # In a later turn of the loop: the source that was running before is still ending.
        self.state = "running"
        self.followed.disposable = self.time.schedule(lambda *_: self.start())

    def start(self) -> None:
        self.state = "running"
        if self.gives_way is not None:
            self.limiter._yielding.add(self)
        self.follow(self.source, self)

    @property
    def may_give_way(self) -> bool:
        return self.gives_way is not None and self.gives_way()

    def give_way(self) -> None:
        self.limiter._yielding.discard(self)
        self.followed.disposable = SerialDisposable()
        self.limiter._release()
        self.wait()

    def finish(self) -> None:
        self.limiter._yielding.discard(self)
        before, self.state = self.state, "over"
        if before == "running":
            self.limiter._release()
        elif before == "waiting":
            self.limiter._remove(self)

    def on_error(self, error: Exception) -> None:
        self.finish()
        self.observer.on_error(error)

    def on_completed(self) -> None:
        self.finish()  # first, so that what follows does not hold the place
        self.observer.on_completed()

    def dispose(self) -> None:
        self.followed.dispose()
        self.finish()
