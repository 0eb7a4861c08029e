"""The web console put together: the page, its sessions, its files, and the one stream that keeps it up to date."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
from aiohttp import hdrs, web

from wakestream.adapters.console import requests, uploads
from wakestream.adapters.console.cards import Cards
from wakestream.adapters.console.gpu import GpuWatch
from wakestream.adapters.console.guard import ApiError
from wakestream.adapters.console.live import Live
from wakestream.adapters.console.page import SAFE, Page
from wakestream.adapters.console.session import Memory, Sessions
from wakestream.adapters.console.timeline import Timeline
from wakestream.adapters.console.uploads import Uploads
from wakestream.adapters.feed import OUTCOMES
from wakestream.adapters.outbox import Outbox
from wakestream.adapters.settings import Settings
from wakestream.streams.outbox import Entry

PLAYED: Final = frozenset({"video/mp4", "video/webm", "video/quicktime", "video/x-matroska"})
"""Kinds of results that a browser may play in its place; all others are only handed out as a download."""

UNUSED_FOR: Final = 24 * 3600.0
"""Seconds after which a file that was given but never used is removed."""

HISTORY_MOST: Final = 100


class Console:
    """What the page can ask for. `folder` is where its files lie."""

    def __init__(
        self, folder: Path, outbox: Outbox, timeline: Timeline, settings: Settings, memory: Memory, quota: int
    ) -> None:
        results = folder / "results"
        results.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sessions = Sessions(memory.key)
        self._page = Page()
        self._outbox, self._timeline = outbox, timeline
        self._uploads = Uploads(folder / "uploads", self._needed, self._results_size, quota)
        self._cards = Cards(outbox, self._uploads, results)
        self._gpu = GpuWatch(settings, lambda known: self._live.tell("gpu", known))
        self._live = Live(self._cards, timeline, self._gpu, self._rest)

    # Who may come in

    def admits(self, request: web.Request) -> bool:
        """The page itself holds no secret; the rest is for sessions. Tickets are looked at where they are used."""
        if request.path in self._page or request.path == "/console/session":
            return True
        if request.method in ("GET", "HEAD") and request.path.startswith("/console/results/"):
            return True
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return scheme == "Bearer" and self.sessions.is_session(token)

    def routes(self) -> list[web.RouteDef]:
        """The page and its calls by their addresses."""
        return [
            *self._page.routes(),
            web.post("/console/session", self.begin),
            web.post("/console/links", self.link),
            web.get("/console/live", self._live.stream),
            web.get("/console/history", self.history),
            web.get("/console/log", self.log),
            web.post("/console/uploads", self.announce),
            web.put("/console/uploads/{id}", self.receive),
            web.delete("/console/uploads/{id}", self.drop),
            web.post("/console/jobs", self.start),
            web.post("/console/jobs/{job}/ticket", self.ticket),
            web.get("/console/results/{job}", self.result),
            web.delete("/console/results/{job}", self.remove),
        ]

    async def begin(self, request: web.Request) -> web.Response:
        """A session for a link's code, or a longer one for a session."""
        body = await requests.json_object(request)
        code = body.get("code")
        token = self.sessions.redeem(code) if isinstance(code, str) else None
        scheme, _, old = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if token is None and scheme == "Bearer" and self.sessions.is_session(old):
            token = self.sessions.new_session()
        if token is None:
            why = "this link was used already, or is too old; `wakestream console` gives another"
            raise ApiError(401, "no_session", why)
        return _json({"session": token})

    async def link(self, _: web.Request) -> web.Response:
        """A code that opens the page once."""
        return _json({"code": self.sessions.new_link()}, 201)

    # Files

    async def announce(self, request: web.Request) -> web.Response:
        """A file is to come: 201 with its place, or why not."""
        try:
            kind, name, size = uploads.checked(await requests.json_object(request))
            upload = self._uploads.announce(kind, name, size, self._referred())
        except uploads.Refused as refused:
            return _refused(refused)
        return _json(upload.plain(), 201)

    async def receive(self, request: web.Request) -> web.Response:
        """The file's bytes."""
        try:
            upload = await self._uploads.receive(request.match_info["id"], request.content.iter_any())
        except uploads.Refused as refused:
            return _refused(refused)
        self._tell_rest()
        return _json(upload.plain(), 200)

    async def drop(self, request: web.Request) -> web.Response:
        """Somebody chose another file instead."""
        try:
            upload = self._uploads.get(request.match_info["id"])
        except uploads.Refused as refused:
            return _refused(refused)
        if str(upload.path) in self._referred():
            raise ApiError(409, "in_use", "a job uses this file")
        self._uploads.remove(upload)
        self._tell_rest()
        return _json({})

    # Jobs

    async def start(self, request: web.Request) -> web.Response:
        """Two files become a job; asked again under the same id, it is the same job."""
        body = await requests.json_object(request)
        try:
            video, audio = self._uploads.get(body.get("video")), self._uploads.get(body.get("audio"))
        except uploads.Refused as refused:
            return _refused(refused)
        job = requests.job_name(body.get("id") or "")
        output = self._cards.results / f"{uploads.file_name(job)}.mp4"
        asked = requests.fields({"id": job, "video": str(video.path), "audio": str(audio.path), "output": str(output)})
        names = orjson.dumps({"video": video.name, "audio": audio.name})
        await asyncio.to_thread(output.with_suffix(".json").write_bytes, names)
        wish = await asyncio.to_thread(requests.looked_at, **asked)
        answer = await self._outbox.submit(
            wish.job, wish.video, wish.audio, wish.output, wish.task_type, wish.priority
        )  # fmt: skip
        if answer.code:
            raise ApiError(answer.status, answer.code, answer.why)
        self._tell_rest()
        return _json({"id": answer.job}, answer.status)

    async def history(self, request: web.Request) -> web.Response:
        """Jobs that ended: `?text=&state=&limit=&skip=`."""
        query = request.query
        limit, skip = _number(query.get("limit", "20"), HISTORY_MOST), _number(query.get("skip", "0"), 10_000)
        found, matching = self._cards.history(query.get("text", "")[:200], query.get("state", ""), limit, skip)
        return _json({"jobs": found, "matching": matching})

    async def ticket(self, request: web.Request) -> web.Response:
        """Opens a job's result for a player or a download."""
        entry = self._done(request)
        job = entry.accepted.job
        return _json({"url": f"/console/results/{quote(job, safe='')}?ticket={self.sessions.ticket(job)}"})

    async def result(self, request: web.Request) -> web.StreamResponse:
        """A result, also in parts; with `&download` as a file under its own name."""
        job = request.match_info["job"]
        if not self.sessions.opens(job, request.query.get("ticket", "")):
            raise ApiError(401, "no_ticket", "this address is no longer good; open the result from the page")
        entry = self._done(request)
        path = Path(entry.ended.path if entry.ended else "")
        kind = mimetypes.guess_type(path.name)[0] or ""
        headers = {**SAFE, hdrs.CONTENT_TYPE: kind if kind in PLAYED else "application/octet-stream"}
        if "download" in request.query or kind not in PLAYED:
            headers[hdrs.CONTENT_DISPOSITION] = disposition(self._cards.names(entry)["output"])
        headers[hdrs.CACHE_CONTROL] = "private, no-store"
        return web.FileResponse(path, headers=headers)

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a result that the page asked for."""
        entry = self._done(request)
        if entry.ended is None or not self._cards.is_ours(entry.ended.path):
            raise ApiError(409, "not_ours", "this result was not asked for here; remove the file where it lies")
        await asyncio.to_thread(uploads.remove_file, Path(entry.ended.path))
        self._live.tell("card", self._cards.card(entry))
        self._tell_rest()
        return _json({})

    async def log(self, _: web.Request) -> web.Response:
        """What the timeline holds, as a log that `wakestream replay` reads."""
        body = await asyncio.to_thread(b"".join, self._timeline.lines())
        return web.Response(body=body, content_type="application/x-ndjson", headers=SAFE)

    def _done(self, request: web.Request) -> Entry:
        job = requests.job_name(request.match_info["job"])
        entry = self._outbox.state.jobs.get(job)
        if entry is None or entry.state != "done" or entry.ended is None:
            raise ApiError(404, "no_result", f"job {job} has no result")
        if not Path(entry.ended.path).is_file():
            raise ApiError(410, "result_gone", "the result was removed or moved away")
        return entry

    # What is left over

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Pages are kept up to date, and files that nobody needs are removed, while the block runs."""
        await asyncio.to_thread(self._tidy)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._gpu.close)
            cleaning = asyncio.create_task(self._clean(), name="console-clean")
            stack.push_async_callback(lambda: asyncio.gather(cleaning, return_exceptions=True))
            stack.callback(cleaning.cancel)
            await stack.enter_async_context(self._live.serving())
            yield

    def close(self) -> None:
        """All pages are told to come back later."""
        self._live.close()

    async def _clean(self) -> None:
        """The inputs of a job that is done are not needed any more; those of others are, for another try."""
        with self._outbox.feed.follow(None, lambda: None) as ends:
            while (item := await ends.next()) is not None:
                entry = self._outbox.state.jobs.get(item.job)
                if item.kind in OUTCOMES and entry is not None and entry.state == "done":
                    await asyncio.to_thread(self._remove_inputs, entry)
                    self._tell_rest()

    def _remove_inputs(self, entry: Entry) -> None:
        needed = set(self._needed())
        for path in (entry.accepted.video, entry.accepted.audio):
            upload = self._uploads.of_path(path)
            if upload is not None and path not in needed:
                self._uploads.remove(upload)

    def _tidy(self) -> None:
        """What earlier runs left: results of forgotten jobs, inputs of done ones, files that were never used."""
        jobs = self._outbox.state.jobs.values()
        outputs = {entry.accepted.output for entry in jobs}
        for each in self._cards.results.iterdir():
            if str(each.with_suffix(".mp4")) not in outputs and each.suffix in (".mp4", ".json"):
                uploads.remove_file(each)
        for entry in jobs:
            if entry.state == "done":
                self._remove_inputs(entry)
        for upload in self._uploads.idle(self._referred()):
            if upload.at < time.time() - UNUSED_FOR:
                self._uploads.remove(upload)

    def _needed(self) -> Collection[str]:
        unfinished = (entry.accepted for entry in self._outbox.state.jobs.values() if entry.ended is None)
        return {path for accepted in unfinished for path in (accepted.video, accepted.audio)}

    def _referred(self) -> Collection[str]:
        jobs = (entry.accepted for entry in self._outbox.state.jobs.values())
        return {path for accepted in jobs for path in (accepted.video, accepted.audio)}

    def _results_size(self) -> int:
        size = 0
        with contextlib.suppress(OSError), os.scandir(self._cards.results) as found:
            size = sum(each.stat().st_size for each in found)
        return size

    def _rest(self) -> dict[str, Any]:
        """The files that wait to be used, and how much room there is."""
        idle = [upload.plain() for upload in self._uploads.idle(self._referred())]
        state = self._outbox.state
        return {
            "uploads": idle, "used": self._uploads.used, "quota": self._uploads.quota,
            "open": len(state.outputs), "ended": len(state.jobs) - len(state.outputs),
        }  # fmt: skip

    def _tell_rest(self) -> None:
        self._live.tell("rest", self._rest())


def disposition(name: str) -> str:
    """`Content-Disposition` for a download under this name: RFC 6266, with RFC 5987 for what is not ASCII."""
    plain = "".join(char if char.isascii() and char not in '"\\%' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _number(text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) > most:
        raise ApiError(400, "bad_request", f"a number is at most {most}")
    return int(text)


def _refused(refused: uploads.Refused) -> web.Response:
    return _json({"code": refused.code, "error": str(refused), **refused.numbers}, refused.status)


def _json(plain: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(plain), content_type="application/json", headers=SAFE)
