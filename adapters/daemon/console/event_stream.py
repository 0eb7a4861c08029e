"""One stream of server-sent events for the page: the complete state, then the changes.

Each connection starts with the complete state, so a page that was disconnected misses nothing, and all pages show the
same. Browsers open at most six connections to one server: when more pages are open than may have a stream, the others
poll the state (`?once`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon import event_feed as sse
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.gpu_status import GpuWatch
from wakestream.adapters.daemon.console.job_view import JobView
from wakestream.adapters.daemon.console.timeline import Timeline, TimelineFile
from wakestream.adapters.daemon.event_feed import Item, Listener
from wakestream.adapters.net.static_files import SAFE
from wakestream.streams.recording.event_json import OUTCOME_KINDS

PAGES: Final = 50
"""Pages that may be open at once."""

GATHERED: Final = 0.2
"""Seconds for which rows of the timeline are collected before they are sent."""

_CARDS = {*OUTCOME_KINDS, "accepted"}


@dataclass(frozen=True, slots=True)
class Live:
    """The open pages. `_plain()` gives the rest of the state beside jobs, timeline and GPUs."""

    _cards: JobView
    _timeline: Timeline
    _kept: TimelineFile
    _gpu: GpuWatch
    _plain: Callable[[], Mapping[str, Any]]
    _pages: set[Listener] = field(default_factory=set)

    def tell(self, kind: str, plain: object) -> None:
        """Send an event to every open page."""
        if self._pages:
            item = Item(0, "", kind, orjson.dumps(plain))
            for page in tuple(self._pages):
                page.put(item)

    def close(self) -> None:
        """End all streams; the pages connect again."""
        for page in tuple(self._pages):
            page.end()

    async def push(self) -> None:
        """Send rows of the timeline until cancelled."""
        seen = self._timeline.last
        while True:
            await self._timeline.news.wait()
            self._timeline.news.clear()
            if self._pages and (rows := self._timeline.since(seen)):
                self.tell("rows", rows)
            seen = self._timeline.last
            await asyncio.sleep(GATHERED)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The complete state, then every change; with `?once` the state alone."""
        if len(self._pages) >= PAGES:
            raise ApiError(503, "too_many_pages", f"{PAGES} pages are open; close one, then try again")
        with self._gpu.watched(), self._cards.outbox.feed.follow(None, sse.cutting(request)) as listener:
            self._pages.add(listener)
            try:
                state = self._state(request)
                known = {card["id"] for card in state["jobs"]}
                first = sse.event("state", orjson.dumps(state))
                more = None if "once" in request.query else listener
                return await sse.stream(request, first, more, lambda item: self._told(item, known), headers=SAFE)
            finally:
                self._pages.discard(listener)

    def _state(self, request: web.Request) -> dict[str, Any]:
        boot, _, seq = request.query.get("rows", "").rpartition("-")
        known = boot == self._cards.outbox.feed.boot
        rows = self._timeline.since((known and whole_number(seq, most=10**15)) or 0)
        earlier = self._kept.earlier(boot)
        shown, jobs = [*chain.from_iterable(run["rows"] for run in earlier), *rows], self._cards.outbox.state.jobs
        named = {row["job"] for row in shown} & jobs.keys()
        return {
            "earlier": earlier, "boot": self._cards.outbox.feed.boot, "epoch": self._timeline.header.epoch,
            "gpu": self._gpu.last, "jobs": self._cards.now(), "rows": rows,
            "names": {job: self._cards.input_names(jobs[job]) for job in named},
            **self._plain(),
        }  # fmt: skip

    def _told(self, item: Item, known: set[str]) -> bytes:
        """An event for a page that knows the jobs `known`."""
        if not item.job:
            return sse.event(item.kind, item.data)
        entry = self._cards.outbox.state.jobs.get(item.job)
        if entry is None or (item.kind not in _CARDS and item.job in known):
            return sse.event("event", item.data)
        (known.add if entry.ended is None else known.discard)(item.job)
        return sse.event("card", orjson.dumps(self._cards.told(entry)))
