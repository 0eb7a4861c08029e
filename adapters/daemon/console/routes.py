"""The page's calls for files and jobs: upload a file, start a job, list ended jobs, play and remove results."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, bad_request, plain_error
from wakestream.adapters.daemon.api.routes import accepted, another, submitted
from wakestream.adapters.daemon.console import upload_validation as upload_rules
from wakestream.adapters.daemon.console import uploads
from wakestream.adapters.daemon.console.copies import Copies
from wakestream.adapters.daemon.console.job_view import NOW_LASTS, JobView
from wakestream.adapters.daemon.console.results import Results, gone, plain_answer
from wakestream.adapters.daemon.console.rows import read_rows
from wakestream.adapters.daemon.console.sessions import Sessions
from wakestream.adapters.daemon.console.storage import Storage, mark_of
from wakestream.adapters.daemon.console.uploads import UploadedFile
from wakestream.adapters.daemon.console.waiting import Started, Waiting, WaitingJobs
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.daemon.rows import value_of
from wakestream.adapters.engines.probe import MediaUnusable
from wakestream.adapters.runtime.desktop import show_in_folder
from wakestream.operators.model.engine import Kind, list_of
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import Entry
from wakestream.streams.protocol.kinds import MEDIA, RANDOM, media_of

BATCHES_MOST: Final = 20
HISTORY_MOST: Final = 1000
ACT_MOST: Final = 1000
FAMILY_MOST: Final = 50


class Start(Started, kw_only=True):
    """A call that starts a job, with its uploads by input."""

    inputs: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    video: Any = None
    audio: Any = None


@dataclass(slots=True)
class JobCalls:
    """A method for each call. `tell(kind, plain)` sends an event to all pages, `changed` reports changes of files.

    `kinds` knows what the GPUs can do, `record` how a result was made. `chinese` translates a sentence if it can.
    """

    outbox: Outbox
    holdings: Storage
    cards: JobView
    sessions: Sessions
    tell: Callable[[str, object], None]
    changed: Callable[[], None]
    kinds: DaemonKinds
    record: Callable[[Entry], Mapping[str, Any]]
    chinese: Callable[[str], str | None]
    waiting: WaitingJobs = field(init=False)
    copies: Copies = field(init=False)
    results: Results = field(init=False)

    def __post_init__(self) -> None:
        folder = self.holdings.results.with_name("waiting")
        self.waiting = WaitingJobs(folder, self.holdings.uploads, self._begin, self.tell, self.kinds.shown)
        self.waiting.load(self._submitted_job, self.outbox.state.jobs)
        self.holdings.waiting = self.waiting.paths
        self.results = Results(self.cards, self.sessions, partial(self.holdings.note, fetched=True))
        self.copies = Copies(self.holdings, self._arrived, self.waiting.lost, self.tell, self.changed)

    async def go_on(self) -> None:
        """Go on with the jobs that waited for their files when an earlier run ended; the outbox takes jobs now."""
        await self.waiting.go_on(self.copies.start)
        self.changed()

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.post("/console/uploads", self.announce),
            web.put("/console/uploads/{id}", self.receive),
            web.delete("/console/uploads/{id}", self.drop),
            web.get("/console/form", self.form),
            web.post("/console/rows", partial(read_rows, self.kinds, self.chinese)),
            web.post("/console/jobs", self.start),
            web.get("/console/jobs/{job}", self.details),
            web.post("/console/jobs/{job}/folder", self.show_folder),
            web.post("/console/jobs/{job}/another", self.another),
            web.delete("/console/jobs/{job}", self.stop_waiting),
            web.post("/console/act", self.act),
            web.get("/console/ids", self.ids),
            web.get("/console/batches", self.batches),
            *self.results.routes(),
            *self.copies.routes(),
            web.get("/console/history", self.history),
            web.delete("/console/results/{job}", self.remove),
            web.get("/console/previews/uploads/{id}", self.preview_of_upload),
            web.get("/console/previews/jobs/{job}", self.preview_of_job),
        ]

    # Files

    async def announce(self, request: web.Request) -> web.Response:
        """Announce an upload: 201 with its id, or a refusal."""
        asked = upload_rules.checked(await requests.json_object(request))
        upload = self.holdings.uploads.announce(asked, self.holdings.referred())
        return plain_answer(upload.plain(), status=201)

    async def receive(self, request: web.Request) -> web.Response:
        """Receive the bytes of a file."""
        known = self.holdings.uploads.get(request.match_info["id"], complete=False)
        try:
            upload = await self.holdings.uploads.receive(known.id, request.content.iter_any())
        except BaseException:
            await self.waiting.lost(known)
            raise
        await self._arrived(upload)
        return plain_answer(upload.plain())

    async def _arrived(self, upload: UploadedFile) -> None:
        await self.waiting.arrived(upload)
        self.changed()

    async def drop(self, request: web.Request) -> web.Response:
        """Remove an upload that no job uses."""
        await self.holdings.drop(self.holdings.uploads.get(request.match_info["id"]))
        self.changed()
        return plain_answer({})

    # Jobs

    async def form(self, _: web.Request) -> web.Response:
        """What the form needs: the kinds of jobs, as `GET /api/kinds` has them, and the endings of each media type."""
        media = {name: sorted(endings) for name, endings in MEDIA.items()}
        return plain_answer({**(await self.kinds.present()).plain(), "media": media})

    async def start(self, request: web.Request) -> web.Response:
        """Start a job with uploaded files. Repeated with the same id, it returns the same job.

        `inputs` are uploads by input, `outputs` the file endings by output. Without `kind` it is a lip-sync job of
        the uploads `video` and `audio`. While a file is still copied, the answer is 202, and the job starts later.
        """
        said = requests.fields(Start, await requests.json_object(request))
        if not said.kind:
            said.kind, said.outputs = LIPSYNC, {"video": ".mp4"}
            said.inputs = {"video": said.video, "audio": said.audio}
        answer = await self.begin(said)
        return plain_answer({"id": answer.job}, status=answer.status)

    async def begin(self, said: Start, caller: f.Caller | None = None) -> f.Answer:
        """Start a job, for `caller` if it is not a page's; its status is 202 while a file is still copied."""
        said.caller = caller
        # The input `video` comes first: lip-sync jobs of old hubs have this order.
        inputs = sorted(said.inputs.items(), key=lambda pair: pair[0] != "video")
        files = {name: self.holdings.uploads.get(id_, complete=False) for name, id_ in inputs}
        asked = self._submitted_job(said, files)
        fit = (await requests.fitting(self.kinds, asked)).job
        said.params = self.kinds.hidden(fit.kind, fit.params)
        waiting = Waiting(said, asked.changed(params=said.params), files, time.time())
        if not waiting.is_ready and said.id not in self.outbox.state.jobs:
            await self.waiting.add(waiting)
            return f.Answer(0, 202, said.id)
        answer = await self._begin(waiting)
        await self.waiting.drop(said.id)
        self.changed()
        return answer

    def _submitted_job(self, started: Started, files: Mapping[str, UploadedFile]) -> requests.SubmittedJob:
        key = upload_rules.file_name(started.id)
        asked = requests.submitted_job({
            "id": started.id, "kind": started.kind, "params": started.params, "gpus": started.gpus,
            "batch": started.batch, "inputs": {name: str(upload.path) for name, upload in files.items()},
            "outputs": self._results(key, started.outputs),
        })  # fmt: skip
        return replace(asked, caller=started.caller)

    def _results(self, key: str, endings: Mapping[str, str]) -> dict[str, str]:
        """The paths of a job's results by output."""
        return {
            name: str(self.holdings.results / f"{key}.{name}{upload_rules.output_ending(name, ending)}")
            for name, ending in endings.items()
        }

    async def _begin(self, job: Waiting) -> f.Answer:
        """Submit a job whose files are there. The ending of a file from a URL is known only now."""
        if job.started.caller is not None:  # the files of a page were checked when they came
            await self._check(job)
        inputs = {name: Path(os.path.realpath(upload.path)) for name, upload in job.files.items()}
        seconds = {name: upload.seconds for name, upload in job.files.items()}
        asked = replace(job.asked.changed(inputs=inputs), seconds=seconds)
        asked = await requests.fitting(self.kinds, asked)
        names = {name: upload.name for name, upload in job.files.items()}
        return await self._kept(job.key, job.id, names, partial(submitted, self.outbox, asked))

    async def _check(self, job: Waiting) -> None:
        """Check that video and audio files can be decoded, before a GPU is started for them."""
        slots = {slot.name: slot for kind in self.kinds.known.named(job.started.kind)[:1] for slot in kind.inputs}
        for name, upload in job.files.items():
            slot = slots.get(list_of(name, slots) or name)
            media: Any = media_of(slot, upload.path.suffix.lower()) if slot is not None else ""
            if media in ("video", "audio") and not upload.seconds:
                try:
                    upload.seconds = await self.holdings.uploads.look(upload.path, media) or 0.0
                except MediaUnusable as error:
                    why = f"{name} cannot be used as the {error.which}: it {error.why}"
                    raise WrongInput(f"inputs.{name}", why) from None

    async def _kept(
        self, key: str, job: str, names: Mapping[str, str], submit: Callable[[], Awaitable[f.Answer]]
    ) -> f.Answer:
        """Submit a job of the page, whose results have this key, with the names of its inputs."""
        self.holdings.beginning.add(key)
        try:
            if job not in self.outbox.state.jobs:  # a refused job must not change the names of one with its id
                beside = self.holdings.results / f"{key}.json"
                await asyncio.to_thread(uploads.keep_file, beside, orjson.dumps(names))
                await asyncio.to_thread(uploads.keep_file, mark_of(beside), b"{}")
            return await submit()
        finally:
            self.holdings.beginning.discard(key)

    async def another(self, request: web.Request) -> web.Response:
        """Do the work of a job again as the job `id`, with other `params` (texts), or with `vary` a seed of its own."""
        entry, body = self.results.known(request.match_info["job"]), await requests.json_object(request)
        job = requests.job_name(body.get("id") or "")
        key, a = upload_rules.file_name(job), entry.accepted
        kind = await self._kind(entry)
        params = {name: value_of(str(text), kind, name) for name, text in (body.get("params") or {}).items()}
        seed = kind.seed or "seed"
        if body.get("vary") and seed in kind.params.get("properties", {}):
            params[seed] = RANDOM
        asked: dict[str, Any] = {"id": job, "params": params}
        if self.cards.is_ours(a.output):
            asked["outputs"] = self._results(key, {name: Path(path).suffix for name, path in a.outputs.items()})
        names = {name: file for name, file in self.cards.names(entry).items() if name in a.inputs}
        answer = await self._kept(key, job, names, lambda: another(self.outbox, self.kinds, entry, asked))
        self.changed()
        return plain_answer({"id": answer.job}, status=answer.status)

    async def _kind(self, entry: Entry) -> Kind:
        return next(iter((await self.kinds.present()).named(entry.accepted.kind)), Kind(entry.accepted.kind))

    async def details(self, request: web.Request) -> web.Response:
        """All that is known of a job: also its parameters, its record, and its family with results."""
        entry = self.results.known(requests.job_name(request.match_info["job"]))
        more = {
            "names": [*(await self._kind(entry)).params.get("properties", {})],
            "record": self.record(entry) if entry.state == "done" else {},
        }
        return plain_answer({**await asyncio.to_thread(self._detailed, entry), **more})

    def _detailed(self, entry: Entry) -> dict[str, Any]:
        family = entry.accepted.family or entry.accepted.job
        done = [job for job in [*self.outbox.state.jobs.values()] if job.state == "done"]
        mine = [job for job in done if family in (job.accepted.family, job.accepted.job)][:FAMILY_MOST]
        return {**self.cards.detailed(entry), "family": [self.cards.card(job, events=False) for job in mine]}

    async def show_folder(self, request: web.Request) -> web.Response:
        """Show the result `name` in the file manager of this machine."""
        entry = self.results.known(requests.job_name(request.match_info["job"]))
        path = self.cards.paths(entry).get(str((await requests.json_object(request)).get("name")))
        if path is None or not path.is_file():
            raise gone()
        if not await asyncio.to_thread(show_in_folder, path):
            raise ApiError(409, "no_desktop", "no file manager was found here; open the folder by its path")
        return plain_answer({})

    async def stop_waiting(self, request: web.Request) -> web.Response:
        """Drop a job that waits for its files, with the files that no other job needs."""
        if not await self.drop_waiting(requests.job_name(request.match_info["job"])):
            raise ApiError(404, "not_waiting", "this job does not wait for its files any more; cancel it")
        self.changed()
        return plain_answer({})

    async def drop_waiting(self, job: str) -> bool:
        """Drop a job that waits for its files; False if it does not wait."""
        await self.waiting.settled(job)
        dropped = await self.waiting.drop(job)
        for upload in dropped.files.values() if dropped is not None else ():
            if str(upload.path) not in self.holdings.referred():
                await self.copies.stop(upload.id)
                await self.holdings.uploads.discard(upload)
        return dropped is not None

    async def act(self, request: web.Request) -> web.Response:
        """Cancel jobs, or remove their results: 200 with the refusals. `act` is `cancel` or `remove`.

        One call for many jobs: a page that closes may send only few.
        """
        body = await requests.json_object(request)
        act, jobs = {"cancel": self._cancel, "remove": self._remove}.get(str(body.get("act"))), body.get("jobs")
        if act is None or not isinstance(jobs, list) or len(jobs) > ACT_MOST:
            raise bad_request(f'send "act" (cancel or remove) and "jobs", a list of at most {ACT_MOST} ids')
        refused: list[dict[str, Any]] = []
        for job in jobs:
            try:
                await act(requests.job_name(job))
            except ApiError as error:
                refused.append({"id": job, **plain_error(error)})
        self.changed()
        return plain_answer({"refused": refused})

    async def _cancel(self, job: str) -> None:
        if not await self.drop_waiting(job):
            accepted(await self.outbox.cancel(job))

    async def ids(self, request: web.Request) -> web.Response:
        """The ids of all jobs by what can be done: cancel the `open`, retry the `failed`, remove the `results`.

        With `?batch=` those of one batch, without the failed ones that were tried again.
        """
        batch, jobs, waiting = request.query.get("batch", ""), dict(self.outbox.state.jobs), list(self.waiting.jobs)
        if batch:
            again = self.outbox.state.again
            jobs = {id_: entry for id_, entry in jobs.items() if entry.accepted.batch == batch and id_ not in again}
            waiting = [job for job in waiting if self.waiting.jobs[job].started.batch == batch]
        done = [entry for entry in jobs.values() if entry.state == "done"]
        return plain_answer({
            "open": [*waiting, *(job for job, entry in jobs.items() if entry.state == "open")],
            "failed": [job for job, entry in jobs.items() if entry.state in ("failed", "timed_out", "cancelled")],
            "results": await asyncio.to_thread(self._with_results, done),
        })  # fmt: skip

    def _with_results(self, done: list[Entry]) -> list[str]:
        """Those whose results are here, and were made for this page."""
        results = ((entry.accepted.job, [path for path, _ in results_of(entry).values()]) for entry in done)
        return [
            job
            for job, paths in results
            if all(self.cards.is_ours(str(path)) for path in paths) and any(path.is_file() for path in paths)
        ]

    async def batches(self, _: web.Request) -> web.Response:
        """The batches that are unfinished or ended recently, the newest first: `name`, and how many jobs are how."""
        batches: dict[str, dict[str, Any]] = {}
        kept = self.outbox.state
        since, jobs = time.time() - NOW_LASTS, kept.jobs.values()
        states = [(job.accepted.batch, job.state, job.ended) for job in jobs if job.accepted.job not in kept.again]
        for name, state, ended in (*states, *((job.started.batch, "open", None) for job in self.waiting.jobs.values())):
            if name:
                before, done = kept.forgotten.get(name, (0, 0))
                new = {"name": name, "jobs": before, "open": 0, "done": done, "recent": False}
                batch = batches.setdefault(name, new)
                batch["jobs"] += 1
                batch["open"] += ended is None
                batch["done"] += state == "done"
                batch["recent"] |= ended is None or ended.at >= since
        recent = [batch for batch in batches.values() if batch.pop("recent")]
        return plain_answer({"batches": recent[: -BATCHES_MOST - 1 : -1]})

    async def history(self, request: web.Request) -> web.Response:
        """Ended jobs: `?text=&state=&limit=&skip=`; with `text` also unfinished ones."""
        query = request.query
        limit, skip = _number(query.get("limit", "20"), HISTORY_MOST), _number(query.get("skip", "0"), HISTORY_MOST)
        cards, matching = await self.cards.history(query.get("text", "")[:200], query.get("state", ""), limit, skip)
        return plain_answer({"jobs": cards, "matching": matching})

    # Previews

    async def preview_of_upload(self, request: web.Request) -> web.Response:
        """A picture of an uploaded file, its length and its format."""
        upload = self.holdings.uploads.get(request.match_info["id"])
        return plain_answer(await self.holdings.previews.of(upload.path, upload.path.parent))

    async def preview_of_job(self, request: web.Request) -> web.Response:
        """The same of the input `?input=` or the result `?output=` of a job."""
        entry = self.results.known(requests.job_name(request.match_info["job"]))
        name = request.query.get("input", "")
        if name:
            path = self.results.input(entry, name)
        else:
            path = results_of(entry).get(request.query.get("output", ""), (None, 0))[0]
        if path is None:
            raise gone()
        beside = path.parent if self.holdings.uploads.of_path(str(path)) else None
        return plain_answer(await self.holdings.previews.of(path, beside))

    # Results

    async def remove(self, request: web.Request) -> web.Response:
        """Remove the results of a job of this page."""
        await self._remove(requests.job_name(request.match_info["job"]))
        self.changed()
        return plain_answer({})

    async def _remove(self, job: str) -> None:
        entry = self.results.done(job)
        paths = [path for path, _ in results_of(entry).values()]
        if not all(self.cards.is_ours(str(path)) for path in paths):
            raise ApiError(409, "not_ours", "this job was not started on this page; remove the files in their folder")
        if not any(path.is_file() for path in paths):
            raise gone()
        if self.holdings.needed() & {str(path) for path in paths}:
            raise ApiError(409, "in_use", "a later job reads this result; wait for its end")
        for path in paths:
            await asyncio.to_thread(uploads.remove_result, path)
        self.holdings.note(entry, fetched=True)
        self.tell("card", self.cards.card_event(entry))


def _number(text: str, most: int) -> int:
    number = whole_number(text, most=most)
    if number is None:
        raise bad_request(f"send whole numbers from 0 to {most}")
    return number
