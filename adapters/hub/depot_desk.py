"""The hub's calls of the depot: what its decider asks, and the links in what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from loguru import logger
from msgspec.structs import replace

from wakestream.adapters.depot.store import LINKS, DepotStore
from wakestream.adapters.runtime.known_secrets import redacted_text
from wakestream.adapters.runtime.tasks import background, end
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

AT_ONCE: Final = 16
"""Questions that the depot is asked at one time."""

WITHIN: Final = 120.0
"""Seconds for a question; a bucket may put the parts of large files together."""


class DepotDesk:
    """Asks the depot.

    Args:
        store: The depot.
        answer: Called with each answer.
        clock: Returns UNIX seconds.
    """

    def __init__(
        self, store: DepotStore, answer: Callable[[f.DepotAnswered], object], clock: Callable[[], float]
    ) -> None:
        self._store, self._answer, self._clock = store, answer, clock
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, asked: f.AskDepot) -> None:
        """Ask; the questions about one license are asked one after the other."""
        order = self._order.setdefault(asked.owner, asyncio.Lock())
        task = background("a question to the depot", self._work(asked, order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def with_links(self, message: m.Message, links: f.Links) -> m.Message:
        """The message with what its receiver needs at the depot."""
        if not isinstance(message, d.DepotPlaces | d.DepotFetch | d.DepotDelivered):
            return message
        have = [file.blake3 for file in message.files if file.have]
        now = self._clock()
        files = self._store.sign(message.files, have, links.owner, links.method, now)
        own = self._store.permission(links.owner, links.job, now)
        return replace(message, files=files, expires=int(now + LINKS), **own)

    async def close(self) -> None:
        """Ask no more."""
        await end(*self._tasks)
        await self._store.close()

    async def _work(self, asked: f.AskDepot, order: asyncio.Lock) -> None:
        async with order:
            async with self._room:
                answered = await self._answered(asked)
            self._answer(answered)  # what it leads to waits for the next ones

    async def _answered(self, asked: f.AskDepot) -> f.DepotAnswered:
        try:
            async with asyncio.timeout(WITHIN):
                if asked.ask != "remove":
                    return f.DepotAnswered(asked, await getattr(self._store, asked.ask)(asked.owner, asked.files))
                await self._store.remove(asked.owner, [file.blake3 for file in asked.files])
                return f.DepotAnswered(asked)
        except TimeoutError:
            code, why = "down", f"the depot did not answer within {WITHIN:g} s"
        except WakestreamError as error:
            code, why = error.code, redacted_text(str(error))
        except Exception as error:  # such as one of boto3: the job goes the direct way
            logger.opt(exception=error).error("a question to the depot failed")
            code, why = "down", f"the hub could not use the depot ({type(error).__name__}); see its log"
        logger.bind(job=asked.request_id or "-", stage="hub").warning("the depot: {}", why)
        return f.DepotAnswered(asked, code=code, reason=why)
