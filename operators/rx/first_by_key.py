"""Waiting for one message among ten thousand: a look-up in a dict instead of a filter per waiter."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import clock

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Keyed(Protocol[T_co]):
    """A hot source that delivers by key."""

    def listen(self, key: Hashable, on_next: Callable[[Any], None]) -> abc.DisposableBase:
        """Deliver what comes for `key` to `on_next` until disposed."""
        ...


def by_key(board: Keyed[T], key: Hashable) -> Observable[T]:
    """Everything that `board` delivers for `key`; never ends by itself."""

    def subscribe(observer: abc.ObserverBase[T], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return board.listen(key, observer.on_next)

    return LightObservable(subscribe)


def first_by_key(board: Keyed[T], key: Hashable, within: float | None = None, stage: str = "reply") -> Observable[T]:
    """The next item for `key`, then completion; `StageTimeout(stage)` when none comes within `within` seconds."""

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        time = None if within is None else clock(scheduler)
        waiter = _Waiter(board, key, observer)
        if time is not None and within is not None:
            waiter.limit(time, within, stage)
        return waiter

    return LightObservable(subscribe)


class _Waiter(abc.DisposableBase):
    """One registration and one timer: all that a waiting job costs."""

    __slots__ = ("heard", "observer", "timer")

    def __init__(self, board: Keyed[Any], key: Hashable, observer: abc.ObserverBase[Any]) -> None:
        self.observer = observer
        self.timer: abc.DisposableBase | None = None
        self.heard: abc.DisposableBase = board.listen(key, self.on_next)

    def limit(self, time: abc.SchedulerBase, within: float, stage: str) -> None:
        self.timer = time.schedule_relative(within, self._too_late, StageTimeout(stage, within))

    def on_next(self, item: Any) -> None:
        self.dispose()
        self.observer.on_next(item)
        self.observer.on_completed()

    def _too_late(self, _: abc.SchedulerBase, error: StageTimeout | None) -> None:
        self.dispose()
        if error is not None:
            self.observer.on_error(error)

    def dispose(self) -> None:
        self.heard.dispose()
        if self.timer is not None:
            self.timer.dispose()
