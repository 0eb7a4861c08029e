"""An event loop of real time in which a test waits for what no event announces, without keeping the processor busy."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

EVERY = 0.005
"""Seconds between two looks while nothing happens in the loop: other processes and threads change things, too."""


class LookingLoop(asyncio.SelectorEventLoop):
    """Looks at conditions whenever all that was ready has run."""

    def __init__(self) -> None:
        self._looks: dict[asyncio.Future[None], Callable[[], object]] = {}
        super().__init__(_LookingSelector(self._looks))

    async def until(self, holds: Callable[[], object]) -> None:
        """Returns when this holds."""
        while not holds():
            seen = self.create_future()
            self._looks[seen] = holds
            try:
                await seen
            finally:
                del self._looks[seen]


class _LookingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """The loop asks it for events once in each of its turns, at the end."""

    def __init__(self, looks: dict[asyncio.Future[None], Callable[[], object]]) -> None:
        super().__init__()
        self._looks = looks

    def select(self, timeout: float | None = None) -> Any:
        for seen, holds in self._looks.items():
            try:
                if not seen.done() and holds():
                    seen.set_result(None)
            except Exception as error:  # raised in the test that waits
                seen.set_exception(error)
            most = 0.0 if seen.done() else EVERY
            timeout = most if timeout is None else min(timeout, most)
        return super().select(timeout)
