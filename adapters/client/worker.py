"""The GPU's HTTP side as seen from here, old workers and ours: the ports `Worker` and `Workers` over aiohttp."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any

import aiohttp
import orjson

from wakestream.adapters.client import possession as client_proof
from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.download import Partial, blocks
from wakestream.adapters.client.progress import Meter
from wakestream.adapters.client.tus_upload import KnownUploads, tus_upload
from wakestream.adapters.client.upload_body import FilePart, form
from wakestream.adapters.client.worker_auth import Bearer
from wakestream.adapters.client.worker_errors import worker_errors
from wakestream.adapters.config import addresses
from wakestream.adapters.disk.hashing_writer import algorithm_of
from wakestream.adapters.net.capabilities import Wallet, looks_like_one
from wakestream.adapters.runtime.heartbeat import heartbeat
from wakestream.operators.model.errors import (
    Corrupt,
    FileError,
    TaskLost,
    WakestreamError,
    WorkerRefused,
    WorkerUnreachable,
)
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Health, Resumed, TaskReceipt, TaskReport, Workers
from wakestream.operators.stages.follow import FINISHED

READ_BUFFER = 1024 * 1024
"""Bytes that are taken from a socket at a time."""

THREADS = 4
"""Threads that read and sync files, for all jobs together."""

REMEMBERED = 1024
"""Tasks whose job, or whose unfinished download, is remembered at each worker."""

CALL = 60.0
"""Seconds that a call without a file may take."""


class HttpWorkers:
    """Workers by their addresses, over one session. Made anywhere, used within one running loop, closed at its end."""

    def __init__(
        self,
        url: str | None = None,
        secret: str | None = None,
        *,
        no_secret: bool = False,
        secret_hosts: Collection[str] = (),
        idle: float = 60.0,
        connect: float = 10.0,
        ca: SSLContext | None = None,
    ) -> None:
        self._ca = ca
        self.no_secret = no_secret
        self._default = addresses.worker_url(url) if url else None
        self._authorization = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._secret_hosts = (*secret_hosts, *((addresses.host_of(self._default),) if self._default else ()))
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=idle)
        self.idle = idle
        self._session: aiohttp.ClientSession | None = None
        self.executor = ThreadPoolExecutor(THREADS, "wakestream-transfer")
        self.partials: OrderedDict[tuple[str, Path], Partial] = OrderedDict()
        self.uploads: KnownUploads = OrderedDict()
        self._workers: OrderedDict[str, HttpWorker] = OrderedDict()

    def resolve(self, url: str | None) -> str:
        """The hub's address for the worker if it gave one, else the configured one."""
        if url is None and self._default is None:
            raise WorkerRefused(
                "neither the hub nor the settings name a worker; set HEYGEM_SERVER_URL or give --worker-url URL",
                code="no_worker",
            )
        try:
            return self._default or "" if url is None else addresses.worker_url(url)
        except ValueError as error:
            raise WorkerRefused(f"the hub's address for the worker {error}", code="bad_url") from None

    def authorization(self, url: str) -> Mapping[str, str]:
        """The header with the secret for a worker that the user configured; empty for any other that a hub names."""
        return self._authorization if addresses.is_among(url, self._secret_hosts) else {}

    def withheld(self, url: str) -> bool:
        """Whether there is a secret that the worker at `url` does not get."""
        return bool(self._authorization) and not self.authorization(url)

    def at(self, url: str | None) -> HttpWorker:
        """The worker there; what it announced is remembered with it."""
        address = self.resolve(url)
        worker = self._workers.setdefault(address, HttpWorker(address, self))
        self._workers.move_to_end(address)
        if len(self._workers) > REMEMBERED:
            self._workers.popitem(last=False)
        return worker

    def of_job(self, job_id: str, wallet: Wallet) -> Workers:
        """The workers as one job may use them: by its capability where it has one, else by the secret."""
        return _JobsWorkers(self, job_id, wallet)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session, made at its first use: it belongs to the loop that runs then."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                timeout=self.timeout,
                read_bufsize=READ_BUFFER,
                connector=aiohttp.TCPConnector(ssl=True if self._ca is None else self._ca),
            )
        return self._session

    def partial(self, task_id: str, output: Path) -> Partial:
        """A download that begins. What stays of it on the disk another goes on with, wherever the worker is then."""
        before = self.partials.get((task_id, output))
        partial = self.partials[task_id, output] = Partial(task_id, output, self.executor, before)
        if len(self.partials) > REMEMBERED:
            self.partials.popitem(last=False)
        return partial

    def give_up(self, task_id: str, output: Path | None = None) -> None:
        """Nobody wants this task any more, or not at `output`: nothing stays of its downloads."""
        for key in [key for key in self.partials if key[0] == task_id and output in (None, key[1])]:
            self.partials.pop(key).give_up()

    async def close(self) -> None:
        """Let go of all connections and threads."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        self.executor.shutdown(wait=False, cancel_futures=True)


class _JobsWorkers:
    """The port `Workers` in one job's name."""

    def __init__(self, shared: HttpWorkers, job_id: str, wallet: Wallet) -> None:
        self._shared = shared
        self._bearer = Bearer(job_id, wallet, shared.no_secret)

    def at(self, url: str | None) -> HttpWorker:
        """See `Workers.at`."""
        return self._shared.at(url).borne_by(self._bearer)

    def resolve(self, url: str | None) -> str:
        """See `Workers.resolve`."""
        return self._shared.resolve(url)


