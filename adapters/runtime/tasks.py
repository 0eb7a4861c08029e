"""Tasks that outlive a cancelled caller, and signs of life during work that reports no progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any


async def finish_despite_cancel(work: Coroutine[None, None, None]) -> None:
    """Run `work` to its end, also when the caller is cancelled. A second cancel takes effect at once."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # retrieved: the caller sees only its cancellation
        raise


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
