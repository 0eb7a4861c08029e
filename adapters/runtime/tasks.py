"""Tasks of a program: the supervisor of its background tasks, tasks of one block, and work that outlives a cancel.

No task ends unseen. An error of a background task is logged, and then the task starts again or the program ends with
the reason. An error of a task that a block started ends the block.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Protocol, TypeVar

from loguru import logger

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import JournalError, WakestreamError
from wakestream.operators.rx.from_async import cancel_as_error

T = TypeVar("T")
Work = Callable[[], Awaitable[object]]

AGAIN = Backoff(initial=1.0, max_delay=60.0, jitter=0.0)
"""The pauses before a background task starts again, in seconds."""

STEADY = 120.0
"""A task that ran this many seconds starts again after the first pause."""


class Start(Protocol):
    """Starts a task of a block."""

    def __call__(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start `work` and return its task."""


@asynccontextmanager
async def tasks_of_block() -> AsyncIterator[Start]:
    """Start tasks that end with the block: they are cancelled and awaited at its end.

    An error of a task ends the block, which then raises this error itself and not an `ExceptionGroup`. Do not `yield`
    from an async generator inside the block: the error would cancel another task.

    Example:
        >>> async with tasks_of_block() as start:
        ...     start(listen())
        ...     await work()
    """
    tasks: list[asyncio.Task[Any]] = []
    ending = False

    async def until_end(work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except Exception as error:
            if not ending:
                raise
            logger.opt(exception=error).debug("a task failed when it was stopped")
            raise asyncio.CancelledError from error

    def start(work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        tasks.append(task := group.create_task(until_end(work), name=name))
        task.add_done_callback(lambda _: work.close())  # a task that is cancelled before it runs awaits nothing
        return task

    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield start
            finally:
                ending = True
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first


class Supervisor:
    """Runs the background tasks of a program; see `supervised`."""

    def __init__(self, program: str, start: Start) -> None:
        self._program, self._start = program, start

    def needs(self, name: str, work: Work) -> None:
        """Run `work`, without which the program cannot continue: its error ends the program."""

        async def needed() -> None:
            try:
                with cancel_as_error(name):
                    await work()
            except Exception as error:
                raise cannot_continue(self._program, error, name) from error

        self._start(needed(), name)

    def keeps(self, name: str, work: Work) -> None:
        """Run `work`; after an error it starts again, with backoff. Each run must be able to begin at any time."""
        self._start(restarted(name, work), name)


@asynccontextmanager
async def supervised(program: str) -> AsyncIterator[Supervisor]:
    """Run background tasks until the block ends, or end the block when one of them that is needed fails.

    Args:
        program: The program's name in the log, as "the hub".

    Raises:
        WakestreamError: A task that the program `needs` failed.

    Example:
        >>> async with supervised("the worker") as tasks:
        ...     tasks.keeps("removing old files", tidy)
        ...     await stop.wait()
    """
    async with tasks_of_block() as start:
        yield Supervisor(program, start)


async def restarted(name: str, work: Work) -> None:
    """Run `work` until it returns. After an error it starts again, with backoff."""
    loop, failures = asyncio.get_running_loop(), 0
    while True:
        began = loop.time()
        try:
            with cancel_as_error(name):
                await work()
        except Exception as error:
            failures = 1 if loop.time() - began >= STEADY else failures + 1
            pause = AGAIN.delay(failures, Random())
            logger.opt(exception=error).error("{} failed: {!r}. It starts again in {:g} s", name, error, pause)
        else:
            return
        await asyncio.sleep(pause)


def cannot_continue(program: str, error: Exception, name: str = "") -> WakestreamError:
    """The reason for the end of a program; an error that is no `WakestreamError` is logged with its traceback."""
    if isinstance(error, WakestreamError):
        return error
    logger.opt(exception=error).error("{} cannot continue{}", program, name and f": {name} failed")
    return JournalError(f"{program} cannot continue ({type(error).__name__}: {error}); see its log")


def background(
    name: str, work: Coroutine[Any, Any, T], failed: Callable[[Exception], object] | None = None
) -> asyncio.Task[T]:
    """Start a task that its owner ends with `end`. An error goes to `failed`; by default it is logged."""

    def ended(task: asyncio.Task[T]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            if failed is not None:
                failed(error)
            else:
                logger.opt(exception=error).error("{} failed: {!r}", name, error)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


async def first_of(*waits: Awaitable[object]) -> None:
    """Return when the first of these is done. Coroutines are cancelled then; futures are not.

    Raises:
        Exception: A coroutine raised it.
    """
    async with tasks_of_block() as start:
        futures = [start(wait) if isinstance(wait, Coroutine) else asyncio.ensure_future(wait) for wait in waits]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def finish_despite_cancel(
    work: Coroutine[None, None, None], on_cancel: Callable[[], object] = lambda: None
) -> None:
    """Run `work` to its end, also when the caller is cancelled. A second cancel takes effect at once."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # retrieved: the caller sees only its cancellation
        raise
    task.result()


async def heartbeat(work: Coroutine[Any, Any, None], every: float) -> AsyncGenerator[None, None]:
    """Run `work` and yield every `every` seconds until it is done. Raises its error."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=every))[0]:
            yield
        task.result()
    finally:
        await end(task)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end. Their errors are ignored."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
