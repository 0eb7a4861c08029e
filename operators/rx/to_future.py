"""Await the last item of an observable. (`await observable` and `.run()` would start threads.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from reactivex import Observable

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
    future: asyncio.Future[Any] = scheduler.loop.create_future()
    last: list[Any] = []

    def on_next(item: Any) -> None:
        last[:] = (item,)

    def on_error(error: Exception) -> None:
        if isinstance(error, StopIteration):  # a future does not accept it
            error = RuntimeError(f"an observable's function raised {error!r}")
        if not future.done():
            future.set_exception(error)

    def on_completed() -> None:
        if not last:
            on_error(LookupError("the observable completed without an item"))
        elif not future.done():
            future.set_result(last[0])

    subscription = source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
    future.add_done_callback(lambda _: subscription.dispose())
    return future
