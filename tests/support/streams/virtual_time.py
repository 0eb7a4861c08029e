"""What a test's observable emits and when it is subscribed to, in virtual time."""

import asyncio
from typing import Any

from reactivex import Observable, abc
from reactivex.testing import ReactiveTest

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed
subscribe = ReactiveTest.subscribe


def collect(source: Observable[Any], scheduler: abc.SchedulerBase | None = None) -> list[Any]:
    """Subscribe to the source: its items come into the list, then its error, or `|` at its end."""
    heard: list[Any] = []
    source.subscribe(heard.append, heard.append, lambda: heard.append("|"), scheduler=scheduler)
    return heard


class Lasting:
    """An effect that ends only by a cancel: when it had begun, and at what time it was cleaned up."""

    def __init__(self) -> None:
        self.entered, self.left_at = asyncio.Event(), list[float]()

    async def effect(self) -> Any:
        """Wait for ever."""
        try:
            self.entered.set()
            await asyncio.Event().wait()
        finally:
            self.left_at.append(asyncio.get_running_loop().time())
