"""The worker's HTTP server, with the calls of deployed workers (docs/protocol-worker.md): files, tasks, results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from msgspec.structs import replace

from wakestream.adapters.config import addresses
from wakestream.adapters.net import status_page
from wakestream.adapters.net.capability_keys import Verifier
from wakestream.adapters.net.connection_limits import ConnectionLimits, Proxies, Refusals
from wakestream.adapters.net.http_server import listening
from wakestream.adapters.net.refusals import no_strangers, noted, plain_bodies
from wakestream.adapters.net.silent_callers import SilentCallers
from wakestream.adapters.runtime.known_secrets import secret_names
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import auth, multipart, progress_socket, replies, requests, transfers, tus
from wakestream.adapters.worker.http.possession import Proofs
from wakestream.adapters.worker.http.previews import Previews
from wakestream.adapters.worker.http.progress_socket import ProgressListeners
from wakestream.adapters.worker.http.transfers import Transfers, put_etag, result_response
from wakestream.adapters.worker.http.tus import TusCalls, put_version
from wakestream.adapters.worker.http.waits import Waits
from wakestream.adapters.worker.resumable_uploads import Uploads
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.operators.model.engine import LISTS, PREVIEWS, Kind
from wakestream.operators.model.errors import WorkerRefused, WrongInput
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol.kinds import fingerprint, fitting, is_repeatable, made_for, plain_kind, seeded
from wakestream.streams.worker import shares
from wakestream.streams.worker import state as w

FEATURES = ("blake3", "cancel", "inputs", LISTS, PREVIEWS, "range", "small_files", "tus", "wait")
"""The features beyond those of deployed workers."""

BY_CAPABILITY = ("capability", "proof")
"""Further features of a worker that belongs to a hub."""

TLS_WITHIN = 10.0
"""Seconds for a TLS handshake; less than the time for the headers of the first request."""

AT = "/api/heygem/"
"""Where the calls are."""

_READ_BUFFER = 1024 * 1024
_GRACE = 2.0
"""Seconds for calls to end at a stop, and to read on after a refused upload, so that its sender gets the reason."""
_KEEP_ALIVE = 75.0


@dataclass(slots=True)
class Readiness:
    """Whether the engine can work, and the reason if it cannot."""

    initialized: bool = False
    msg: str = "starting"
    kinds: tuple[Kind, ...] = ()


@dataclass(slots=True)
class WorkerCalls:
    """The HTTP calls, one method for each."""

    store: FileStore
    queue: TaskQueue
    uploads: Uploads
    gpu: str | None = None
    verifier: Verifier | None = None
    readiness: Readiness = field(default_factory=Readiness)
    transfers: Transfers = field(default_factory=Transfers)
    listeners: ProgressListeners = field(default_factory=ProgressListeners)
    waits: Waits = field(default_factory=Waits)
    previews: Previews = field(default_factory=Previews)
    proofs: Proofs = field(init=False)

    def __post_init__(self) -> None:
        """The proofs are about the same files, and the waits and previews about the same tasks."""
        self.proofs = Proofs(self.store, self.queue)
        self.queue.facts.subscribe(self.waits.told)
        self.queue.facts.subscribe(self.previews.told)
        self.queue.on_preview = self.previews.put

    def routes(self) -> list[web.RouteDef]:
        """The routes of all calls."""
        return [
            web.get("/", self.page),
            *self.of_files(),
            web.post(f"{AT}submit", self.submit),
            web.post(f"{AT}upload", self.upload),
            web.get(f"{AT}progress", self.progress),
            web.get(f"{AT}previews", self.show_previews, allow_head=False),
            web.get(f"{AT}download", self.download),
            web.get(f"{AT}queue", self.list_queue),
            web.post(f"{AT}cancel", self.cancel),
        ]

    def of_files(self) -> list[web.RouteDef]:
        """The routes of the calls that need no engine."""
        return [
            web.get(f"{AT}health", self.health),
            web.post(f"{AT}check_files", self.check_files),
            web.post(f"{AT}prove", self.prove),
            web.post(f"{AT}upload_file", self.upload_file),
            web.post(f"{AT}upload_files", self.upload_files),
            web.get(f"{AT}file", self.file),
            *TusCalls(self.uploads, self.expect).routes(),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """The state of the worker, for a browser."""
        now = self.readiness
        languages = request.headers.get(hdrs.ACCEPT_LANGUAGE, "")
        body = status_page.worker_page(self.queue.state, now.initialized, now.msg, self.gpu, languages)
        return web.Response(body=body, headers=status_page.HEADERS)

    async def health(self, _: web.Request) -> web.Response:
        """Whether the engine is ready; needs no secret."""
        now = self.readiness
        halt = self.queue.state.halt
        queue = {**replies.queue(self.queue.state), "transfers": self.transfers.open}
        if halt is not None:
            queue["queued"] = 0  # these tasks do not use the GPU, so its machine may be stopped
        capable = self.verifier is not None and self.verifier.ready
        features = [*FEATURES, *(BY_CAPABILITY if capable else ())]
        kinds = [plain_kind(kind) for kind in now.kinds]
        msg = now.msg if halt is None else halt.reason
        return replies.health(
            initialized=now.initialized, msg=msg, queue=queue, features=features, gpu=self.gpu, kinds=kinds
        )

    async def check_files(self, request: web.Request) -> web.Response:
        """Which of the files are here."""
        here: dict[str, bool] = {}
        for name, file in requests.wanted(await requests.json_object(request)):
            # The answer has only the hash: a file with two endings is here if both are.
            here[name] = file is not None and self._here(request, file) and here.get(name, True)
        return replies.ok(here)

    async def prove(self, request: web.Request) -> web.Response:
        """Addition: give the caller a file of another license, if it proves that it has the content."""
        body = await requests.json_object(request)
        auth.check_open(request)
        file, license_ = requests.file(body), auth.license_of(request)
        self.expect(request, file, None)
        if self._here(request, file):
            return replies.ok({"here": True})
        if not license_:
            raise WorkerRefused("the file is not here: send it", code="not_found")
        proof = requests.proof(body)
        if proof is None:
            return replies.ok({"challenge": self.proofs.challenge(license_, file)})
        await self.proofs.check(license_, file, proof)
        return replies.ok({"here": True})

    async def upload_file(self, request: web.Request) -> web.Response:
        """Receive one file."""
        auth.check_open(request)
        file = await multipart.receive_one(request, self.store)
        await self.queue.show(auth.license_of(request), file)
        return replies.ok({"hash": file.hash, "server_path": f"files/{file.hash}{file.ext}"})

    async def upload_files(self, request: web.Request) -> web.Response:
        """Addition: receive several small files, all or none."""
        auth.check_open(request)
        files = await transfers.receive(request, self.store, partial(self.expect, request))
        await self.queue.show(auth.license_of(request), *files)
        return replies.ok({"files": len(files)})

    def expect(self, request: web.Request, file: FileRef | None, size: int | None) -> None:
        """Refuse a file of so many bytes that may not come. A worker takes all files."""

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Addition: one of the caller's files, or a part of it; its ETag is its BLAKE3."""
        ref = FileRef(requests.blake3(request.query.get("hash"), "hash"), requests.file_ext(request.query.get("ext")))
        if not self._here(request, ref):
            raise WorkerRefused(f"the file {w.file_name(ref)} is not here", code="not_found")
        return result_response(request, self.store.path(ref), ref.hash)

    async def submit(self, request: web.Request) -> web.Response:
        """Start a task or find it; wakestream clients may send their job in `job_id`."""
        body = await requests.json_object(request)
        holder = auth.holder_of(request, requests.holder(body))
        spec = self.fitting(requests.task_spec(body), holder)
        if body.get("again") is True:
            spec = replace(spec, once=holder)
        if not auth.license_of(request):
            self.listeners.add(w.task_id(spec), body)
        with self.queue.needing(spec):
            return await self._start(request, spec, holder)

    async def upload(self, request: web.Request) -> web.Response:
        """Receive two files and submit them in one call."""
        video, audio = await multipart.receive_all(request, self.store, *requests.USUAL)
        await self.queue.show(auth.license_of(request), video, audio)
        return await self._start(request, self.fitting(w.pair(video, audio)), auth.holder_of(request, w.ANONYMOUS))

    async def progress(self, request: web.Request) -> web.Response:
        """The progress of a task; with `wait` (an addition), once it has changed."""

        def look() -> dict[str, Any]:
            return replies.report(self.queue.state, self._task(request, request.query.get("task_id")))

        return replies.ok({**await self.waits.report(request.query, look), "queue": replies.queue(self.queue.state)})

    async def show_previews(self, request: web.Request) -> web.StreamResponse:
        """Addition: what the engine has so far of a task, until it ends."""
        return await self.previews.stream(request, lambda: self._task(request, request.query.get("task_id")))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The result of a task, or a part of it."""
        task = self._task(request, request.query.get("task_id"))
        if task.status != "done" or task.digest is None:
            raise WorkerRefused(
                f"task {task.id} has no result: {task.error or replies.status_word(task)}", code="not_done"
            )
        path, digest = self.result(task, request.query.get("name"))
        if not self.queue.use(task.id):
            raise WorkerRefused(f"the result of task {task.id} is no longer here: submit again", code="not_found")
        return result_response(request, path, digest)

    def result(self, task: w.Task, name: str | None) -> tuple[Path, str]:
        """The file of a result and its BLAKE3; without a name, of the main one."""
        if not task.made:
            if name not in (None, *task.spec.outputs):
                raise WrongInput("name", f"task {task.id} has no result {name!r}; it has {task.spec.outputs[0]}")
            return self.store.result(task.id), task.digest or ""
        made = {output.name: output for output in task.made}
        output = task.made[0] if name is None else made.get(name)
        if output is None:
            raise WrongInput("name", f"task {task.id} has no result {name!r}; it has {', '.join(made)}")
        return self.store.results(task.id) / f"{output.name}{output.ext}", output.blake3

    async def list_queue(self, request: web.Request) -> web.Response:
        """The running, waiting and last ended tasks; with a capability, only those of its job."""
        state = self.queue.state
        return replies.ok(replies.queue_listing(state, lambda task: auth.may_see(request, state, task)))

    async def cancel(self, request: web.Request) -> web.Response:
        """Addition: the job no longer wants its task, which stops if no other job wants it."""
        body = await requests.json_object(request)
        holder = auth.holder_of(request, requests.holder(body))
        task = self._task(request, body.get("task_id"))
        task = await self.queue.drop(task.id, holder, auth.license_of(request))
        stopped = task.status == "cancelled"
        held = "" if stopped or not task.unfinished else f"still wanted by {len(task.holders)} others"
        return replies.ok({"task_id": task.id, "stopped": stopped, "holders": len(task.holders)}, held or "ok")

    def _task(self, request: web.Request, task_id: object) -> w.Task:
        name = requests.known_task(task_id)
        task = w.find(self.queue.state, name, auth.license_of(request))
        if task is None:
            raise WorkerRefused(f"there is no task {name[:64]!r} here: submit again", code="not_found")
        auth.check_task(request, self.queue.state, task)
        return task

    def _here(self, request: web.Request, file: FileRef) -> bool:
        """Whether the caller has this file here; a file of another license needs a proof first."""
        return self.queue.state.has(auth.license_of(request), file) and self.store.claim(file)

    def fitting(self, spec: w.TaskSpec, job: str = w.ANONYMOUS) -> w.TaskSpec:
        """The spec, with default parameters filled in. Raises `WrongInput`. The old shape needs no known kinds."""
        kinds = {kind.name: kind for kind in self.readiness.kinds}
        if not kinds and spec.old_shape:
            return spec
        if not kinds:
            raise WorkerRefused("the engine is not ready, so its kinds are unknown; try again later", code="not_ready")
        kind = kinds.get(spec.kind)
        if kind is None:
            have = ", ".join(kinds)
            raise WrongInput("kind", f"this worker has no kind {spec.kind[:40]!r}; it has {have}")
        if spec.old_shape:
            return replace(spec, once=job) if kind.deterministic is False else spec
        given = fitting(kind, {name: ref.ext for name, ref in spec.inputs.items()}, spec.params, spec.outputs)
        params = seeded(kind, given, job)
        once = "" if is_repeatable(kind, params) else job
        params = self.queue.secrets.hide(params, secret_names([kind], params))
        outputs = made_for(kind, spec.outputs)
        return replace(spec, params=params, outputs=outputs, version=fingerprint(kind), once=once)

    async def _start(self, request: web.Request, spec: w.TaskSpec, holder: str) -> web.Response:
        missing = [
            f"the {name} {ref.hash}{ref.ext}" for name, ref in spec.inputs.items() if not self._here(request, ref)
        ]
        if missing:
            raise WorkerRefused(f"not here: {' and '.join(missing)}; upload first, then submit", code="not_found")
        auth.check_open(request)  # checked now, since receiving the body may have taken long
        task = await self.queue.ask(spec, holder, auth.license_of(request))
        state = self.queue.state
        place = {"queue_position": shares.position(state, task.id), "status": replies.status_word(task)}
        cached = {"cached": True} if task.status == "done" else {}
        return replies.ok({"task_id": task.id, **cached, "queue": replies.queue(state), **place})


@dataclass(frozen=True, slots=True)
class WorkerServer:
    """A running server. `refused` counts refused calls by reason; `limits` counts open connections."""

    calls: WorkerCalls
    callers: auth.Callers
    refused: Refusals
    limits: ConnectionLimits
    address: str


@asynccontextmanager
async def serving(calls: WorkerCalls, config: WorkerConfig) -> AsyncIterator[WorkerServer]:
    """Serve the calls until the block ends. `OSError`: the port is in use."""
    refused, proxies = noted("http"), Proxies(config.proxies)
    silent = SilentCallers(refused, config.room, proxies=proxies)
    callers = auth.Callers(config.secret, calls.verifier, proxies)
    sockets = progress_socket.ProgressSockets(calls.queue)
    before = [preflights, no_strangers, replies.errors_as_json, callers.middleware]
    app = web.Application(
        middlewares=[*before, calls.transfers.middleware, plain_bodies], client_max_size=requests.MAX_BODY
    )
    app.add_routes([*calls.routes(), *sockets.routes()])
    app.on_shutdown.extend((sockets.close, calls.waits.close, calls.previews.close))
    app.on_response_prepare.extend((put_etag, put_version, put_cors))
    tls = config.tls.context if config.tls is not None else None
    async with listening(
        app,
        "worker",
        silent,
        config.host,
        config.port,
        tls=tls,
        tls_within=TLS_WITHIN,
        grace=_GRACE,
        read_bufsize=_READ_BUFFER,
        keepalive_timeout=_KEEP_ALIVE,
    ) as port:
        address = f"{'https' if tls else 'http'}://{addresses.at_port(config.host, port)}"
        yield WorkerServer(calls, callers, refused, silent.acceptor.limits, address)


# Let pages of other origins call the worker, as deployed workers do. Calls still need the secret, not a cookie.

_HEADERS = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, OPTIONS",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, Range",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Content-Length, Content-Range, Accept-Ranges, Content-Disposition",
}


async def put_cors(_: web.Request, response: web.StreamResponse) -> None:
    """For the application's `on_response_prepare`."""
    response.headers.update(_HEADERS)


@web.middleware
async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS at every address; for tus only a browser's preflight, since tus has its own OPTIONS."""
    asks = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers or not request.path.startswith(tus.AT)
    if request.method == hdrs.METH_OPTIONS and asks:
        return web.Response()
    return await handler(request)
