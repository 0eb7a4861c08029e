"""What the last jobs cost: asked of the hub when somebody looks, and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.runtime.tasks import end
from wakestream.operators.model.errors import WakestreamError

FRESH: Final = 5.0
"""Seconds for which an answer of the hub counts as the present state."""

WAIT: Final = 2.0
"""Seconds that a caller waits for the hub; after that it gets what was known before."""


class DaemonCosts:
    """Asks the hub for the costs, over a connection of its own.

    Args:
        settings: Name the hub and the key.
        is_up: Whether the jobs' connection to the hub is up; if not, nobody waits for an answer.
        now: Seconds on a monotonic clock.
    """

    def __init__(
        self, settings: Settings, is_up: Callable[[], bool], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._is_up, self._now = settings, is_up, now
        self._known: dict[str, Any] = {"jobs": {}, "currency": ""}
        self._at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def present(self) -> dict[str, Any]:
        """`jobs`: the cost of each of the last jobs by id, and the `currency`."""
        if self._is_up() and self._now() - self._at > FRESH:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(), name="costs")
            await asyncio.wait([self._asking], timeout=WAIT)
        return self._known

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            await end(self._asking)

    async def _ask(self) -> None:
        try:
            told = await ask_hub(self._settings, costs=True)
            priced = [job for job in (told.costs or {}).get("jobs", ()) if "cost" in job]
            currency, *others = {job.get("currency", told.currency or "") for job in priced} or {""}
            jobs = {job["id"]: job["cost"] for job in priced if not others}  # in different money they say nothing
            self._known = {"jobs": jobs, "currency": currency}
        except WakestreamError as error:
            logger.debug("the costs are not known: {}", error)
        finally:
            self._at, self._asking = self._now(), None
