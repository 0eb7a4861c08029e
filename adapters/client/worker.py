"""The ports `Worker` and `Workers` over HTTP, for deployed workers and ours."""

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
from wakestream.adapters.client.wallet import Wallet
from wakestream.adapters.client.worker_auth import Bearer
from wakestream.adapters.client.worker_errors import worker_errors
from wakestream.adapters.config import addresses
from wakestream.adapters.disk.hashing_writer import algorithm_of
from wakestream.adapters.net.capabilities import is_token
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
"""Bytes that are read from a socket at a time."""

THREADS = 4
"""Threads that read and sync files, for all jobs together."""

REMEMBERED = 1024
"""Workers, tasks and unfinished downloads that are remembered."""

CALL = 60.0
"""Seconds that a call without a file transfer may take."""


class HttpWorkers:
    """Implements the port `Workers` over one HTTP session, which belongs to the event loop of its first use.

    Args:
        url: The worker's address, for jobs to which the hub names no worker.
        secret: The workers' secret; only configured hosts receive it.
        no_secret: The workers require no secret.
        secret_hosts: Further hosts that receive the secret.
        idle: Seconds without a byte after which a transfer fails.
        connect: Seconds to connect.
        ca: Verifies workers whose certificate the system does not trust.
    """

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
        """The address from the hub if there is one, else the configured address. Raises `WorkerRefused`."""
        if url is None and self._default is None:
            raise WorkerRefused(
                "neither the hub nor the settings name a worker; set HEYGEM_SERVER_URL or give --worker-url URL",
                code="no_worker",
            )
        try:
            return self._default or "" if url is None else addresses.worker_url(url)
        except ValueError as error:
            raise WorkerRefused(f"the worker's address from the hub {error}", code="bad_url") from None

    def authorization(self, url: str) -> Mapping[str, str]:
        """The header with the secret for a worker that the user configured; empty for others that the hub names."""
        return self._authorization if addresses.is_among(url, self._secret_hosts) else {}

    def withheld(self, url: str) -> bool:
        """Whether there is a secret that the worker at `url` does not receive."""
        return bool(self._authorization) and not self.authorization(url)

    def at(self, url: str | None) -> HttpWorker:
        """The worker at this address, with the features that it announced."""
        address = self.resolve(url)
        worker = self._workers.setdefault(address, HttpWorker(address, self))
        self._workers.move_to_end(address)
        if len(self._workers) > REMEMBERED:
            self._workers.popitem(last=False)
        return worker

    def of_job(self, job_id: str, wallet: Wallet) -> Workers:
        """The workers for one job: authorized by its capability if it has one, else by the secret."""
        return _JobsWorkers(self, job_id, wallet)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session, created at its first use."""
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
        """A new download, which resumes what an earlier one has left on the disk."""
        before = self.partials.get((task_id, output))
        partial = self.partials[task_id, output] = Partial(task_id, output, self.executor, before)
        if len(self.partials) > REMEMBERED:
            self.partials.popitem(last=False)
        return partial

    def give_up(self, task_id: str, output: Path | None = None) -> None:
        """Remove the downloads of a task, or the one to `output`."""
        for key in [key for key in self.partials if key[0] == task_id and output in (None, key[1])]:
            self.partials.pop(key).give_up()

    async def close(self) -> None:
        """Close all connections and end the threads."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        self.executor.shutdown(wait=False, cancel_futures=True)


class _JobsWorkers:
    """Implements `Workers` with one job's authorization."""

    def __init__(self, shared: HttpWorkers, job_id: str, wallet: Wallet) -> None:
        self._shared = shared
        self._bearer = Bearer(job_id, wallet, shared.no_secret)

    def at(self, url: str | None) -> HttpWorker:
        """See `Workers.at`."""
        return self._shared.at(url).authorized_by(self._bearer)

    def resolve(self, url: str | None) -> str:
        """See `Workers.resolve`."""
        return self._shared.resolve(url)


@dataclass(slots=True)
class Known:
    """What all jobs know of a worker: its features, and the outputs of each task by job."""

    features: frozenset[str] = frozenset()
    outputs: OrderedDict[str, dict[str, Path]] = field(default_factory=OrderedDict)


