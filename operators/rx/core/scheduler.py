"""The clock of a program: a reactivex scheduler on the running event loop. It also owns the tasks of effects."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar

from reactivex import abc, typing
from reactivex.scheduler.periodicscheduler import PeriodicScheduler

from wakestream.operators.rx.core.observable import Disposable

S = TypeVar("S")


class _Timer(abc.DisposableBase):
    """A pending call of the loop; small, because ten thousand jobs hold one each."""

    __slots__ = ("disposed", "handle", "inner")

    def __init__(self) -> None:
        self.handle: asyncio.Handle | None = None
        self.inner: abc.DisposableBase | None = None
        self.disposed = False

    def dispose(self) -> None:
        self.disposed = True
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None
        if self.inner is not None:
            self.inner.dispose()
            self.inner = None


class LoopScheduler(PeriodicScheduler):
    """Schedules on an asyncio event loop. `now` follows `loop.time()`, so a virtual loop makes all waits virtual.

    Pass it once, at the single `subscribe`. It starts no thread.

    Example:
        >>> scheduler = LoopScheduler()
        >>> running = pipeline.subscribe(print, scheduler=scheduler)
        >>> running.dispose()
        >>> await scheduler.close()

    Args:
        loop: The event loop; default is the running one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__()
        self.loop = loop or asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def now(self) -> datetime:
        """The loop's time as a datetime."""
        return self.to_datetime(self.loop.time())

    def schedule(self, action: typing.ScheduledAction[S], state: S | None = None) -> abc.DisposableBase:
        """Run `action` in the next turn of the loop."""
        timer = _Timer()
        timer.handle = self.loop.call_soon(self._fire, timer, action, state)
        return timer

    def schedule_relative(
        self, duetime: typing.RelativeTime, action: typing.ScheduledAction[S], state: S | None = None
    ) -> abc.DisposableBase:
        """Run `action` in `duetime` seconds (or a timedelta)."""
        seconds = duetime if isinstance(duetime, float) else self.to_seconds(duetime)
        timer = _Timer()
        timer.handle = self.loop.call_at(self.loop.time() + max(0.0, seconds), self._fire, timer, action, state)
        return timer

    def schedule_absolute(
        self, duetime: typing.AbsoluteTime, action: typing.ScheduledAction[S], state: S | None = None
    ) -> abc.DisposableBase:
        """Run `action` when `now` reaches `duetime`."""
        return self.schedule_relative(self.to_datetime(duetime) - self.now, action, state)

    def _fire(self, timer: _Timer, action: typing.ScheduledAction[S], state: S | None) -> None:
        timer.handle = None
        inner = action(self, state)
        if inner is not None and isinstance(inner, abc.DisposableBase):  # isinstance of an abstract class is slow
            if timer.disposed:  # by the action itself
                inner.dispose()
            else:
                timer.inner = inner

    def spawn(self, effect: Coroutine[Any, Any, None], name: str | None = None) -> abc.DisposableBase:
        """Run an effect as a task. Disposing cancels it; `close` waits for its end."""
        task = self.loop.create_task(effect, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Disposable(task.cancel)

    async def close(self) -> None:
        """Wait for the end of all effects. Dispose what started them first."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


def clock(scheduler: abc.SchedulerBase | None) -> abc.SchedulerBase:
    """The scheduler given at subscribe. There is no default: the library's own starts a thread for each timer."""
    if scheduler is None:
        raise TypeError(
            "no scheduler: give one at the single subscribe, e.g. subscribe(..., scheduler=LoopScheduler())"
        )
    return scheduler


def seconds_now(scheduler: abc.SchedulerBase) -> float:
    """Return the scheduler's time.

    Example:
        >>> seconds_now(LoopScheduler()) == asyncio.get_running_loop().time()
        True

    Args:
        scheduler: The scheduler.

    Returns:
        Seconds since its own epoch.
    """
    if isinstance(scheduler, LoopScheduler):  # exact, and faster than through a datetime
        return scheduler.loop.time()
    return scheduler.to_seconds(scheduler.now)
