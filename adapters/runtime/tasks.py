"""Work that runs to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


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
