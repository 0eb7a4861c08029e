"""An effect that many need and that is carried out once."""

from __future__ import annotations

from typing import Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable

T = TypeVar("T")


class Once(Observable[T], Generic[T]):
    """Subscribes to `source` at the first subscription and gives its one item to all, early and late.

    Waiters may come and go; the effect goes on until `dispose`. An error reaches those who wait, and the next
    subscription starts anew. (`publish` with `ref_count` would stop and repeat the effect whenever nobody waits.)
    """

    def __init__(self, source: Observable[T]) -> None:
        super().__init__()
        self._source = source
        self._waiting: list[abc.ObserverBase[T]] = []
        self._have: list[T] = []
        self._running = SerialDisposable()
        self._started = False

    def _subscribe_core(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        if self._have:
            observer.on_next(self._have[0])
            observer.on_completed()
            return Disposable()
        self._waiting.append(observer)
        if not self._started:
            self._started = True
            self._running.disposable = self._source.subscribe(self._arrived, self._failed, scheduler=scheduler)
        return Disposable(lambda: self._leave(observer))

    def _leave(self, observer: abc.ObserverBase[T]) -> None:
        if observer in self._waiting:
            self._waiting.remove(observer)

    def _arrived(self, item: T) -> None:
        self._have = [item]
        waiting, self._waiting = self._waiting, []
        for observer in waiting:
            observer.on_next(item)
            observer.on_completed()

    def _failed(self, error: Exception) -> None:
        self._started = False
        waiting, self._waiting = self._waiting, []
        for observer in waiting:
            observer.on_error(error)

    def dispose(self) -> None:
        """Stop the effect if it runs."""
        self._running.dispose()