class HttpWorker:
    """Implements the port `Worker`. Its features beyond the common protocol are known after its first `health`."""

    def __init__(self, url: str, shared: HttpWorkers, bearer: Bearer | None = None) -> None:
        self.url = url
        self._known = Known()
        self._shared = shared
        self._bearer = bearer

    @property
    def features(self) -> frozenset[str]:
        """The features in its last `health`."""
        return self._known.features

    @features.setter
    def features(self, announced: frozenset[str]) -> None:
        self._known.features = announced

    def authorized_by(self, bearer: Bearer) -> HttpWorker:
        """The same worker with another authorization."""
        worker = HttpWorker(self.url, self._shared, bearer)
        worker._known = self._known
        return worker

    @property
    def authorization(self) -> Mapping[str, str]:
        """The header that authorizes a call. Raises `WorkerError` when there is no secret and no capability."""
        by_secret = self._shared.authorization(self.url)
        if self._bearer is None:
            return by_secret
        return self._bearer.header(self.features, by_secret, self.url if self._shared.withheld(self.url) else None)

    async def health(self) -> Health:
        """See `Worker.health`. Called without the secret, as old workers expect."""
        async with self._exchange("GET", "health", open_to_all=True, timeout=self._for_calls()) as response:
            found = replies.health(response.status, await replies.body(response))
        self.features = found.features
        return found

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """See `Worker.check`."""
        asked = {"files": [{"hash": ref.hash, "ext": ref.ext} for ref in files]}
        return replies.known_files(await self._call("POST", "check_files", json=asked), files)

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        """See `Worker.submit`.

        Our workers also receive the job, so that it can be cancelled alone, and render the same pair of files once. Old
        workers render at each submit, so an unfinished task of this job is followed instead.
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
        with replies.task_known():  # a worker without the files has lost the task too
            receipt = replies.receipt(await self._call("POST", "submit", json=asked))
        self.hold(receipt.task_id, job)
        return receipt

    async def _begun(self, job: Job) -> TaskReceipt | None:
        """This job's unfinished task, if any: named by the job (begun by the hub's copy), or of an earlier attempt.

        A finished task may be of other files."""
        earlier = [task for task, jobs in self._known.outputs.items() if job.id in jobs]
        for task_id in (job.id, *reversed(earlier)):
            with suppress(TaskLost, WorkerRefused):
                report = await self.report(task_id)
                if report.status not in FINISHED:
                    self.hold(task_id, job)
                    return TaskReceipt(task_id, position=report.position)
        return None

    async def report(self, task_id: str) -> TaskReport:
        """See `Worker.report`."""
        with replies.task_known():
            return replies.report(await self._call("GET", "progress", params={"task_id": task_id}))

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """See `Worker.cancel`. Old workers cannot cancel and are not called."""
        outputs = self._known.outputs.get(task_id, {})
        job = job_id or next(iter(outputs), None)
        output = outputs.pop(job, None) if job else None
        if not outputs:
            self._known.outputs.pop(task_id, None)
            self._shared.give_up(task_id)
        elif output is not None:  # other jobs continue their downloads
            self._shared.give_up(task_id, output)
        if "cancel" not in self.features:
            return
        asked = {"task_id": task_id} if job is None else {"task_id": task_id, "job_id": job}
        with replies.task_known():
            await self._call("POST", "cancel", json=asked)

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        """See `Worker.upload`. Yields the bytes at the worker, ten times a second."""
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
        """Whether the worker has the file of another license and accepts our proof that we have it too."""
        shown = self.authorization.get("Authorization", "").removeprefix("Bearer ")
        if client_proof.FEATURE not in self.features or file.size < client_proof.LEAST or not is_token(shown):
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
        """See `Worker.download`. After a temporary error, the next attempt resumes the download."""
        partial = self._shared.partial(task_id, output)
        resumable = "range" in self.features
        try:
            for part in (
                self._kept_alive(lambda: partial.prepare(resumable=resumable), partial),
                self._fetch(task_id, partial),
                self._kept_alive(partial.finish, partial),
            ):
                async with aclosing(part) as steps:
                    async for step in steps:
                        yield step
        except BaseException as error:
            if isinstance(error, FileError):  # the disk cannot store it, so its bytes are removed
                partial.unwanted = True
            await partial.leave()
            raise
        self._shared.partials.pop((task_id, output), None)
        yield Done(output, partial.size)

    async def _kept_alive(
        self, work: Callable[[], Coroutine[Any, Any, None]], partial: Partial
    ) -> AsyncGenerator[Downloading, None]:
        """Yield signs of life while the disk works, which may take longer than the idle timeout."""
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
                    partial.etag = None  # the bytes on the disk are of another result
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
                    cut = True  # `verify` decides whether the download is complete
                await partial.verify(length, cut=cut)
                yield Downloading(partial.size, length)

    async def _begin(self, response: aiohttp.ClientResponse, partial: Partial) -> int | None:
        """Open the file for the reply; returns the length of the complete result, if the reply has it."""
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
        """Remember the job of a task: a cancel names one of the jobs, and leaves the downloads of the others."""
        outputs = self._known.outputs
        outputs.setdefault(task_id, {})[job.id] = job.output
        outputs.move_to_end(task_id)
        if len(outputs) > REMEMBERED:
            outputs.popitem(last=False)

    def _doubt(self, sent: Mapping[str, str], response: aiohttp.ClientResponse) -> None:
        """The worker refused a capability (clocks or hubs differ): the next attempt uses the secret."""
        secret = self._shared.authorization(self.url).get("Authorization")
        if self._bearer is None or sent.get("Authorization", secret) == secret:
            return
        clock = self._bearer.wrong_clock(response.headers.get("Date")) if response.status == 401 else ""
        why = f"{self.url} refused the hub's capability{f'; {clock}' if clock else ''}"
        if secret is not None:
            self.features -= {"capability"}
            raise WorkerUnreachable(f"{why}; the next attempt uses the secret")
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
            # A redirect could send the secret to another host, and no worker redirects.
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
