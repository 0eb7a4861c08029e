"""The daemon's local API: one list of routes. JSON in and out, events as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.api.sse import MISSED, stream
from wakestream.adapters.daemon.event_feed import Item, Listener
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import Entry, plain_outcome
from wakestream.streams.recording.event_json import OUTCOME_KINDS, plain_text

FOLLOWERS: Final = 100
"""Event streams that may be open at once."""


@dataclass(frozen=True, slots=True)
class Api:
    """One method for each call. `health` is what the program says of itself, `names` what users call a job's files."""

    outbox: Outbox
    health: Callable[[], Mapping[str, Any]]
    names: Callable[[Entry], Mapping[str, str]]

    def routes(self) -> list[web.RouteDef]:
        """The calls by their addresses."""
        return [
            web.get("/api/health", self.get_health),
            web.get("/api/jobs", self.list_jobs),
            web.post("/api/jobs", self.submit),
            web.get("/api/jobs/{job}", self.get_job),
            *(web.post(f"/{at}/jobs/{{job}}/cancel", self.cancel) for at in ("api", "console")),
            *(web.post(f"/{at}/jobs/{{job}}/retry", self.retry) for at in ("api", "console")),
            web.post("/api/retry", self.retry_all),
            web.get("/api/jobs/{job}/events", self.job_events),
            web.get("/api/events", self.all_events),
        ]

    async def get_health(self, _: web.Request) -> web.Response:
        """The program, and how many jobs there are."""
        state = self.outbox.state
        return _json({"program": "daemon", "open": len(state.outputs), "jobs": len(state.jobs), **self.health()})

    async def list_jobs(self, request: web.Request) -> web.Response:
        """The newest jobs first; `?state=` and `?limit=` choose."""
        wanted, limit = requests.listed(request.query)
        found = [entry for entry in self.outbox.state.jobs.values() if wanted(entry.state)]
        return _json({"jobs": [self._plain(entry) for entry in found[: -limit - 1 : -1]], "matching": len(found)})

    async def submit(self, request: web.Request) -> web.Response:
        """Hand a job in: 201 once it is kept; 200 when the same was handed in before under this id."""
        asked = await asyncio.to_thread(requests.fields, await requests.json_object(request))
        known = self.outbox.state.jobs.get(asked["job"])
        if known is not None and _same(known, asked):
            return self._job(known.accepted.job)  # its files may be gone by now
        wish = await asyncio.to_thread(requests.looked_at, **asked)
        return self._answer(
            await self.outbox.submit(wish.job, wish.video, wish.audio, wish.output, wish.task_type, wish.priority)
        )

    async def get_job(self, request: web.Request) -> web.Response:
        """One job."""
        return self._job(self._known(request).accepted.job)

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop a job everywhere: 202, its end follows."""
        return self._answer(await self.outbox.cancel(requests.job_name(request.match_info["job"])))

    async def retry(self, request: web.Request) -> web.Response:
        """Try at once a job that pauses; hand in again one that ended without a result, under a new id: ends are for
        ever."""
        entry = self._known(request)
        body = await requests.json_object(request)
        if entry.state == "open" and self.outbox.retry_now(entry.accepted.job):
            return self._job(entry.accepted.job, 202)
        if entry.state in ("open", "cancelling", "done"):
            why = (
                f"job {entry.accepted.job} is {entry.state}; only one that pauses, or ended without a result, can be "
                "tried again"
            )
            raise ApiError(409, "not_failed", why)
        a = entry.accepted
        given: dict[str, Any] = {"video": a.video, "audio": a.audio, "output": a.output, "task_type": a.task_type}
        given |= {"priority": a.priority, "video_s": a.video_s, "audio_s": a.audio_s}
        again = await asyncio.to_thread(requests.fields, {**given, **({"id": body["id"]} if "id" in body else {})})
        wish = await asyncio.to_thread(requests.looked_at, **again)
        return self._answer(
            await self.outbox.submit(
                wish.job, wish.video, wish.audio, wish.output, wish.task_type, wish.priority, a.job
            )
        )

    async def retry_all(self, _: web.Request) -> web.Response:
        """Try at once all jobs that pause: 202 with their ids."""
        open_ = [job for job, entry in self.outbox.state.jobs.items() if entry.state == "open"]
        return _json({"jobs": [job for job in open_ if self.outbox.retry_now(job)]}, 202)

    # Events

    async def job_events(self, request: web.Request) -> web.StreamResponse:
        """What happens to one job, from its beginning or after `Last-Event-ID`; ends with its outcome."""
        entry = self._known(request)
        job, feed = entry.accepted.job, self.outbox.feed
        # Followed before anything is awaited: nothing falls between what is kept and what is to come.
        with self._following(request, job) as listener:
            items = feed.of_job(job, feed.after(request.headers.get("Last-Event-ID", "")) or 0)
            if entry.ended is not None and not any(map(_is_end, items)):
                items.append(_end_of(entry.ended))
            return await stream(request, feed.boot, items, listener, _is_end)

    async def all_events(self, request: web.Request) -> web.StreamResponse:
        """What happens to all jobs from now on, or after `Last-Event-ID`; `missed` when that is too long ago."""
        feed, last_id = self.outbox.feed, request.headers.get("Last-Event-ID")
        with self._following(request, None) as listener:
            after = feed.after(last_id or "")
            items = [] if last_id is None else [MISSED] if after is None else feed.recent(after)
            return await stream(request, feed.boot, [MISSED] if items is None else items, listener, lambda _: False)

    def _following(self, request: web.Request, job: str | None) -> AbstractContextManager[Listener]:
        feed = self.outbox.feed
        if feed.followers >= FOLLOWERS:
            raise ApiError(503, "too_many_followers", f"{FOLLOWERS} event streams are open; close one, then try again")

        def cut() -> None:
            if request.transport is not None:
                request.transport.abort()

        return feed.follow(job, cut)

    # Answers

    def _known(self, request: web.Request) -> Entry:
        job = requests.job_name(request.match_info["job"])
        entry = self.outbox.state.jobs.get(job)
        if entry is None:
            raise ApiError(404, "unknown_job", outbox.unknown(job))
        return entry

    def _answer(self, answer: f.Answer) -> web.Response:
        if answer.code:
            raise ApiError(answer.status, answer.code, answer.reason)
        return self._job(answer.job, answer.status)

    def _job(self, job: str, status: int = 200) -> web.Response:
        return _json(self._plain(self.outbox.state.jobs[job]), status)

    def _plain(self, entry: Entry) -> dict[str, Any]:
        a, ended = entry.accepted, entry.ended
        return {
            "id": a.job, "state": entry.state, "stage": (entry.stage and entry.stage.stage) or "submit",
            **{name: plain_text(getattr(a, name)) for name in ("video", "audio", "output")},
            "names": {name: plain_text(text) for name, text in self.names(entry).items()},
            "task_type": a.task_type, "priority": a.priority, "accepted_at": a.at, "retry_of": a.retry_of or None,
            "video_s": a.video_s or None, "audio_s": a.audio_s or None,
            "ended_at": ended.at if ended else None,
            "outcome": plain_outcome(ended) if ended else None,
            "last": self.outbox.feed.last(a.job),
        }  # fmt: skip


def _same(known: Entry, asked: Mapping[str, Any]) -> bool:
    """Whether this id was handed in before, for the same wish."""
    a = known.accepted
    names = ("video", "audio", "output", "task_type")
    return all(getattr(a, name) == str(asked[name]) for name in names)


def _is_end(item: Item) -> bool:
    return item.kind in OUTCOME_KINDS


def _end_of(ended: f.JobEnded) -> Item:
    """The outcome of a job whose events are kept no longer."""
    outcome = plain_outcome(ended)
    return Item(0, ended.job, str(outcome["event"]), orjson.dumps({"job": ended.job, "at": ended.at, **outcome}))


def _json(plain: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(plain), content_type="application/json")
