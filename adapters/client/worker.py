"""The ports `Worker` and `Workers` over HTTP, for deployed workers and ours."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.download import Partial, fetch
from wakestream.adapters.client.upload import FilePart, Meter, form, reported, small_files, tus_upload
from wakestream.adapters.client.worker_calls import REMEMBERED, WAIT, Known, Session, Wallet, WorkerCalls
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.disk.hashing_writer import algorithm_of, hash_of
from wakestream.adapters.net.capabilities import is_token
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model.engine import PREVIEWS, Preview
from wakestream.operators.model.errors import TaskLost, WorkerRefused
from wakestream.operators.model.events import INPUTS, Done, Downloading, FileRef, Fingerprint, Job, Note
from wakestream.operators.model.ports import Health, Output, Resumed, TaskReceipt, TaskReport, Workers
from wakestream.operators.stages.follow import FINISHED
from wakestream.streams.protocol.kinds import submit_fields

CUT = 2
"""Waits in a row that did not end with an answer, after which a job asks without waiting: a proxy may end them."""

MOST_WAITING = 32
"""Calls that wait at one time; the others leave room for transfers."""


PROOF = "proof"
"""Workers that accept proofs announce this feature."""

LEAST_PROVED = 1024 * 1024
"""Smaller files are uploaded, which is faster."""


class HttpWorkers(Session):
    """Implements the port `Workers` over one HTTP session. Its arguments are those of `Session`.

    Example:
        >>> worker = HttpWorkers("http://gpu:8383", secret).at(None)
    """

    @classmethod
    def of(cls, settings: Settings, **more: Any) -> HttpWorkers:
        """Those of the settings. `SettingsError`: a source that is trusted less says where the secret would go."""
        settings.check_sent("api_secret", "worker", "secret_hosts")
        url, secret, hosts = settings.worker_url, settings.api_secret, settings.secret_hosts
        return cls(url, secret, no_secret=settings.no_secret, secret_hosts=hosts, **more)

    def __post_init__(self) -> None:
        """Nothing is opened yet."""
        Session.__post_init__(self)
        self.waiting = 0
        self._known: Recent[str, Known] = Recent(REMEMBERED)
        self._partials: Recent[tuple[str, Path], Partial] = Recent(REMEMBERED)

    def at(
        self,
        url: str | None,
        job_id: str = "",
        wallet: Wallet | None = None,
        answers: dict[str, frozenset[str]] | None = None,
    ) -> HttpWorker:
        """The worker at this address, authorized by the capability of a job if that has one, else by the secret.

        `answers` has the features that each worker announced to this job, by address.
        """
        address = self.resolve(url)
        known = self._known[address] = self._known.get(address) or Known()
        return HttpWorker(address, self, known, job_id, wallet, answers)

    def of_job(self, job_id: str, wallet: Wallet) -> Workers:
        """The workers for one job: authorized by its capability if it has one, else by the secret."""
        return _JobsWorkers(self, job_id, wallet)

    def partial(self, task_id: str, output: Path) -> Partial:
        """A new download, which resumes what an earlier one has left on the disk."""
        before = self._partials.get((task_id, output))
        partial = self._partials[task_id, output] = Partial(task_id, output, self.executor, before)
        return partial

    async def fetched(
        self,
        task_id: str,
        output: Path,
        made: Output | None,
        job: Job | None,
        put: Recent[tuple[str, Path], Path],
        fetch: Callable[[Partial], AsyncGenerator[Downloading, None]],
    ) -> AsyncGenerator[Downloading | Note | Done, None]:
        """Fetch a result by `fetch`, and put it at `output` as its `job` says; see `Worker.download`.

        `put` remembers where each result was put: it is replaced when it is fetched again.
        """
        with closing(self.partial(task_id, output)) as partial:  # the next attempt waits for its end
            if made is not None and await partial.is_there(made):
                self._partials.pop((task_id, output), None)
                yield Done(partial.output, made.size)
                return
            partial.overwrite, partial.unnamed = job is not None and job.overwrite, job is not None and job.unnamed
            partial.own = put.get((task_id, output))
            async with aclosing(fetch(partial)) as steps:
                async for step in steps:
                    yield step
            self._partials.pop((task_id, output), None)
            put[task_id, output] = partial.output
            if partial.contradiction:
                yield Note(partial.contradiction)
            yield Done(partial.output, partial.size)

    def give_up(self, task_id: str, output: Path | None = None) -> None:
        """Remove the downloads of a task, or the one to `output`."""
        for key in [key for key in self._partials if key[0] == task_id and output in (None, key[1])]:
            self._partials.pop(key).give_up()


@dataclass(frozen=True, slots=True)
class _JobsWorkers:
    """Implements `Workers` with one job's authorization."""

    workers: HttpWorkers
    job_id: str
    wallet: Wallet
    answers: dict[str, frozenset[str]] = field(default_factory=dict)

    def at(self, url: str | None) -> HttpWorker:
        """See `Workers.at`."""
        return self.workers.at(url, self.job_id, self.wallet, self.answers)

    def resolve(self, url: str | None) -> str:
        """See `Workers.resolve`."""
        return self.workers.resolve(url)


