"""Out of the stream again, for code that awaits. (`await observable` and `.run()` would start threads.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from reactivex import Observable

from wakestream.operators.rx.core.scheduler import LoopScheduler

T = TypeVar("T")


def to_future(scheduler: LoopScheduler) -> Callable[[Observable[Any]], asyncio.Future[Any]]:
    """Subscribe on `scheduler`; the future has the last item. Cancelling it disposes the subscription.

    A source without items gives `LookupError`.
    """
    return lambda source: _Ending(scheduler.loop.create_future()).follow(source, scheduler)


class _Ending(Generic[T]):
    def __init__(self, future: asyncio.Future[T]) -> None:
        self.future = future
        self.last: tuple[T, ...] = ()

    def follow(self, source: Observable[T], scheduler: LoopScheduler) -> asyncio.Future[T]:
        subscription = source.subscribe(self.on_next, self.on_error, self.on_completed, scheduler=scheduler)
        self.future.add_done_callback(lambda _: subscription.dispose())
        return self.future

    def on_next(self, item: T) -> None:
        self.last = (item,)

    def on_error(self, error: Exception) -> None:
        if isinstance(error, StopIteration):  # futures refuse it, and the wait would never end
            error = RuntimeError(f"an observable's function raised {error!r}")
        if not self.future.done():
            self.future.set_exception(error)

    def on_completed(self) -> None:
        if not self.last:
            self.on_error(LookupError("the observable completed without an item"))
        elif not self.future.done():
            self.future.set_result(self.last[0])