@dataclass(slots=True)
class Known:
    """What is remembered of a worker, by all who speak to it; `outputs` of each task, by the jobs that submitted it."""

    features: frozenset[str] = frozenset()
    outputs: OrderedDict[str, dict[str, Path]] = field(default_factory=OrderedDict)


class HttpWorker:
    """One worker. What it can do beyond the field's protocol is known after its first `health`."""

    def __init__(self, url: str, shared: HttpWorkers, bearer: Bearer | None = None) -> None:
        self.url = url
        self._known = Known()
        self._shared = shared
        self._bearer = bearer

    @property
    def features(self) -> frozenset[str]:
        """What its last `health` announced."""
        return self._known.features

    @features.setter
    def features(self, announced: frozenset[str]) -> None:
        self._known.features = announced

    def borne_by(self, bearer: Bearer) -> HttpWorker:
        """The same worker, spoken to with another authorization."""
        worker = HttpWorker(self.url, self._shared, bearer)
        worker._known = self._known
        return worker

    @property
    def authorization(self) -> Mapping[str, str]:
        """The header that opens the worker; `WorkerError` when we have nothing to show."""
        by_secret = self._shared.authorization(self.url)
        if self._bearer is None:
            return by_secret
        return self._bearer.header(self.features, by_secret, self.url if self._shared.withheld(self.url) else None)

    async def health(self) -> Health:
        """Asks without the secret, as old workers expect."""
        async with self._exchange("GET", "health", open_to_all=True, timeout=self._for_calls()) as response:
            found = replies.health(response.status, await replies.body(response))
        self.features = found.features
        return found

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """Which of these files the worker has."""
        asked = {"files": [{"hash": ref.hash, "ext": ref.ext} for ref in files]}
        return replies.known_files(await self._call("POST", "check_files", json=asked), files)

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        """Our own workers are told the job as well, so that it alone can be cancelled, and render a pair once.

        Old ones render it once for each submit: what is under way for this job is followed instead.
        """
        if not self.features and (begun := await self._begun(job)) is not None:
            return begun
        asked = {
            "audio_hash": audio.hash,
            "audio_ext": audio.ext,
            "video_hash": video.hash,
            "video_ext": video.ext,
        }
        if "cancel" in self.features:
            asked["job_id"] = job.id
        with replies.task_known():  # a worker that lacks the files by now has forgotten as well
            receipt = replies.receipt(await self._call("POST", "submit", json=asked))
        self.hold(receipt.task_id, job)
        return receipt

    async def _begun(self, job: Job) -> TaskReceipt | None:
        """The hub's copy of a job began what bears its id, an earlier try what is remembered. One that is done may be
        of other files; the submit finds the result of these."""
        earlier = [task for task, jobs in self._known.outputs.items() if job.id in jobs]
        for task_id in (job.id, *reversed(earlier)):
            with suppress(TaskLost, WorkerRefused):
                report = await self.report(task_id)
                if report.status not in FINISHED:
                    self.hold(task_id, job)
                    return TaskReceipt(task_id, position=report.position)
        return None

    async def report(self, task_id: str) -> TaskReport:
        """How far the task is."""
        with replies.task_known():
            return replies.report(await self._call("GET", "progress", params={"task_id": task_id}))

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Give the task up for `job_id`, or for a job that submitted it; old workers cannot, and are not asked."""
        outputs = self._known.outputs.get(task_id, {})
        job = job_id or next(iter(outputs), None)
        output = outputs.pop(job, None) if job else None
        if not outputs:
            self._known.outputs.pop(task_id, None)
            self._shared.give_up(task_id)
        elif output is not None:  # what the other jobs download stays
            self._shared.give_up(task_id, output)
        if "cancel" not in self.features:
            return
        asked = {"task_id": task_id} if job is None else {"task_id": task_id, "job_id": job}
        with replies.task_known():
            await self._call("POST", "cancel", json=asked)

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        """Send one file, or what an earlier attempt left of it; yields the bytes that are there, ten times a second."""
        meter = Meter()
        sending = asyncio.create_task(self._send(file, ref, meter), name=f"upload {ref.hash}")
        try:
            async with aclosing(meter.follow(sending)) as totals:
                async for total in totals:
                    yield total
            yield file.size
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, file: Fingerprint, ref: FileRef, meter: Meter) -> None:
        if await self._proved(file, ref):
            return meter.resume(file.size)
        if "tus" in self.features and algorithm_of(ref.hash) == "blake3":
            return await tus_upload(self._exchange, f"{self.url}/files/", ref, file, self._shared, meter)
        return await self._send_form(file, ref, meter)

    async def _proved(self, file: Fingerprint, ref: FileRef) -> bool:
        """Whether the file is there, by another license, and now is ours too."""
        shown = self.authorization.get("Authorization", "").removeprefix("Bearer ")
        if client_proof.FEATURE not in self.features or file.size < client_proof.LEAST or not looks_like_one(shown):
            return False

        async def call(asked: dict[str, str]) -> dict[str, Any]:
            return await self._call("POST", "prove", json=asked)

        return await client_proof.proved(call, file, ref, self._shared.executor, self._shared.idle / 2)

    async def _send_form(self, file: Fingerprint, ref: FileRef, meter: Meter) -> None:
        part = FilePart(file, self._shared.executor, self._shared.idle, meter.add)
        try:
            async with self._exchange("POST", "upload_file", data=form(part, ref)) as response:
                raw = await replies.body(response)
                replies.uploaded(replies.accepted(response.status, raw), ref)
        except WakestreamError:
            if part.fault is not None:
                raise part.fault from None
            raise

    async def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        """Fetch the result. After an error that another try can mend, that try goes on where this one broke off."""
        partial = self._shared.partial(task_id, output)
        resumable = "range" in self.features
        try:
            for part in (
                self._patiently(lambda: partial.prepare(resumable=resumable), partial),
                self._fetch(task_id, partial),
                self._patiently(partial.finish, partial),
            ):
                async with aclosing(part) as steps:
                    async for step in steps:
                        yield step
        except BaseException as error:
            if isinstance(error, FileError):  # there is no place for it, so nothing of it may take up any
                partial.unwanted = True
            await partial.leave()
            raise
        self._shared.partials.pop((task_id, output), None)
        yield Done(output, partial.size)

    async def _patiently(
        self, work: Callable[[], Coroutine[Any, Any, None]], partial: Partial
    ) -> AsyncGenerator[Downloading, None]:
        """A disk may read or sync for longer than a transfer may be silent: signs of life meanwhile."""
        async with aclosing(heartbeat(work(), self._shared.idle / 4)) as waiting:
            async for _ in waiting:
                yield Downloading(partial.size, partial.size or None)

    async def _fetch(self, task_id: str, partial: Partial) -> AsyncGenerator[Downloading, None]:
        headers = {"Range": f"bytes={partial.size}-", "If-Range": partial.etag} if partial.etag else None
        with replies.task_known():
            async with self._exchange("GET", "download", params={"task_id": task_id}, headers=headers) as response:
                try:
                    length = await self._begin(response, partial)
                except Corrupt:
                    partial.etag = None  # what is here is a part of something else
                    raise
                meter = Meter(partial.size)
                yield Downloading(partial.size, length)
                cut = False
                try:
                    async with aclosing(blocks(response, self._shared.idle)) as chunks:
                        async for chunk in chunks:
                            await partial.write(chunk)
                            if meter.add(len(chunk)):
                                yield Downloading(partial.size, length)
                except (aiohttp.ClientPayloadError, ConnectionError):
                    cut = True  # what came decides what to call it
                await partial.verify(length, cut=cut)
                yield Downloading(partial.size, length)

    async def _begin(self, response: aiohttp.ClientResponse, partial: Partial) -> int | None:
        """Open the file for what the reply brings; returns the length of the whole result, where it is said."""
        begun = partial.etag
        if begun is not None and replies.nothing_left(response.status, response.headers, begun, partial.size):
            partial.resume(begun, verified="blake3" in self.features)
            return partial.size
        expected = (200,) if begun is None else (200, 206)
        if response.status not in expected or response.content_type == "application/json":
            raise replies.no_result(response.status, await replies.body(response))
        verified = "blake3" in self.features
        if response.status == 206 and begun is not None:
            length: int | None = replies.continued(response.headers, begun, partial.size)
            partial.resume(begun, verified=verified)
        else:
            length = response.content_length if "Content-Encoding" not in response.headers else None
            resumable = "range" in self.features
            partial.begin(etag=response.headers.get("ETag"), verified=verified, resumable=resumable)
        if length is not None:
            partial.make_room(length - partial.size)
        return length

    async def _call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        async with self._exchange(method, name, timeout=self._for_calls(), **options) as response:
            return await replies.payload(response)

    def _for_calls(self) -> aiohttp.ClientTimeout:
        shared = self._shared.timeout
        return aiohttp.ClientTimeout(total=CALL, sock_connect=shared.sock_connect, sock_read=shared.sock_read)

    def hold(self, task_id: str, job: Job) -> None:
        """Remember who submitted a task: its cancel must name one of them, and spare what the others download."""
        outputs = self._known.outputs
        outputs.setdefault(task_id, {})[job.id] = job.output
        outputs.move_to_end(task_id)
        if len(outputs) > REMEMBERED:
            outputs.popitem(last=False)

    def _doubt(self, sent: Mapping[str, str], response: aiohttp.ClientResponse) -> None:
        """A capability was not taken (clocks differ, another hub's worker): the next try is made with our secret."""
        secret = self._shared.authorization(self.url).get("Authorization")
        if self._bearer is None or sent.get("Authorization", secret) == secret:
            return
        clock = self._bearer.wrong_clock(response.headers.get("Date")) if response.status == 401 else ""
        why = f"{self.url} does not take what the hub gave us{f', and {clock}' if clock else ''}"
        if secret is not None:
            self.features -= {"capability"}
            raise WorkerUnreachable(f"{why}; it is tried with the secret")
        if clock:
            raise WorkerUnreachable(why)

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        name: str = "",
        *,
        at: str | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        open_to_all: bool = False,
        **options: Any,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        sent = {**({} if open_to_all else self.authorization), **(headers or {})}
        if json is not None:
            options["data"] = orjson.dumps(json)
            sent["Content-Type"] = "application/json"
        address = at or f"{self.url}/api/heygem/{name}"
        with worker_errors(self.url):
            # A redirect could carry the secret elsewhere, and no worker sends one.
            async with self._shared.session.request(
                method, address, headers=sent, allow_redirects=False, **options
            ) as response:
                if response.status in (401, 403):
                    self._doubt(sent, response)
                try:
                    yield response
                finally:
                    if not response.content.at_eof():
                        response.close()
