"""What engines have so far of jobs, fetched from their workers while it is asked for, and passed on. None is stored."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from loguru import logger

from wakestream.adapters.client.client import Client
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api.auth import ApiError, json_answer
from wakestream.adapters.net.static_files import SAFE
from wakestream.adapters.runtime.tasks import background, end
from wakestream.operators.model.engine import Preview
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.outbox.facts import JobStage
from wakestream.streams.outbox.outbox import unknown
from wakestream.streams.outbox.state import Entry, OutboxState

LOOKS: Final = 5.0
"""Seconds for which a look at a job keeps the connection to its worker."""

AGAIN: Final = 2.0
"""Seconds until a job that has no worker, or whose worker shows nothing more, is looked at again."""

EVERY: Final = 0.5
"""The fewest seconds between two previews for one reader."""

WAITS: Final = 10.0
"""Seconds that a stream waits for a newer preview at a time."""

MOST: Final = 32
"""Jobs whose previews are fetched at one time."""


@dataclass(eq=False, slots=True)
class _Looked:
    """A job whose preview is asked for: the newest one and its number, and the task that fetches them."""

    number: int = 0
    newest: Preview | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Previews:
    """The previews of the jobs of `state`, whose workers `client` calls."""

    def __init__(self, state: OutboxState, client: Client) -> None:
        self._state, self._client = state, client
        self._looked: dict[str, _Looked] = {}

    def routes(self) -> list[web.RouteDef]:
        """The routes, for programs of this user and for the page."""
        return [web.get(f"/{at}/jobs/{{job}}/preview", self.get) for at in ("api", "console")]

    async def get(self, request: web.Request) -> web.Response:
        """The newest preview if its number is not `seen`; else an empty object."""
        job = request.match_info["job"]
        if job not in self._state.jobs:
            raise ApiError(404, "unknown_job", unknown(job))
        seen = whole_number(request.query.get("seen", "0"), most=10**15) or 0
        newest = await self.newer(job, seen, 0.0)
        return json_answer({} if newest is None else {"number": newest[0], **newest[1].plain()}, headers=SAFE)

    async def newer(self, job: str, seen: int, within: float) -> tuple[int, Preview] | None:
        """The newest preview of a job and its number; None if none with another number than `seen` comes in time."""
        if (looked := self._begin(job)) is None:
            await asyncio.sleep(within)
            return None
        looked.readers += 1
        if looked.timer is not None:
            looked.timer.cancel()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    while looked.number == seen and job in self._looked:
                        looked.changed.clear()
                        await looked.changed.wait()
        finally:
            looked.readers -= 1
            if not looked.readers and looked.task is not None:
                looked.timer = asyncio.get_running_loop().call_later(LOOKS, looked.task.cancel)
        return None if looked.newest is None or looked.number == seen else (looked.number, looked.newest)

    def _begin(self, job: str) -> _Looked | None:
        """The job, whose previews are fetched from now on; None if it has ended, or there are too many."""
        looked = self._looked.get(job)
        if looked is None and self._open(job) is not None and len(self._looked) < MOST:
            looked = self._looked[job] = _Looked()
            looked.task = background("the previews of a job", self._fetch(job, looked))
        return looked

    def _open(self, job: str) -> Entry | None:
        entry = self._state.jobs.get(job)
        return None if entry is None or entry.ended is not None else entry

    async def _fetch(self, job: str, looked: _Looked) -> None:
        """Fetch until the job has ended, or the preview is no longer asked for and this is cancelled."""
        try:
            while (entry := self._open(job)) is not None:
                try:
                    if entry.stage is not None and entry.stage.task:
                        await self._receive(job, entry.stage, looked)
                except (WakestreamError, OSError, ValueError) as error:
                    logger.debug("no previews of job {}: {}", job, error)
                await asyncio.sleep(AGAIN)
        finally:
            del self._looked[job]
            looked.changed.set()

    async def _receive(self, job: str, stage: JobStage, looked: _Looked) -> None:
        if (previews := self._client.previews(job, stage.worker, stage.task)) is None:
            return
        async with aclosing(previews) as items:
            async for preview in items:
                if (now := self._open(job)) is None or now.stage is None or now.stage.task != stage.task:
                    return  # the job has moved
                looked.number, looked.newest = looked.number + 1, preview
                looked.changed.set()

    async def close(self) -> None:
        """End the connections to the workers."""
        await end(*(looked.task for looked in self._looked.values() if looked.task is not None))
