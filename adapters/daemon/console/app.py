"""The web console: the page, its sessions, its calls and its event stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from loguru import logger

from wakestream.adapters.client.hub_query import ask
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon import event_feed as sse
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import preferences
from wakestream.adapters.daemon.console.costs import Costs
from wakestream.adapters.daemon.console.gpu_status import GpuWatch
from wakestream.adapters.daemon.console.job_view import JobView
from wakestream.adapters.daemon.console.records import Records
from wakestream.adapters.daemon.console.results import plain_answer
from wakestream.adapters.daemon.console.routes import JobCalls
from wakestream.adapters.daemon.console.sessions import Sessions
from wakestream.adapters.daemon.console.static_files import Page
from wakestream.adapters.daemon.console.storage import Interrupted, Storage, deliver, mark_of, missing
from wakestream.adapters.daemon.console.timeline import TIMELINE_FILE, Timeline, TimelineFile
from wakestream.adapters.daemon.console.upload_validation import Media
from wakestream.adapters.daemon.console.uploads import Look, unlooked
from wakestream.adapters.daemon.event_feed import Item, Listener
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.engines.probe import probed
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.static_files import SAFE
from wakestream.adapters.runtime.tasks import finish_despite_cancel, supervised
from wakestream.operators.model.errors import HubError
from wakestream.streams.outbox.state import Entry
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.event_json import OUTCOME_KINDS

# One stream of server-sent events for the page: the complete state, then the changes.
#
# Each connection starts with the complete state, so a page that was disconnected misses nothing, and all pages show the
# same. Browsers open at most six connections to one server: when more pages are open than may have a stream, the others
# poll the state (`?once`).

PAGES: Final = 50
"""Pages that may be open at once."""

GATHERED: Final = 0.2
"""Seconds for which rows of the timeline are collected before they are sent."""

REST_EVERY: Final = 1.0
"""The least seconds between two messages about the rest of the state, which has the size of all results."""

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
        feed = self._cards.outbox.feed
        with self._gpu.watched(), feed.follow(None, sse.cutting(request), whose=None) as listener:
            self._pages.add(listener)
            try:
                state = self._state(request)
                known = {card["id"] for card in state["jobs"]}
                first = sse.event("state", orjson.dumps(state))
                more = None if "once" in request.query else listener
                return await sse.stream(request, first, more, lambda item: self._page_event(item, known), headers=SAFE)
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

    def _page_event(self, item: Item, known: set[str]) -> bytes:
        """An event for a page that knows the jobs `known`."""
        if not item.job:
            return sse.event(item.kind, item.data)
        entry = self._cards.outbox.state.jobs.get(item.job)
        if entry is None or (item.kind not in _CARDS and item.job in known):
            return sse.event("event", item.data)
        (known.add if entry.ended is None else known.discard)(item.job)
        return sse.event("card", orjson.dumps(self._cards.card_event(entry)))


COSTS_WITHIN: Final = 4.0
"""Seconds that the hub has to connect and tell the costs."""

ORDER_TRIES: Final = 30
ORDER_PAUSE: Final = 0.5
"""How often, and after how many seconds, an order is given again while cancelled jobs still hold the GPU."""

LOOKS: Final = 2
"""Files that are probed at a time."""


class Console:
    """The calls of the page. `folder` contains its files, which may take `quota` bytes.

    `kinds` knows what the GPUs can do, `at_once_most` is the limit of running jobs in the daemon's flags. `chinese`
    translates a sentence if it can.
    """

    def __init__(
        self,
        folder: Path,
        outbox: Outbox,
        timeline: Timeline,
        link: Link,
        quota: int,
        kinds: DaemonKinds,
        at_once_most: int,
        chinese: Callable[[str], str | None],
        *,
        probe: bool,
    ) -> None:
        self._at_once_most, self._link = at_once_most, link
        self.sessions = Sessions()
        self.holdings = Storage(folder, outbox, quota, _look() if probe else unlooked)
        self.holdings.on_done = self._deliver
        self._state = folder.parent
        self._stopping, self._changed = threading.Event(), asyncio.Event()
        self.preferences = preferences.load(self._state)
        self._page = Page()
        self._outbox, self._timeline = outbox, timeline
        outbox.on_lease_change = lambda: self.gpu.ask_soon()  # the GPU panel and the job's card show the same
        self._kept = TimelineFile(folder.parent / TIMELINE_FILE, outbox.feed.boot, timeline)
        cards = self.cards = JobView(outbox, self.holdings.uploads, self.holdings.results, kinds.shown)
        cards.name_by(self.preferences.name_pattern, self.preferences.output_folder)
        self.gpu = GpuWatch(link, self._gpu_changed)
        self._hub = ""
        self._live = Live(cards, timeline, self._kept, self.gpu, self._all)
        self.kinds = kinds
        kinds.on_change = lambda: self._live.tell("kinds", {})
        query = m.HubStatusQuery(request_id="", costs=True)
        self.costs = Costs(lambda: ask(link, query, m.HubStatus, COSTS_WITHIN), cards, folder)
        self.records = Records(outbox.state, self.costs, kinds.shown)
        outbox.on_released = self._released
        outbox.on_moved = self._moved
        self.calls = JobCalls(
            outbox,
            self.holdings,
            cards,
            self.sessions,
            self._live.tell,
            self._changed.set,
            kinds,
            self.records.of,
            chinese,
        )

    @property
    def waiting_params(self) -> list[dict[str, Any]]:
        """The parameters of the jobs that wait for their files."""
        return [job.started.params for job in self.calls.waiting.jobs.values()]

    def is_open(self, request: web.Request) -> bool:
        """Whether a call needs no session: the page has no secrets, and other calls check links and tickets."""
        if request.path in self._page or request.path == "/console/session":
            return True
        return request.method in ("GET", "HEAD") and request.path.startswith("/console/results/")

    def admits(self, request: web.Request) -> bool:
        """Whether a session allows this call. It does for the page's own calls only: the API accepts paths of files."""
        return request.path.startswith("/console/") and self.sessions.is_session(_bearer(request))

    def routes(self) -> list[web.RouteDef]:
        """The routes of the page and its calls."""
        return [
            *self._page.routes(),
            web.post("/console/session", self.begin),
            web.post("/console/links", self.link),
            web.get("/console/live", self._live.stream),
            web.get("/console/log", self.log),
            web.put("/console/settings", self.set_preferences),
            web.get("/console/costs", self.show_costs),
            *(web.post(f"/{at}/estimate", self.costs.estimate) for at in ("api", "console")),
            web.post("/console/gpus", self.order_gpu),
            *self.calls.routes(),
        ]

    async def begin(self, request: web.Request) -> web.Response:
        """Exchange a link's code, or an older session, for a session."""
        code = (await requests.json_object(request)).get("code")
        token = self.sessions.redeem(code) if isinstance(code, str) else None
        if token is None and self.sessions.is_session(_bearer(request)):
            token = self.sessions.new_session()
        if token is None:
            raise ApiError(
                401, "no_session", "this link was used before or has expired; run `wakestream console` for a new one"
            )
        return plain_answer({"session": token})

    async def link(self, _: web.Request) -> web.Response:
        """A new code, which opens the page once."""
        return plain_answer({"code": self.sessions.new_link()}, status=201)

    async def log(self, _: web.Request) -> web.Response:
        """The timeline as a log for `wakestream replay`."""
        body = await asyncio.to_thread(b"".join, self._timeline.lines())
        return web.Response(body=body, content_type="application/x-ndjson", headers=SAFE)

    async def set_preferences(self, request: web.Request) -> web.Response:
        """Change the settings that the daemon keeps; all pages show the change."""
        wanted = await requests.json_object(request)
        self.preferences = await asyncio.to_thread(preferences.save, self._state, wanted)
        self.cards.name_by(self.preferences.name_pattern, self.preferences.output_folder)
        self._changed.set()
        return plain_answer(self._settings())

    def _settings(self) -> dict[str, Any]:
        return {**self.preferences.plain(), "at_once_most": self._at_once_most}

    async def _deliver(self, entry: Entry) -> None:
        """Copy the results of the page's own job into the user's folder, if there is one."""
        if not self.cards.is_ours(entry.accepted.output):
            return
        made, here = results_of(entry), [output for output in self.cards.outputs(entry) if output["here"]]
        results = {output["name"]: (made[output["name"]][0], output["file"]) for output in here}
        folder = "" if entry.accepted.caller is not None else self.preferences.output_folder  # its program gets them
        mark = mark_of(Path(entry.accepted.output))
        try:
            with suppress(Interrupted):
                await finish_despite_cancel(asyncio.to_thread(deliver, mark, results, folder, self._stopping.is_set))
            self.holdings.note(entry)
        except OSError as error:
            left = await asyncio.to_thread(missing, mark, results)
            names = ", ".join(name for _, name in left.values())
            logger.warning("{} was not copied to {}: {}; the next start tries again", names, folder, error)
            self._live.tell("undelivered", {"name": names, "folder": folder})

    async def show_costs(self, _: web.Request) -> web.Response:
        """What the hub says of costs, and what jobs of this daemon cost and usually take."""
        return plain_answer(await self.costs.present())

    async def order_gpu(self, request: web.Request) -> web.Response:
        """Pass an order for a GPU on to the hub: `gpu`, and `action` (`stop` or `keep`).

        `cancelled`: the page has just cancelled the jobs that need it, of which the hub may still have to hear.
        """
        said = await requests.json_object(request)
        order = requests.hub_query({"type": m.GpuAdmin.TYPE, **said})
        for left in range(ORDER_TRIES if said.get("cancelled") is True else 1, 0, -1):
            try:
                done = await ask(self._link, order, m.GpuAdminDone, COSTS_WITHIN)
            except HubError as error:
                if error.code != "gpu_in_use" or left == 1:
                    raise ApiError(409, error.code, str(error)) from None
                await asyncio.sleep(ORDER_PAUSE)
            else:
                break
        self.gpu.ask_soon()
        return plain_answer({"until": done.until})

    def _released(self, job: str) -> None:
        self.costs.outdate()
        self.records.due(job, booked=True)
        self._live.tell("costs", {})

    def _moved(self, job: str) -> None:
        """Tell the pages the order, and before it the job: a page may not know it yet."""
        if (entry := self._outbox.state.jobs.get(job)) is not None:
            self._live.tell("card", self.cards.card_event(entry))
        self._live.tell("order", self.cards.next())

    def _gpu_changed(self, known: dict[str, Any]) -> None:
        if known["hub"] != self._hub:
            self._hub = known["hub"]
            self.costs.outdate()
        self._live.tell("gpu", known)
        self.kinds.gpus_are({gpu["gpu"]: gpu["phase"] for gpu in known.get("gpus", ())})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Update pages and remove unused files while the block runs."""
        await self.holdings.tidy()
        await self.holdings.expect_copies()
        await self.holdings.catch_up()
        await self._kept.load()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.costs.close)
            stack.push_async_callback(self.calls.waiting.clear)
            stack.push_async_callback(self.calls.copies.close)
            stack.push_async_callback(self._kept.write)
            tasks = await stack.enter_async_context(supervised("the console"))
            tasks.keeps("the copy of results", self.holdings.react)
            tasks.keeps("the removal of unused files", lambda: self.holdings.clean(self._changed.set))
            tasks.keeps("the timeline's file", self._kept.keep)
            tasks.keeps("the question for the GPUs", self.gpu.run)
            tasks.keeps("the timeline", self._live.push)
            tasks.keeps("the rest of the state", self._push_rest)
            tasks.keeps("the records of results", self.records.run)
            stack.callback(self._stopping.set)
            stack.callback(self._live.close)
            yield

    def _all(self) -> dict[str, Any]:
        return {**self._rest(), "waiting": self.calls.waiting.all_plain()}

    def _rest(self) -> dict[str, Any]:
        state = self._outbox.state
        counts = {"open": len(state.queue), "ended": len(state.jobs) - len(state.queue)}
        return {**self.holdings.plain(), **counts, "settings": self._settings()}

    async def _push_rest(self) -> None:
        """Tell the rest of the state after changes: of thousands of jobs, several change it in each second."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._live.tell("rest", self._rest())
            await asyncio.sleep(REST_EVERY)


def _look() -> Look:
    """Probes `LOOKS` files at a time: each probe is a process."""
    turns = asyncio.Semaphore(LOOKS)

    async def look(path: Path, kind: Media) -> float | None:
        async with turns:
            return await probed(path, kind)

    return look


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token if scheme == "Bearer" else ""
