"""The one door for effects: a coroutine, or an async generator, as a cold observable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, overload

from reactivex import Observable, abc

from wakestream.operators.model.faults import wrong_return
from wakestream.operators.rx.cancel_as_error import cancel_as_error
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import LoopScheduler

T = TypeVar("T")


@overload
def from_async(effect: Callable[[], AsyncIterator[T]], name: str | None = None) -> Observable[T]: ...
@overload
def from_async(effect: Callable[[], Awaitable[T]], name: str | None = None) -> Observable[T]: ...
def from_async(effect: Callable[[], Any], name: str | None = None) -> Observable[Any]:
    """Run `effect()` anew at each subscription, as a task of the `LoopScheduler` given there.

    A coroutine gives one item, an async generator all of its items. Disposing cancels the task; that `CancelledError`
    is neither caught nor retried, and nothing is emitted after it. One that the effect raises by itself is an error,
    see `cancel_as_error`. `name` is the task's, to see who still waits.
    """

    def subscribe(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        if not isinstance(scheduler, LoopScheduler):
            raise TypeError("effects run on a LoopScheduler: give one at the single subscribe")
        return scheduler.spawn(_drive(effect, observer, name), name)

    return LightObservable(subscribe)


async def _drive(effect: Callable[[], Any], observer: abc.ObserverBase[Any], name: str | None) -> None:
    try:
        with cancel_as_error(name):
            running = effect()
            if isinstance(running, AsyncIterator):
                await _each(running, observer)
            else:
                observer.on_next(await awaitable(running, effect, name or "from_async"))
    except Exception as error:  # whatever an effect raises is the observable's error
        observer.on_error(error)
    else:
        observer.on_completed()


def awaitable(made: Any, effect: Callable[[], Any], name: str) -> Awaitable[Any]:
    """What `effect()` returned; `WrongReturn` where it cannot be awaited."""
    if isinstance(made, Awaitable):
        return made
    how = "Make it an async function, or return what can be awaited"
    raise wrong_return(made, effect, name, f"cannot be awaited. {how}")


async def _each(items: AsyncIterator[Any], observer: abc.ObserverBase[Any]) -> None:
    task = asyncio.current_task()
    try:
        async for item in items:
            observer.on_next(item)
            if task is not None and task.cancelling():  # disposed by the observer: stop here, not at its next await
                await asyncio.sleep(0)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
