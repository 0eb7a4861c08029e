"""Await the last item of an observable. (`await observable` and `.run()` would start threads.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase

from wakestream.operators.rx.core.scheduler import LoopScheduler


def to_future(scheduler: LoopScheduler) -> Callable[[Observable[Any]], asyncio.Future[Any]]:
    """Subscribe on `scheduler`, and give the last item to a future.

    Example:
        >>> outcome = await job_pipeline(job, world, policy).pipe(to_future(LoopScheduler()))

    Args:
        scheduler: The program's scheduler.

    Returns:
        A function from an observable to a future. The future raises the observable's error, or `LookupError` if there
        was no item. Cancelling it disposes the subscription.
    """
    return lambda source: _subscribe(source, scheduler)


def _subscribe(source: Observable[Any], scheduler: LoopScheduler) -> asyncio.Future[Any]:
    last = _Last(scheduler.loop.create_future())
    last.subscription = source.subscribe(last, scheduler=scheduler)
    last.future.add_done_callback(last.dispose)
    return last.future


_NO_ITEM = object()


class _Last(ObserverBase[Any]):
    """Gives the last item to the future; small, because each waiting job holds one."""

    __slots__ = ("future", "item", "subscription")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future, self.item = future, _NO_ITEM
        self.subscription: DisposableBase | None = None

    def on_next(self, value: Any) -> None:
        self.item = value

    def on_error(self, error: Exception) -> None:
        if isinstance(error, StopIteration):  # a future does not accept it
            error = RuntimeError(f"an observable's function raised {error!r}")
        if not self.future.done():
            self.future.set_exception(error)

    def on_completed(self) -> None:
        if self.item is _NO_ITEM:
            self.on_error(LookupError("the observable completed without an item"))
        elif not self.future.done():
            self.future.set_result(self.item)

    def dispose(self, _: object) -> None:
        if self.subscription is not None:
            self.subscription.dispose()
