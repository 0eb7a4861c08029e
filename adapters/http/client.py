"""The GPU's HTTP side as seen from here, old workers and ours: the ports `Worker` and `Workers` over aiohttp."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from wakestream.adapters import addresses
from wakestream.adapters.http import client_replies as replies
from wakestream.adapters.http.client_download import Partial
from wakestream.adapters.http.client_errors import worker_errors
from wakestream.adapters.http.client_upload import FilePart, form
from wakestream.adapters.http.meter import Meter
from wakestream.operators.errors import WakestreamError, WorkerRefused
from wakestream.operators.events import Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.ports import Health, TaskReceipt, TaskReport

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

    def __init__(self, url: str | None = None, secret: str | None = None, *, idle: float = 60.0, connect: float = 10.0):
        self._default = addresses.worker_url(url) if url else None
        self.authorization = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=idle)
        self.idle = idle
        self._session: aiohttp.ClientSession | None = None
        self.executor = ThreadPoolExecutor(THREADS, "wakestream-transfer")
        self.partials: OrderedDict[tuple[str, Path], Partial] = OrderedDict()
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

    def at(self, url: str | None) -> HttpWorker:
        """The worker there; what it announced is remembered with it."""
        address = self.resolve(url)
        worker = self._workers.setdefault(address, HttpWorker(address, self))
        self._workers.move_to_end(address)
        if len(self._workers) > REMEMBERED:
            self._workers.popitem(last=False)
        return worker

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session, made at its first use: it belongs to the loop that runs then."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                timeout=self.timeout,
                read_bufsize=READ_BUFFER,
            )
        return self._session

    def keep(self, task_id: str, partial: Partial) -> None:
        """Another try at this download may go on where this one broke off, at whatever address the worker has then."""
        self.partials[task_id, partial.output] = partial
        if len(self.partials) > REMEMBERED:
            self.partials.popitem(last=False)[1].discard()

    async def close(self) -> None:
        """Let go of all connections and threads."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        while self.partials:
            self.partials.popitem()[1].discard()
        self.executor.shutdown(wait=False, cancel_futures=True)


class HttpWorker:
    """One worker. What it can do beyond the field's protocol is known after its first `health`."""

    def __init__(self, url: str, shared: HttpWorkers) -> None:
        self.url = url
        self.features: frozenset[str] = frozenset()
        self._shared = shared
        self._jobs: OrderedDict[str, dict[str, None]] = OrderedDict()

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
        """Our own workers are told the job as well, so that it alone can be cancelled."""
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
        self._hold(receipt.task_id, {**self._jobs.get(receipt.task_id, {}), job.id: None})
        return receipt

    async def report(self, task_id: str) -> TaskReport:
        """How far the task is."""
        with replies.task_known():
            return replies.report(await self._call("GET", "progress", params={"task_id": task_id}))

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Give the task up for `job_id`, or for a job that submitted it; old workers cannot, and are not asked."""
        jobs = self._jobs.pop(task_id, {})
        job = job_id or next(iter(jobs), None)
        self._hold(task_id, {one: None for one in jobs if one != job})
        if "cancel" not in self.features:
            return
        asked = {"task_id": task_id} if job is None else {"task_id": task_id, "job_id": job}
        with replies.task_known():
            await self._call("POST", "cancel", json=asked)

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int]:
        """Send one file; yields the bytes sent so far, about ten times a second and at the end."""
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
        part = FilePart(file, self._shared.executor, self._shared.idle, meter.add)
        try:
            async with self._exchange("POST", "upload_file", data=form(part, ref)) as response:
                raw = await replies.body(response)
                replies.accepted(response.status, raw)
        except WakestreamError:
            if part.fault is not None:
                raise part.fault from None
            raise

    async def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        """Fetch the result. After an error that another try can mend, that try goes on where this one broke off."""
        partial = self._shared.partials.pop((task_id, output), None) or Partial(task_id, output)
        try:
            partial.prepare()
            async with aclosing(self._fetch(task_id, partial)) as steps:
                async for step in steps:
                    yield step
            await asyncio.get_running_loop().run_in_executor(self._shared.executor, partial.finish)
        except WakestreamError as error:
            partial.close()
            if error.retryable and partial.etag and partial.size and "range" in self.features:
                self._shared.keep(task_id, partial)
            else:
                partial.discard()
            raise
        except BaseException:
            partial.discard()
            raise
        yield Done(output, partial.size)

    async def _fetch(self, task_id: str, partial: Partial) -> AsyncGenerator[Downloading, None]:
        headers = {"Range": f"bytes={partial.size}-", "If-Range": partial.etag} if partial.etag else None
        with replies.task_known():
            async with self._exchange("GET", "download", params={"task_id": task_id}, headers=headers) as response:
                length = await self._begin(response, partial)
                meter = Meter(partial.size)
                yield Downloading(partial.size, length)
                try:
                    async for chunk in response.content.iter_any():
                        partial.write(chunk)
                        if meter.add(len(chunk)):
                            yield Downloading(partial.size, length)
                except aiohttp.ClientPayloadError:
                    pass  # cut off: what came decides what to call it
                partial.verify(length)
                yield Downloading(partial.size, length)

    async def _begin(self, response: aiohttp.ClientResponse, partial: Partial) -> int | None:
        """Open the file for what the reply brings; returns the length of the whole result, where it is said."""
        begun, partial.etag = partial.etag, None  # whatever goes wrong in here, there is nothing to go on with
        expected = (200,) if begun is None else (200, 206)
        if response.status not in expected or response.content_type == "application/json":
            raise replies.no_result(response.status, await replies.body(response))
        if response.status == 206:
            length: int | None = replies.continued(response.headers, begun, partial.size)
            partial.resume(begun)
        else:
            length = response.content_length if "Content-Encoding" not in response.headers else None
            partial.begin(etag=response.headers.get("ETag"), verified="blake3" in self.features)
        if length is not None:
            partial.make_room(length - partial.size)
        return length

    async def _call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        async with self._exchange(method, name, timeout=self._for_calls(), **options) as response:
            return await replies.payload(response)

    def _for_calls(self) -> aiohttp.ClientTimeout:
        shared = self._shared.timeout
        return aiohttp.ClientTimeout(total=CALL, sock_connect=shared.sock_connect, sock_read=shared.sock_read)

    def _hold(self, task_id: str, jobs: dict[str, None]) -> None:
        """Remember which jobs submitted a task, for its cancellation."""
        if jobs:
            self._jobs[task_id] = jobs
        if len(self._jobs) > REMEMBERED:
            self._jobs.popitem(last=False)

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        name: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        open_to_all: bool = False,
        **options: Any,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        sent = {**({} if open_to_all else self._shared.authorization), **(headers or {})}
        if json is not None:
            options["data"] = orjson.dumps(json)
            sent["Content-Type"] = "application/json"
        address = f"{self.url}/api/heygem/{name}"
        with worker_errors(self.url):
            # A redirect could carry the secret elsewhere, and no worker sends one.
            async with self._shared.session.request(
                method, address, headers=sent, allow_redirects=False, **options
            ) as response:
                try:
                    yield response
                finally:
                    if not response.content.at_eof():
                        response.close()
