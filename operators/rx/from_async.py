"""How effects enter a pipeline: a coroutine, or an async generator, as a cold observable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.user_code import location_of, wrong_return
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import LoopScheduler


class cancel_as_error:  # noqa: N801 - used as a function; a class, since each call of a job makes two
    """Turn a `CancelledError` into a `WakestreamError` (code `internal`) unless the running task was cancelled.

    An effect raises such an error by itself when something that it awaits was cancelled.
    """

    __slots__ = ("name",)

    def __init__(self, name: str | None) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Nothing has to be done before."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Raise the error in place of a cancellation."""
        if error is None or not isinstance(error, asyncio.CancelledError):
            return
        task = asyncio.current_task()
        if task is None or task.cancelling():
            return
        location = location_of(error)
        reason = (
            f"{self.name or 'an effect'} cancelled itself (CancelledError): something that it waited for was "
            "cancelled, not the job"
        ) + (f" ({location})" if location else "")
        raise WakestreamError(reason, code="internal") from error


T = TypeVar("T")


@overload
def from_async(effect: Callable[[], AsyncIterator[T]], name: str | None = None) -> Observable[T]: ...
@overload
def from_async(effect: Callable[[], Awaitable[T]], name: str | None = None) -> Observable[T]: ...
def from_async(effect: Callable[[], Any], name: str | None = None) -> Observable[Any]:
    """Run `effect()` at each subscription, as a task of the `LoopScheduler` that is given there.

    Disposing cancels the task. That `CancelledError` is neither caught nor retried, and nothing is emitted after it.
    A `CancelledError` that the effect raises by itself is an error, see `cancel_as_error`.

    Example:
        >>> from_async(lambda: worker.health(), "health")

    Args:
        effect: A function without arguments that returns an awaitable (one item) or an async iterator (its items).
            What it raises is the observable's error.
        name: The task's name, for debugging.

    Returns:
        A cold observable.

    Raises:
        TypeError: At `subscribe`, when the scheduler is not a `LoopScheduler`.
    """

    def subscribe(observer: ObserverBase[Any], scheduler: SchedulerBase | None = None) -> DisposableBase:
        if not isinstance(scheduler, LoopScheduler):
            raise TypeError("effects run on a LoopScheduler: give one at the single subscribe")
        return scheduler.spawn(_run(effect, observer, name), name)

    return LightObservable(subscribe)


async def _run(effect: Callable[[], Any], observer: ObserverBase[Any], name: str | None) -> None:
    try:
        with cancel_as_error(name):
            running = effect()
            if isinstance(running, AsyncIterator):
                await _emit_all(running, observer)
            else:
                observer.on_next(await require_awaitable(running, effect, name or "from_async"))
    except Exception as error:
        observer.on_error(error)
    else:
        observer.on_completed()


def require_awaitable(made: Any, effect: Callable[[], Any], name: str) -> Awaitable[Any]:
    """What `effect()` returned; `WrongReturn` if it cannot be awaited."""
    if isinstance(made, Awaitable):
        return made
    how = "Make it an async function, or return what can be awaited"
    raise wrong_return(made, effect, name, f"cannot be awaited. {how}")


async def _emit_all(items: AsyncIterator[Any], observer: ObserverBase[Any]) -> None:
    task = asyncio.current_task()
    async with closing(items):
        async for item in items:
            observer.on_next(item)
            if task is not None and task.cancelling():  # the observer disposed it: stop here, not at its next await
                await asyncio.sleep(0)


@asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close an async iterator at the end, if it can be closed: its clean-up must not wait for garbage collection."""
    try:
        yield items
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
