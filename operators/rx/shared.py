"""An effect that many need and that is carried out once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, TypeVar

from reactivex import Observable, abc

from wakestream.operators.rx.core.observable import Disposable, LightObservable, SerialDisposable

T = TypeVar("T")


class Shared(LightObservable[T], Generic[T]):
    """Subscribes to `source` at the first subscription and gives its one item to all, early and late.

    Waiters may come and go; the effect goes on until `dispose`. An error, or an end without an item, reaches those who
    wait, and the next subscription starts anew. (`publish` with `ref_count`
    would stop and repeat the effect whenever nobody waits.)
    """

    def __init__(self, source: Observable[T]) -> None:
        super().__init__(self._listen)
        self._source = source
        self._waiting: list[abc.ObserverBase[T]] = []
        self._have: list[T] = []
        self._running = SerialDisposable()
        self._started = False

    def _listen(self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
        if self._have:
            observer.on_next(self._have[0])
            observer.on_completed()
            return SerialDisposable()
        self._waiting.append(observer)
        if not self._started:
            self._started = True
            self._running.disposable = self._source.subscribe(
                self._arrived, self._failed, self._ended, scheduler=scheduler
            )
        return Disposable(lambda: self._leave(observer))

    def _leave(self, observer: abc.ObserverBase[T]) -> None:
        if observer in self._waiting:
            self._waiting.remove(observer)

    def _arrived(self, item: T) -> None:
        if self._have:
            return
        self._have = [item]

        def give(observer: abc.ObserverBase[T]) -> None:
            observer.on_next(item)
            observer.on_completed()

        self._tell(give)

    def _failed(self, error: Exception) -> None:
        if self._have:
            raise error  # an observer's own: the item had come
        self._started = False
        self._tell(lambda observer: observer.on_error(error))

    def _ended(self) -> None:
        if not self._have:
            self._started = False
            self._tell(lambda observer: observer.on_completed())

    def _tell(self, what: Callable[[abc.ObserverBase[T]], None]) -> None:
        waiting, self._waiting = self._waiting, []
        with ExitStack() as everyone:  # one that raises starves nobody
            for observer in reversed(waiting):
                everyone.callback(what, observer)

    def dispose(self) -> None:
        """Stop the effect if it runs."""
        self._running.dispose()
