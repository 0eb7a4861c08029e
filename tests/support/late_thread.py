"""A thread that begins late: what `asyncio.to_thread` is given waits, as when all threads are busy."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


async def cancelled_before_its_thread(work: Coroutine[Any, Any, None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `work` until it gives a thread something, cancel it, and only then let the thread begin."""
    waits, free = asyncio.Event(), asyncio.Event()

    async def late(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        waits.set()
        await free.wait()
        return call(*args, **named)

    with monkeypatch.context() as busy:
        busy.setattr(asyncio, "to_thread", late)
        working = asyncio.create_task(work)
        await waits.wait()
        working.cancel()
        asyncio.get_running_loop().call_soon(free.set)
        await asyncio.wait((working,))
    assert working.cancelled()
