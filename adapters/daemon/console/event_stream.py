"""One stream of server-sent events for the page: all that it shows, and then what changes of it.

Each connection begins with the whole state. So a page that was away, or a daemon that was, has nothing to catch
up with, and two pages cannot disagree. Browsers open six connections to one server at most: where more pages are open
than may hold one, the others ask for the state alone (`?once`), again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.gpu_status import GpuWatch
from wakestream.adapters.daemon.console.job_view import JobView
from wakestream.adapters.daemon.console.static_files import SAFE
from wakestream.adapters.daemon.console.timeline import Timeline
from wakestream.adapters.daemon.console.timeline_file import TimelineFile
from wakestream.adapters.daemon.event_feed import Item, Listener
from wakestream.streams.recording.event_json import OUTCOME_KINDS

PAGES: Final = 50
"""Pages that may be open at once."""

HEARTBEAT: Final = 10.0
GATHERED: Final = 0.2
"""Seconds for which rows of the timeline are gathered before they are sent."""

_CARDS = {*OUTCOME_KINDS, "accepted"}
_HEADERS = {**SAFE, "Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Live:
    """Every open page hears what is told here. `plain()` are the parts of the state that are no jobs."""

    def __init__(
        self,
        cards: JobView,
        timeline: Timeline,
        kept: TimelineFile,
        gpu: GpuWatch,
        plain: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._cards, self._timeline, self._kept, self._gpu, self._plain = cards, timeline, kept, gpu, plain
        self._pages: set[Listener] = set()

    def tell(self, kind: str, plain: object) -> None:
        """To every open page."""
        if self._pages:
            item = Item(0, "", kind, orjson.dumps(plain))
            for page in tuple(self._pages):
                page.put(item)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Rows of the timeline go out while the block runs; at its end all pages are told to come back later."""
        pushing = asyncio.create_task(self._push(), name="timeline")
        try:
            yield
        finally:
            pushing.cancel()
            self.close()
            await asyncio.gather(pushing, return_exceptions=True)

    def close(self) -> None:
        """All who read are at the end."""
        for page in tuple(self._pages):
            page.end()

    async def _push(self) -> None:
        seen = self._timeline.last
        while True:
            await self._timeline.news.wait()
            self._timeline.news.clear()
            if self._pages and (rows := self._timeline.since(seen)):
                self.tell("rows", rows)
            seen = self._timeline.last
            await asyncio.sleep(GATHERED)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The whole state, then every change, until the page goes; with `?once` the state alone."""
        if len(self._pages) >= PAGES:
            raise ApiError(503, "too_many_pages", f"{PAGES} pages are open; close one, then try again")

        def cut() -> None:
            if request.transport is not None:
                request.transport.abort()

        response = web.StreamResponse(headers=_HEADERS)
        feed = self._cards.outbox.feed
        with contextlib.suppress(ConnectionError), self._gpu.watched(), feed.follow(None, cut) as listener:
            self._pages.add(listener)
            try:
                state = self._state(request)
                known = {card["id"] for card in state["jobs"]}
                await response.prepare(request)
                await response.write(_text("state", orjson.dumps(state)))
                if "once" not in request.query:
                    await self._follow(response, listener, known)
            finally:
                self._pages.discard(listener)
        return response

    def _state(self, request: web.Request) -> dict[str, Any]:
        boot, _, seq = request.query.get("rows", "").rpartition("-")
        known = boot == self._cards.outbox.feed.boot
        rows = self._timeline.since((known and whole_number(seq, most=10**15)) or 0)
        earlier = self._kept.earlier(boot)
        shown = [*chain.from_iterable(run["rows"] for run in earlier), *rows]
        return {
            "earlier": earlier, "boot": self._cards.outbox.feed.boot, "epoch": self._timeline.header.epoch,
            "gpu": self._gpu.last, "jobs": self._cards.now(), "rows": rows, "names": self._named(shown),
            **self._plain(),
        }  # fmt: skip

    def _named(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
        """What their users call the files of the jobs in these rows."""
        jobs = self._cards.outbox.state.jobs
        names = {job: self._cards.names(jobs[job]) for job in {row["job"] for row in rows} if job in jobs}
        return {job: [each["video"], each["audio"]] for job, each in names.items()}

    async def _follow(self, response: web.StreamResponse, listener: Listener, known: set[str]) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    item = await listener.next()
            except TimeoutError:
                await response.write(b"event: beat\ndata: 0\n\n")
                continue
            if item is None:
                return
            await response.write(self._told(item, known))

    def _told(self, item: Item, known: set[str]) -> bytes:
        """An item for a page that knows the jobs `known`."""
        if not item.job:
            return _text(item.kind, item.data)
        entry = self._cards.outbox.state.jobs.get(item.job)
        if entry is None or (item.kind not in _CARDS and item.job in known):
            return _text("event", item.data)
        if entry.ended is None:
            known.add(item.job)
        else:
            known.discard(item.job)
        return _text("card", orjson.dumps(self._cards.told(entry)))


def _text(kind: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)
