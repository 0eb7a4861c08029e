"""Work that says nothing while it lasts, with signs of life in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any


async def heartbeat(work: Coroutine[Any, Any, None], every: float) -> AsyncGenerator[None, None]:
    """Carries `work` out; yields every so many seconds until it is done. Its error is raised here."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=every))[0]:
            yield
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
