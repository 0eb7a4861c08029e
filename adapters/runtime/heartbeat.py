"""Signs of life during work that reports no progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any


async def heartbeat(work: Coroutine[Any, Any, None], every: float) -> AsyncGenerator[None, None]:
    """Run `work` and yield every `every` seconds until it is done. Raises its error."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=every))[0]:
            yield
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
