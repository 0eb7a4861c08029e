"""An HTTP API that clients of Replicate speak: predictions are jobs, models are kinds."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web
from msgspec.structs import replace

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, json_answer
from wakestream.adapters.daemon.api.routes import accepted
from wakestream.adapters.daemon.console.app import Console
from wakestream.adapters.daemon.console.results import file_answer, gone
from wakestream.adapters.daemon.console.routes import Start
from wakestream.adapters.daemon.console.uploads import UploadedFile
from wakestream.adapters.daemon.console.waiting import Waiting
from wakestream.adapters.daemon.event_feed import Listener
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.previews import Previews
from wakestream.adapters.daemon.replicate.files import Files
from wakestream.adapters.daemon.replicate.hooks import EVENTS, USUAL, Hooks
from wakestream.adapters.daemon.replicate.http import TOKEN, deadline_of, origin, page, wait_of
from wakestream.adapters.daemon.replicate.models import Model, kind_name, models
from wakestream.adapters.daemon.replicate.predictions import Predictions, caller_of, cursor, iso, place_after
from wakestream.adapters.daemon.replicate.streams import Streams
from wakestream.adapters.daemon.replicate.tokens import Token, Tokens
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.net.silent_callers import let_in
from wakestream.operators.model.engine import Slot, numbered
from wakestream.operators.model.errors import UnknownKind, WrongInput
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.outbox import webhook_of_caller
from wakestream.streams.outbox.state import Entry
from wakestream.streams.protocol.kinds import usual_ext

PAGE: Final = 100
"""Predictions on a page of the list."""

AT_ONCE: Final = 4
"""Calls of a program with large JSON that are read at a time."""

TIDY_EVERY: Final = 3600.0

CANCEL_WAITS: Final = 5.0
"""Seconds in which a cancelled prediction usually ends; the answer to the cancel waits for it."""

_FIELDS: Final = ("input", "version", "stream", "webhook", "webhook_completed", "webhook_events_filter")

FieldFiles = list[tuple[str, Slot, list[UploadedFile]]]
"""The files of an input: the field, what it accepts, and its files."""


class Api:
    """A method for each call."""

    def __init__(
        self,
        outbox: Outbox,
        console: Console,
        predictions: Predictions,
        tokens: Tokens,
        hooks: Hooks,
        previews: Previews,
    ) -> None:
        self._outbox, self._console, self._predictions = outbox, console, predictions
        self._tokens, self.hooks = tokens, hooks
        self._files = Files(console.holdings, console.calls.copies, self._own_output)
        self._began = iso(time.time()) or ""
        self._large = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(AT_ONCE))
        self._late: asyncio.Queue[str] = asyncio.Queue()
        self._streams = Streams(outbox, predictions, previews)
        console.calls.waiting.refuse = lambda job, why: self._over(job, "failed", str(why["error"]), str(why["code"]))

    def routes(self) -> list[web.RouteDef]:
        """The routes. Clients add /v1 to the address of the API, or not, so it may be missing or be twice."""
        routes = self._routes()
        paths = [(base + route.path.removeprefix("/v1"), route) for base in ("", "/v1", "/v1/v1") for route in routes]
        return [web.RouteDef(route.method, path, route.handler, route.kwargs) for path, route in paths]

    def _routes(self) -> list[web.RouteDef]:
        model = "/v1/models/{owner}/{name}"
        return [
            web.get("/v1/account", self.account),
            web.get("/v1/models", self.list_models),
            web.route("QUERY", "/v1/models", self.list_models),
            web.get(model, self.get_model),
            web.get(f"{model}/versions", self.list_versions),
            web.get(f"{model}/versions/{{id}}", self.get_version),
            web.post(f"{model}/predictions", self.create),
            web.post("/v1/deployments/{owner}/{name}/predictions", self.create),
            web.post("/v1/predictions", self.create),
            web.get("/v1/predictions", self.list_predictions),
            web.get("/v1/predictions/{id}", self.get),
            web.post("/v1/predictions/{id}/cancel", self.cancel),
            *(web.get(f"/v1/{at}", self.stream) for at in ("stream/{id}", "files/{id}/stream")),
            web.get("/v1/outputs/{id}/{name}", self.output),
            web.post("/v1/files", self.upload),
            web.get("/v1/files", self.list_files),
            web.get("/v1/files/{id}", self.get_file),
            web.get("/v1/files/{id}/download", self.download),
            web.delete("/v1/files/{id}", self.remove_file),
            web.get("/v1/webhooks/default/secret", self.webhook_secret),
        ]

    async def account(self, request: web.Request) -> web.Response:
        """The program."""
        name = request[TOKEN].name
        return json_answer({"type": "user", "username": name, "name": name, "github_url": None})

    async def webhook_secret(self, request: web.Request) -> web.Response:
        """What signs the webhooks for this program."""
        return json_answer({"key": request[TOKEN].secret})

    # Models

    async def _models(self, request: web.Request) -> list[Model]:
        token = request[TOKEN]
        return [model for model in models(await self._console.kinds.present()) if token.allows(model.kind.name)]

    async def _of_name(self, request: web.Request) -> list[Model]:
        name = kind_name(request.match_info["name"])
        if named := [model for model in await self._models(request) if model.kind.name == name]:
            return named
        raise ApiError(404, "unknown_kind", f"there is no model {name[:40]!r}, or this token may not use it")

    async def list_models(self, request: web.Request) -> web.Response:
        """The models; of a search, those with its text."""
        asked = b""
        if request.method == "QUERY":
            async with self._turn(request):
                asked = await requests.body_of(request)
        text = asked.decode(errors="replace").strip().strip('"').casefold()
        by_name: dict[str, Model] = {}
        for model in await self._models(request):
            if text in f"{model.kind.name} {model.kind.title} {model.kind.help}".casefold():
                by_name.setdefault(model.kind.name, model)
        return page([model.plain(origin(request), self._began) for model in by_name.values()])

    async def get_model(self, request: web.Request) -> web.Response:
        """One model."""
        return json_answer((await self._of_name(request))[0].plain(origin(request), self._began))

    async def list_versions(self, request: web.Request) -> web.Response:
        """The versions of a model: GPUs may have kinds of one name that differ."""
        return page([model.plain_version(self._began) for model in await self._of_name(request)])

    async def get_version(self, request: web.Request) -> web.Response:
        """One version of a model."""
        versions = {model.version: model for model in await self._of_name(request)}
        if (model := versions.get(request.match_info["id"])) is None:
            raise ApiError(404, "unknown_version", "this model has no such version any more")
        return json_answer(model.plain_version(self._began))

    # Predictions

    async def create(self, request: web.Request) -> web.Response:
        """Start a prediction: 201; with `Prefer: wait` when it has ended, or 202 if that takes longer."""
        within = wait_of(request)
        async with self._turn(request):
            job = await self._begin(request)
        with self._outbox.feed.follow(job, lambda: None, whose=None) as listener:
            ended = within > 0 and await self._ended(job, listener, within)
        plain = await self._predictions.plain(self._prediction(job), starting=within > 0)
        return json_answer(plain, status=202 if within and not ended else 201)

    def _turn(self, request: web.Request) -> AbstractAsyncContextManager[object]:
        """Wait until fewer than `AT_ONCE` large calls of a program are in memory."""
        length = request.content_length
        small = length is not None and length <= requests.MAX_BODY
        return nullcontext() if small else self._large[request[TOKEN].name]

    async def _begin(self, request: web.Request) -> str:
        """Start the prediction of a call; its id."""
        body = await requests.json_object(request)
        if unknown := body.keys() - {*_FIELDS}:
            name = min(unknown)[:40]
            raise WrongInput(name, f"there is no field {name!r}; known: {', '.join(_FIELDS)}")
        model, given, job = await self._model_of(request, body), body.get("input"), f"ws-{uuid.uuid4().hex[:16]}"
        if not isinstance(given, dict):
            raise WrongInput("input", "input must be an object")
        await self._start(job, request[TOKEN], model, given, await self._caller(request, model, body))
        return job

    async def _model_of(self, request: web.Request, body: Mapping[str, Any]) -> Model:
        """The model of a call: that in its path, else that of its version, or of the name in its place."""
        if "name" in request.match_info:
            return (await self._of_name(request))[0]
        wanted = str(body.get("version", ""))
        name, _, version = wanted.rpartition("/")[2].partition(":")
        for model in await self._models(request):
            if (version or name) == model.version or (not version and kind_name(name) == model.kind.name):
                return model
        raise UnknownKind("version", f"there is no version {wanted[:80]!r}, or this token may not use it")

    async def _caller(self, request: web.Request, model: Model, body: Mapping[str, Any]) -> f.Caller:
        webhook = str(body.get("webhook") or body.get("webhook_completed") or "")
        events = body.get("webhook_events_filter") or USUAL
        if not isinstance(events, list | tuple) or not all(event in EVENTS for event in events):
            raise WrongInput("webhook_events_filter", f"webhook_events_filter must be a list of {', '.join(EVENTS)}")
        if webhook:
            await self.hooks.check(webhook)
        return f.Caller(
            request[TOKEN].name, origin(request), model.version, shape=model.shape, webhook=webhook,
            events=tuple(dict.fromkeys(events)), until=deadline_of(request),
        )  # fmt: skip

    async def _start(self, job: str, token: Token, model: Model, given: Mapping[str, Any], caller: f.Caller) -> None:
        """Start the job of a prediction, whose files may come later."""
        if not self._tokens.take(token):
            raise ApiError(429, "day_spent", f"this token may start {token.per_day} predictions a day")
        uploads: FieldFiles = []
        try:
            files, params, ignored = model.split(given)
            for field, (slot, values) in files.items():
                uploads.append((field, slot, []))
                for value in values:
                    uploads[-1][2].append(await self._files.given(token.name, caller.url, field, slot, value))
            shown = self._shown(model, params, caller.url, uploads)
            caller = replace(caller, input=shown, ignored=ignored)
            await self._console.calls.begin(_job(job, model, params, uploads), caller)
        except BaseException as error:
            self._tokens.give_back(token)
            await self._files.drop(upload for _, _, files_of in uploads for upload in files_of)
            if isinstance(error, WrongInput):
                raise WrongInput(model.field_of(error.field), str(error)) from None
            raise
        await self._tokens.keep()
        self._keep_deadline(job, caller)

    def _shown(self, model: Model, params: Mapping[str, Any], url: str, uploads: FieldFiles) -> dict[str, Any]:
        """The input as the program sees it again."""
        addresses = [
            (field, slot, [self._files.address(file, url) for file in files]) for field, slot, files in uploads
        ]
        shown = {field: of if slot.many else of[0] for field, slot, of in addresses if of}
        fields = {of: field for field, of in model.fields.items() if not isinstance(of, Slot)}
        return shown | {
            fields[name]: value for name, value in self._console.kinds.shown(model.kind.name, params).items()
        }

    async def _ended(self, job: str, listener: Listener, within: float) -> bool:
        """Whether a prediction ends in this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._prediction(job).ended is None and await listener.next() is not None:
                    pass
        return self._prediction(job).ended is not None

    def _prediction(self, job: str, token: Token | None = None) -> Entry:
        """A prediction, which must be one of `token` if that is given."""
        entry = self._predictions.find(job)
        if entry is None or (token is not None and caller_of(entry).token != token.name):
            raise ApiError(404, "unknown_prediction", f"there is no prediction {job[:40]!r}")
        return entry

    async def list_predictions(self, request: web.Request) -> web.Response:
        """The program's predictions, the newest first, `PAGE` at a time."""
        entries, at = self._predictions.of(request[TOKEN].name), f"{origin(request)}/v1/predictions"
        start = place_after(entries, request.query.get("cursor", ""))
        shown = [await self._predictions.plain(entry, inline=False) for entry in entries[start : start + PAGE]]
        further = f"{at}{cursor(entries, start + PAGE)}" if start + PAGE < len(entries) else None
        return page(shown, next=further, previous=f"{at}{cursor(entries, start - PAGE)}" if start else None)

    async def get(self, request: web.Request) -> web.Response:
        """One prediction."""
        return json_answer(await self._predictions.plain(self._prediction(request.match_info["id"], request[TOKEN])))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a prediction; the answer waits a moment for its end. One that has ended stays as it is."""
        job = self._prediction(request.match_info["id"], request[TOKEN]).accepted.job
        with self._outbox.feed.follow(job, lambda: None, whose=None) as listener:
            await self._cancel(job, "cancelled by the program")
            await self._ended(job, listener, CANCEL_WAITS)
        return json_answer(await self._predictions.plain(self._prediction(job)))

    async def _cancel(self, job: str, why: str) -> None:
        calls = self._console.calls
        await calls.waiting.settled(job)
        if (waiting := calls.waiting.jobs.get(job)) is not None:
            self._over(waiting, "cancelled", why)
            await calls.drop_waiting(job)
        elif (entry := self._predictions.find(job)) is not None and entry.ended is None:
            with suppress(ApiError):  # it has just ended
                accepted(await self._outbox.cancel(job))

    def _over(self, job: Waiting, outcome: str, why: str, code: str = "") -> None:
        """End a prediction that has not begun: a file did not come, the job does not fit, or it was cancelled."""
        entry = self._predictions.end(job, outcome, why, code)
        if entry.ended is not None and (owed := webhook_of_caller(entry.accepted, entry.ended)) is not None:
            self.hooks.webhooks.tell(owed)

    # Deadlines

    def _keep_deadline(self, job: str, caller: f.Caller) -> None:
        if caller.until:
            asyncio.get_running_loop().call_later(caller.until - time.time(), self._late.put_nowait, job)

    async def tidy(self) -> None:
        """Remove files that are not needed any more, again and again."""
        while True:
            await self._console.holdings.tidy()
            await asyncio.sleep(TIDY_EVERY)

    async def keep_deadlines(self) -> None:
        """Cancel predictions at their `Cancel-After`."""
        waiting = ((job.id, job.started.caller) for job in self._console.calls.waiting.jobs.values())
        open_ = ((job, self._outbox.state.jobs[job].accepted.caller) for job in self._outbox.state.queue)
        for job, caller in [*waiting, *open_]:
            if caller is not None:
                self._keep_deadline(job, caller)
        while True:
            await self._cancel(await self._late.get(), "not done before its Cancel-After")

    # Streams and files

    def _signed(self, request: web.Request, purpose: str) -> Entry:
        """The prediction of a signed address."""
        job = request.match_info["id"]
        if not self._console.sessions.opens(f"{job} {purpose}", request.query.get("ticket", "")):
            raise ApiError(401, "no_ticket", "this address has expired; get the prediction again for a new one")
        entry = self._prediction(job)
        token = caller_of(entry).token
        if self._tokens.named(token) is None:
            raise ApiError(401, "no_token", "the token of this prediction was removed")
        let_in(request, f"token {token}")
        return entry

    def _own_output(self, token: str, url: str) -> Path | None:
        """The file of an output of this program's predictions at that address."""
        job, name = url.partition("?")[0].split("/")[-2:]
        entry = self._predictions.find(unquote(job))
        if entry is None or caller_of(entry).token != token:
            return None
        path = results_of(entry).get(unquote(name), (None, 0))[0]
        if path is not None and not path.is_file():
            raise gone()
        return path

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The log as it grows, then the output, as server-sent events."""
        return await self._streams.answer(request, self._signed(request, "stream"))

    async def output(self, request: web.Request) -> web.StreamResponse:
        """A file of a prediction's output."""
        name = request.match_info["name"]
        entry = self._signed(request, f"output {name}")
        path = results_of(entry).get(name, (None, 0))[0]
        if path is None or not path.is_file():
            raise gone()
        return file_answer(path, f"{name}{path.suffix}")

    async def upload(self, request: web.Request) -> web.Response:
        """Store a file, which predictions of this program may use."""
        upload = await self._files.receive(request[TOKEN].name, request)
        return json_answer(self._files.plain(upload, origin(request)), status=201)

    async def list_files(self, request: web.Request) -> web.Response:
        """The program's files."""
        return page([self._files.plain(file, origin(request)) for file in self._files.of(request[TOKEN].name)])

    async def get_file(self, request: web.Request) -> web.Response:
        """What is known of a file."""
        upload = self._files.get(request[TOKEN].name, request.match_info["id"])
        return json_answer(self._files.plain(upload, origin(request)))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """A file. The token lets the program in; the signature in the query is that of another service."""
        upload = self._files.get(request[TOKEN].name, request.match_info["id"])
        return file_answer(upload.path, upload.name, download=True)

    async def remove_file(self, request: web.Request) -> web.Response:
        """Remove a file."""
        await self._console.holdings.drop(self._files.get(request[TOKEN].name, request.match_info["id"]))
        return web.Response(status=204)


def _job(job: str, model: Model, params: dict[str, Any], uploads: FieldFiles) -> Start:
    """The job of a prediction, with all outputs that its kind has."""
    inputs = {numbered(slot.name, n): file.id for _, slot, files in uploads for n, file in enumerate(files, 1)}
    outputs = {slot.name: usual_ext(slot, params) for slot in model.kind.outputs}
    return Start(id=job, kind=model.kind.name, inputs=inputs, params=params, outputs=outputs, gpus=model.gpus)