async def proved(calls: WorkerCalls, file: Fingerprint, ref: FileRef) -> bool:
    """Whether the worker has the file, of another license, and accepts our proof that we have it too.

    False also when it lacks the file, or when the proof takes longer than half the idle timeout. Then the file is
    uploaded.
    """
    token = calls.authorization.get("Authorization", "").removeprefix("Bearer ")
    if PROOF not in calls.features or file.size < LEAST_PROVED or not is_token(token):
        return False
    named = {"hash": ref.hash, "ext": ref.ext}
    try:
        async with asyncio.timeout(calls.session.idle / 2):
            answer = await calls.call("POST", "prove", json=named)
            challenge = answer.get("challenge")
            if isinstance(challenge, str) and re.fullmatch(r"[0-9a-f]{64}", challenge):
                key, loop = bytes.fromhex(challenge), asyncio.get_running_loop()
                proof = await loop.run_in_executor(calls.session.executor, hash_of, file.path, file.size, key)
                answer = await calls.call("POST", "prove", json={**named, "proof": proof.hexdigest()})
            return answer.get("here") is True
    except (WorkerRefused, TimeoutError, OSError):
        return False


class HttpWorker(WorkerCalls):
    """Implements the port `Worker`. Its features beyond the common protocol are known after its first `health`."""

    session: HttpWorkers
    _cut = 0  # waits in a row that did not end with an answer

    @cached_property
    def _seen(self) -> dict[str, str]:
        """The version of each task's last report, if the next call may wait for another one."""
        return {}

    async def health(self) -> Health:
        """See `Worker.health`. Called without the secret, as old workers expect."""
        timeout = self.session.call_timeout
        async with self.exchange("GET", "health", open_to_all=True, timeout=timeout) as response:
            health = replies.health(response.status, await replies.body(response))
        self.features = health.features
        return health

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """See `Worker.check`."""
        asked = {"files": [{"hash": ref.hash, "ext": ref.ext} for ref in files]}
        return replies.known_files(await self.call("POST", "check_files", json=asked), files)

    async def submit(self, job: Job, files: Mapping[str, FileRef]) -> TaskReceipt:
        """See `Worker.submit`.

        Our workers also receive the job, so that it can be cancelled alone, and render the same pair of files once. Old
        workers render at each submit, so an unfinished task of this job is followed instead.
        """
        if not self.features and (begun := await self._begun(job)) is not None:
            return begun
        if not job.old_shape and INPUTS not in self.features:
            why = f"the worker at {self.url} knows only jobs of a video and an audio file, not the kind {job.kind}"
            raise WorkerRefused(f"{why}; update the worker first", code="unsupported")
        refs = {name: {"hash": ref.hash, "ext": ref.ext} for name, ref in files.items()}
        asked = submit_fields(replace(job, params=self.session.secrets.shown(job.params)), refs)
        if job.again:
            asked["again"] = True
        if "cancel" in self.features:
            asked["job_id"] = job.id
        with replies.task_known():  # a worker without the files has lost the task too
            receipt = replies.receipt(await self.call("POST", "submit", json=asked))
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

    def hold(self, task_id: str, job: Job) -> None:
        """Remember the job of a task: a cancel names one of the jobs, and leaves the downloads of the others."""
        outputs = self._known.outputs
        outputs[task_id] = {**outputs.get(task_id, {}), job.id: tuple(job.outputs.values())}
        for output in job.outputs.values():
            self._known.jobs[output] = job

    async def report(self, task_id: str) -> TaskReport:
        """See `Worker.report`. At once for the first time, then once it has changed, if the worker can wait."""
        asked, seen = {"task_id": task_id}, self._seen.pop(task_id, "")
        with replies.task_known():
            if seen:
                self._cut += 1
                self.session.waiting += 1
                try:
                    asked |= {"wait": f"{WAIT:g}", "seen": seen}
                    reply = await self.call("GET", "progress", params=asked, timeout=self.session.wait_timeout)
                finally:
                    self.session.waiting -= 1
                self._cut = 0
            else:
                reply = await self.call("GET", "progress", params=asked)
            version = str(reply.get("version") or "")
            if version and "wait" in self.features and self._cut < CUT and self.session.waiting < MOST_WAITING:
                self._seen[task_id] = version
            return replies.report({**reply, "live": task_id in self._seen})

    async def previews(self, task_id: str) -> AsyncGenerator[Preview, None]:
        """What the engine has so far of a task, until the task ends. Nothing from workers without previews.

        Raises:
            WorkerError: The worker refused the call, or the connection broke.
        """
        if not self.features:
            await self.health()
        if PREVIEWS not in self.features:
            return
        timeout = self.session.timeout
        async with self.exchange("GET", "previews", params={"task_id": task_id}, timeout=timeout) as response:
            if response.status != 200:
                replies.accepted(response.status, await replies.body(response))
            async for line in response.content:
                if line.startswith(b"data: ") and (preview := replies.preview(line[6:])) is not None:
                    yield preview

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """See `Worker.cancel`. Old workers cannot cancel and are not called."""
        outputs = self._known.outputs.get(task_id, {})
        job = job_id or next(iter(outputs), None)
        mine = outputs.pop(job, ()) if job else ()
        if not outputs:
            self._known.outputs.pop(task_id, None)
            self.session.give_up(task_id)
        for output in mine if outputs else ():  # other jobs continue their downloads
            self.session.give_up(task_id, output)
        if "cancel" not in self.features:
            return
        asked = {"task_id": task_id} if job is None else {"task_id": task_id, "job_id": job}
        with replies.task_known():
            await self.call("POST", "cancel", json=asked)

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int | Resumed, None]:
        """See `Worker.upload`. Yields the bytes at the worker, ten times a second."""
        return reported(Meter(), lambda meter: self._send(file, ref, meter), f"upload {ref.hash}")

    async def upload_small(self, files: Mapping[FileRef, Fingerprint]) -> None:
        """See `Worker.upload_small`."""
        body = await asyncio.get_running_loop().run_in_executor(self.session.executor, small_files, files)
        headers = {"Content-Type": "application/octet-stream"}
        async with self.exchange("POST", "upload_files", data=io.BytesIO(body), headers=headers) as response:
            replies.accepted(response.status, await replies.body(response))

    async def _send(self, file: Fingerprint, ref: FileRef, meter: Meter) -> None:
        if await proved(self, file, ref):
            return meter.resume(file.size)
        if "tus" in self.features and algorithm_of(ref.hash) == "blake3":
            return await tus_upload(self, f"{self.url}/files/", ref, file, meter)
        part = FilePart(file, self.session.executor, self.session.idle, meter.add)
        with part.own_errors():
            async with self.exchange("POST", "upload_file", data=form(part, ref)) as response:
                raw = await replies.body(response)
                replies.uploaded(replies.accepted(response.status, raw), ref)
        return None

    def download(
        self, task_id: str, output: Path, name: str | None = None, made: Output | None = None
    ) -> AsyncGenerator[Downloading | Note | Done, None]:
        """See `Worker.download`. After a temporary error, the next attempt resumes the download."""
        job, put = self._known.jobs.get(output), self._known.put
        return self.session.fetched(
            task_id, output, made, job, put, lambda partial: fetch(self, task_id, name, partial)
        )
