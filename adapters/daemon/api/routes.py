"""The daemon's local API: JSON, and events as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from msgspec.structs import replace

from wakestream.adapters.client.hub_query import ANSWERS, Query
from wakestream.adapters.daemon import event_feed as sse
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, json_answer
from wakestream.adapters.daemon.event_feed import Item, Listener
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.disk.result_names import is_numbered
from wakestream.operators.model.errors import HubError
from wakestream.streams.outbox import chains, outbox
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import Entry, plain_outcome
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.event_json import OUTCOME_KINDS, plain_text

NUMBERS: Final = 8
"""How often another name is chosen for a result whose name was taken in the meantime."""

FOLLOWERS: Final = 100
"""Event streams that may be open at once."""

MISSED: Final = Item(0, "", "missed", b'{"event":"missed"}')
"""Some events are no longer stored: the client must fetch the list of jobs again."""


@dataclass(frozen=True, slots=True)
class Api:
    """A method for each call. `health` gives more fields for the health call, `names` the names of a job's files,
    `kinds` knows what the GPUs can do, `costs` what the jobs cost, `record` how a result was made, and `ask` asks the
    hub."""

    outbox: Outbox
    health: Callable[[], Mapping[str, Any]]
    names: Callable[[Entry], Mapping[str, str]]
    kinds: DaemonKinds
    costs: Callable[[], Awaitable[dict[str, Any]]]
    record: Callable[[Entry], Mapping[str, Any]]
    ask: Callable[[Query, type[Any]], Awaitable[m.Message]]

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/api/health", self.get_health),
            web.get("/api/jobs", self.list_jobs),
            web.post("/api/jobs", self.submit),
            web.get("/api/jobs/{job}", self.get_job),
            *(web.post(f"/{at}/jobs/{{job}}/cancel", self.cancel) for at in ("api", "console")),
            *(web.post(f"/{at}/jobs/{{job}}/retry", self.retry) for at in ("api", "console")),
            *(web.post(f"/{at}/jobs/{{job}}/move", self.move) for at in ("api", "console")),
            web.post("/api/jobs/{job}/rerun", self.rerun),
            web.post("/api/retry", self.retry_all),
            web.get("/api/jobs/{job}/events", self.job_events),
            web.get("/api/events", self.all_events),
            web.get("/api/kinds", self.get_kinds),
            web.get("/api/costs", self.get_costs),
            web.post("/api/hub", self.ask_hub),
        ]

    async def get_health(self, _: web.Request) -> web.Response:
        """The program, and the number of jobs."""
        state = self.outbox.state
        return json_answer({"program": "daemon", "open": len(state.queue), "jobs": len(state.jobs), **self.health()})

    async def get_kinds(self, _: web.Request) -> web.Response:
        """What the GPUs can do."""
        return json_answer((await self.kinds.present()).plain())

    async def get_costs(self, _: web.Request) -> web.Response:
        """What the last jobs cost, as the hub tells it."""
        return json_answer(await self.costs())

    async def ask_hub(self, request: web.Request) -> web.Response:
        """Ask the hub with the daemon's key, which commands of this user do not see. The frame of the answer."""
        query = requests.hub_query(await requests.json_object(request))
        try:
            return json_answer(wire.to_frame(await self.ask(query, ANSWERS[type(query)])))
        except HubError as error:
            raise ApiError(502, error.code, str(error)) from None

    async def list_jobs(self, request: web.Request) -> web.Response:
        """Jobs, newest first; `?state=`, `?limit=` and `?skip=` select."""
        wanted, limit, skip = requests.listed(request.query)
        entries = [entry for entry in self.outbox.state.jobs.values() if entry.state in wanted]
        places = {job: place for place, job in enumerate(self.outbox.state.in_turn(), 1)}
        jobs = [
            {**self._plain(entry), "place": places.get(entry.accepted.job)}
            for entry in entries[::-1][skip : skip + limit]
        ]
        return json_answer({"jobs": jobs, "matching": len(entries)})

    async def submit(self, request: web.Request) -> web.Response:
        """Submit a job: 201 when it is in the journal; 200 when the same was submitted before with this id."""
        asked = await _submitted_job(self.outbox, await requests.json_object(request))
        known = self.outbox.state.jobs.get(asked.job.id)
        if known is not None and _same(known, asked, self.kinds):  # its files may be gone by now
            return self._answer(accepted(await self.outbox.confirmed(known.accepted)))
        return self._answer(
            await submitted(self.outbox, await requests.fitting(self.kinds, asked, self.outbox.state.jobs))
        )

    async def get_job(self, request: web.Request) -> web.Response:
        """One job."""
        entry = self._known(request)
        record = {"record": self.record(entry)} if entry.state == "done" else {}
        return json_answer({**self._plain(entry), **record})

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job: 202, its end follows."""
        return self._answer(accepted(await self.outbox.cancel(self._named(request.match_info["job"]))))

    async def move(self, request: web.Request) -> web.Response:
        """Move a job that waits before the job `before` or behind `after`; null is the end, `first` the top."""
        job, where = self._named(request.match_info["job"]), requests.moved(await requests.json_object(request))
        where |= {name: self._named(where[name]) for name in ("before", "after") if name in where}
        return self._answer(accepted(await self.outbox.move(job, **where)))

    async def retry(self, request: web.Request) -> web.Response:
        """End the pause of a job, or submit one that ended without a result again, with a new id."""
        entry = self._known(request)
        a = entry.accepted
        body = await requests.json_object(request)
        if entry.state == "open" and self.outbox.retry_now(a.job):
            return self._job(a.job, 202)
        if entry.state in (*requests.UNFINISHED, "done"):
            why = f"job {a.job} is {entry.state}; you can retry a job that pauses, or one that ended without a result"
            raise ApiError(409, "not_failed", why)
        return self._answer(await self._again(entry, body.get("id")))

    async def rerun(self, request: web.Request) -> web.Response:
        """Submit the work of a job as a new job, with other `params` and `outputs` where they are given."""
        body = await requests.json_object(request)
        return self._answer(await another(self.outbox, self.kinds, self._known(request), body))

    async def _again(self, entry: Entry, name: Any = None) -> f.Answer:
        """Submit a job again, and before it the jobs that it follows and that ended without a result."""
        a, jobs = entry.accepted, self.outbox.state.jobs
        given = {**requests.given_again(a, jobs), "id": name}
        checked = await self._fitting(given)  # before another job is submitted for it
        await asyncio.to_thread(requests.looked_at, checked, a.job)
        for before in a.after:
            last = chains.latest(self.outbox.state, "after", before) if before in jobs else None
            if last and last.ended is not None and last.ended.outcome != "done":
                await self._again(last)
        return await submitted(self.outbox, await self._fitting(given), a.job)

    async def _fitting(self, given: Mapping[str, Any]) -> requests.SubmittedJob:
        return await requests.fitting(self.kinds, await _submitted_job(self.outbox, given), self.outbox.state.jobs)

    async def retry_all(self, _: web.Request) -> web.Response:
        """End the pause of all jobs: 202 with their ids."""
        open_ = [job for job, entry in self.outbox.state.jobs.items() if entry.state == "open"]
        return json_answer({"jobs": [job for job in open_ if self.outbox.retry_now(job)]}, status=202)

    # Events

    async def job_events(self, request: web.Request) -> web.StreamResponse:
        """The events of a job, from its start or after `Last-Event-ID`; ends with its outcome."""
        entry = self._known(request)
        job, feed = entry.accepted.job, self.outbox.feed
        # Subscribe before the first await, so that no event is lost between the stored ones and the new ones.
        with self._following(request, job) as listener:
            items = feed.of_job(job, feed.after(request.headers.get("Last-Event-ID", "")) or 0)
            if entry.ended is not None and not any(map(_is_end, items)):
                # The outcome of a job whose events are no longer stored.
                outcome = plain_outcome(entry.ended)
                data = orjson.dumps({"job": job, "at": entry.ended.at, **outcome})
                items.append(Item(0, job, str(outcome["event"]), data))
            return await self._stream(request, items, None if items and _is_end(items[-1]) else listener, _is_end)

    async def all_events(self, request: web.Request) -> web.StreamResponse:
        """New events of all jobs, or those after `Last-Event-ID`; `missed` when some are no longer stored."""
        feed, last_id = self.outbox.feed, request.headers.get("Last-Event-ID")
        with self._following(request, None) as listener:
            after = feed.after(last_id or "")
            items = [] if last_id is None else [MISSED] if after is None else feed.recent(after)
            return await self._stream(request, [MISSED] if items is None else items, listener, lambda _: False)

    def _following(self, request: web.Request, job: str | None) -> AbstractContextManager[Listener]:
        feed = self.outbox.feed
        if feed.followers() >= FOLLOWERS:
            raise ApiError(503, "too_many_followers", f"{FOLLOWERS} event streams are open; close one, then try again")
        return feed.follow(job, sse.cutting(request))

    async def _stream(
        self, request: web.Request, items: Sequence[Item], listener: Listener | None, last: Callable[[Item], bool]
    ) -> web.StreamResponse:
        text = partial(sse.numbered, self.outbox.feed.boot)
        return await sse.stream(request, b"retry: 1000\n\n" + b"".join(map(text, items)), listener, text, last=last)

    # Answers

    def _named(self, given: Any) -> str:
        """The id of the job that a request names; the name itself if there is no such job."""
        ids = self.outbox.state.named(job := requests.job_name(given))
        if len(ids) > 1:
            raise ApiError(409, "ambiguous_job", chains.ambiguous(job, ids))
        return ids[0] if ids else job

    def _known(self, request: web.Request) -> Entry:
        job = self._named(request.match_info["job"])
        entry = self.outbox.state.jobs.get(job)
        if entry is None:
            raise ApiError(404, "unknown_job", outbox.unknown(job))
        return entry

    def _answer(self, answer: f.Answer) -> web.Response:
        return self._job(answer.job, answer.status)

    def _job(self, job: str, status: int = 200) -> web.Response:
        return json_answer(self._plain(self.outbox.state.jobs[job]), status=status)

    def _plain(self, entry: Entry) -> dict[str, Any]:
        a, ended = entry.accepted, entry.ended
        lengths = {name: file.seconds or None for name, file in a.inputs.items()}
        return {
            "id": a.job, "state": entry.state, "stage": (entry.stage and entry.stage.stage) or "submit",
            **_files(a, self.kinds.shown(a.kind, a.params)),
            "names": {name: plain_text(text) for name, text in self.names(entry).items()},
            "task_type": a.task_type, "priority": entry.priority, "accepted_at": a.at, "retry_of": a.retry_of or None,
            **({"after": [*a.after]} if a.after else {}), **({"batch": a.batch} if a.batch else {}),
            **({"family": a.family} if a.family else {}),
            "video_s": lengths.get("video"), "audio_s": lengths.get("audio"),
            "ended_at": ended.at if ended else None,
            "outcome": plain_outcome(ended) if ended else None,
            "last": self.outbox.feed.last(a.job),
            **({"first": first} if (first := self.outbox.feed.first(a.job)) else {}),
        }  # fmt: skip


async def _submitted_job(outbox: Outbox, body: Mapping[str, Any]) -> requests.SubmittedJob:
    return await asyncio.to_thread(requests.submitted_job, body, partial(chains.source, outbox.state))


async def another(outbox: Outbox, kinds: DaemonKinds, entry: Entry, body: Mapping[str, Any]) -> f.Answer:
    """Submit the work of a job as a new job, whose result is made for it. `ApiError` when it is refused.

    The `params` and `outputs` of `body` replace those of the job; `id` and `if_exists` are those of a submission.
    """
    given = await _submitted_job(outbox, requests.another(entry, body, outbox.state.jobs))
    return await submitted(outbox, await requests.fitting(kinds, given, outbox.state.jobs))


async def submitted(outbox: Outbox, asked: requests.SubmittedJob, retry_of: str = "") -> f.Answer:
    """Submit a job with these fields (see `requests.submitted_job`). `ApiError` when it is refused."""
    for _ in range(NUMBERS):
        known = outbox.state.jobs.get(asked.job.id)
        taken = outbox.state.outputs if known is None else None
        submitting = await asyncio.to_thread(requests.looked_at, asked, retry_of, taken)
        if known is not None and asked.if_exists == "number":
            outputs = _numbered_before(known, submitting.asked.outputs)
            submitting = replace(submitting, asked=replace(submitting.asked, outputs=outputs))
        answer = await outbox.submit(submitting)
        if asked.if_exists != "number" or answer.code not in ("output_taken", "conflict"):
            break  # otherwise another job took the name in the meantime
    return accepted(answer)


def accepted(answer: f.Answer) -> f.Answer:
    """The answer of the outbox; `ApiError` when it is a refusal."""
    if answer.code:
        raise ApiError(answer.status, answer.code, answer.reason)
    return answer


def _same(known: Entry, asked: requests.SubmittedJob, kinds: DaemonKinds) -> bool:
    """Whether a job with this id was submitted with the same files."""
    a, job = known.accepted, asked.job
    again = f.JobAccepted.of(job, {})
    outputs = _numbered_before(known, again.outputs) if asked.if_exists == "number" else again.outputs
    mine = {name: file.path for name, file in a.inputs.items()}, a.outputs, a.kind, a.params, a.task_type
    theirs = {name: str(path) for name, path in job.inputs.items()}, outputs, job.kind
    return mine == (*theirs, kinds.marked(job.kind, job.params), again.task_type)


def _numbered_before(known: Entry, outputs: Mapping[str, str]) -> dict[str, str]:
    """These paths of results, with the numbers that they got when the job was accepted."""
    made = known.accepted.outputs
    return {
        name: made[name] if name in made and is_numbered(Path(made[name]), Path(path)) else path
        for name, path in outputs.items()
    }


def _files(a: f.JobAccepted, params: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {name: plain_text(file.path) for name, file in a.inputs.items()}
    if a.old_shape:
        return {**inputs, "output": plain_text(a.output)}
    outputs = {name: plain_text(path) for name, path in a.outputs.items()}
    return {
        "kind": a.kind, "inputs": inputs, "params": params, "outputs": outputs,
        "output": plain_text(a.output),
    }  # fmt: skip


def _is_end(item: Item) -> bool:
    return item.kind in OUTCOME_KINDS
