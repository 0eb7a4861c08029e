"""Run an effect once for all its subscribers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.rx.core.observable import (
    Disposable,
    Functions,
    LightObservable,
    SerialDisposable,
    subscribe_into,
)

T = TypeVar("T")


class Shared(LightObservable[T], Generic[T]):
    """Subscribes to `source` at the first subscription, and gives its one item to all subscribers, early and late.

    The effect runs until `dispose`, even while it has no subscriber (with `publish` and `ref_count` it would stop and
    start again). An error, or an end without an item, is given to the present subscribers; the next subscription
    starts the source again.

    Example:
        >>> hashes = Shared(from_async(read_and_hash))

    Args:
        source: The observable to subscribe to. Its first item is kept.
    """

    def __init__(self, source: Observable[T]) -> None:
        super().__init__(self._listen)
        self._source = source
        self._waiting: list[ObserverBase[T]] = []
        self._have: list[T] = []
        self._running = SerialDisposable()
        self._started = False

    def _listen(self, observer: ObserverBase[T], scheduler: SchedulerBase | None) -> DisposableBase:
        if self._have:
            observer.on_next(self._have[0])
            observer.on_completed()
            return SerialDisposable()
        self._waiting.append(observer)
        if not self._started:
            self._started = True
            given: Any = Functions(self._on_next, self._on_error, self._on_completed)
            subscribe_into(self._running, self._source, given, scheduler)
        return Disposable(lambda: self._leave(observer))

    def _leave(self, observer: ObserverBase[T]) -> None:
        if observer in self._waiting:
            self._waiting.remove(observer)

    def _on_next(self, item: T) -> None:
        if self._have:
            return
        self._have = [item]

        def give(observer: ObserverBase[T]) -> None:
            observer.on_next(item)
            observer.on_completed()

        self._notify(give)

    def _on_error(self, error: Exception) -> None:
        if self._have:
            raise error  # raised by an observer: the item had come
        self._started = False
        self._notify(lambda observer: observer.on_error(error))

    def _on_completed(self) -> None:
        if not self._have:
            self._started = False
            self._notify(lambda observer: observer.on_completed())

    def _notify(self, action: Callable[[ObserverBase[T]], None]) -> None:
        waiting, self._waiting = self._waiting, []
        with ExitStack() as stack:  # all are notified, even if one raises
            for observer in reversed(waiting):
                stack.callback(action, observer)

    def dispose(self) -> None:
        """Stop the effect if it runs."""
        self._running.dispose()
