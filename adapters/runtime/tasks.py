"""Work that is carried out to its end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def finish_despite_cancel(work: Coroutine[None, None, None]) -> None:
    """Carry `work` out to its end, also when cancelled meanwhile. A second cancel is not held up."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # retrieved: whoever is cancelled hears of nothing else
        raise
