"""Jobs that were started while their files are still copied into the daemon. Each is submitted when all are there.

Each has a small file in a folder, so that it outlives the daemon. The next run copies the files again that the daemon
copies by itself; a file that a page sends has to be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from loguru import logger

from wakestream.adapters.daemon.api.auth import ApiError, plain_error
from wakestream.adapters.daemon.api.requests import SubmittedJob, Word
from wakestream.adapters.daemon.console.upload_validation import file_name
from wakestream.adapters.daemon.console.uploads import UploadedFile, Uploads, about, of_disk
from wakestream.adapters.disk.atomic import retry_in_use, sync_folder, write_atomic
from wakestream.adapters.runtime.tasks import finish_despite_cancel
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.outbox.facts import Caller

MOST: Final = 2000
"""Jobs that may wait."""

STOPPING: Final = 503
"""The status of a refusal because the daemon stops: the next start submits the job."""


class Started(msgspec.Struct, kw_only=True):
    """What a page starts, as in its call. `outputs` are the endings of the results."""

    id: Word
    kind: str = ""
    params: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    gpus: tuple[str, ...] = ()
    batch: str = ""
    caller: Caller | None = None


@dataclass(slots=True)
class Waiting:
    """A job that waits for its files.

    Attributes:
        started: What the page started.
        asked: The job; the paths of its inputs are known when they are there.
        files: The uploads by input.
        at: When it was started, in UNIX seconds.
        refused: Why it could not be submitted.
        failed: Why the daemon could not copy a file, by the id of its upload.
        submitting: It is there while the job is submitted, and set at the end of that.
    """

    started: Started
    asked: SubmittedJob
    files: Mapping[str, UploadedFile]
    at: float
    refused: dict[str, Any] | None = None
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    submitting: asyncio.Event | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.started.id

    @property
    def is_ready(self) -> bool:
        """Whether all its files are there."""
        return all(upload.complete for upload in self.files.values())

    @property
    def key(self) -> str:
        """The name of its files."""
        return file_name(self.id)


class _Record(Started, kw_only=True):
    """A waiting job on the disk."""

    files: dict[str, dict[str, Any]]
    at: float
    refused: dict[str, Any] | None = None
    failed: dict[str, dict[str, Any]] = {}


Ask = Callable[[Started, Mapping[str, UploadedFile]], SubmittedJob]
"""Makes a job of what a page started, and its files."""


@dataclass(slots=True)
class WaitingJobs:
    """The jobs that wait for files, by id.

    Attributes:
        folder: Where they are stored.
        uploads: The files.
        begin: Submits a job.
        tell: Sends an event to all pages.
        shown: The parameters of a job of a kind without its secrets.
        refuse: Called with a job of a program that cannot be submitted any more, and the reason.
    """

    folder: Path
    uploads: Uploads
    begin: Callable[[Waiting], Awaitable[object]]
    tell: Callable[[str, object], None]
    shown: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] = lambda _, params: params
    refuse: Callable[[Waiting, Mapping[str, Any]], object] = lambda *_: None
    jobs: dict[str, Waiting] = field(default_factory=dict)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _gone: set[Path] = field(default_factory=set)  # the records of jobs that do not wait any more

    def load(self, ask: Ask, submitted: Container[str]) -> None:
        """Read the jobs of earlier runs, except those that were `submitted` since."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        jobs: list[Waiting] = []
        for path in self.folder.glob("*.json"):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=_Record)
                if record.id in submitted:
                    self._gone.add(path)
                    continue
                jobs.append(self._restored(record, ask))
            except (OSError, ValueError, TypeError, KeyError, ApiError, WrongInput) as error:
                logger.warning("{} is no job that waits for its files: {}", path, error)
        self.jobs = {job.id: job for job in sorted(jobs, key=lambda job: job.at)}
        self.uploads.expect_only(self.paths())

    def _restored(self, record: _Record, ask: Ask) -> Waiting:
        files = {
            name: self.uploads.restored(file, expected=bool(file["source"]) and file["id"] not in record.failed)
            for name, file in record.files.items()
        }
        return Waiting(record, ask(record, files), files, record.at, record.refused, record.failed)

    async def go_on(self, copy: Callable[[UploadedFile], None]) -> None:
        """Go on with the jobs of earlier runs: `copy` the files that the daemon copies, and submit what is complete."""
        await self.clear()
        for job in list(self.jobs.values()):
            for upload in job.files.values():
                if upload.source and not upload.complete and self.uploads.knows(upload):
                    copy(upload)
        for job in list(self.jobs.values()):
            if job.is_ready and job.refused is None and job.submitting is None:
                await self._submit(job)

    def paths(self) -> set[str]:
        """The paths of their files."""
        return {str(upload.path) for job in self.jobs.values() for upload in job.files.values()}

    async def add(self, job: Waiting) -> None:
        """Keep a job until its files are there; one with the same id is replaced."""
        if job.id not in self.jobs and len(self.jobs) >= MOST:
            why = f"{MOST} jobs wait for their files; start this one when some of them have begun"
            raise ApiError(429, "many_waiting", why, count=MOST)
        self.jobs[job.id] = job
        try:
            await self._store(job)
        except ApiError:
            if self.jobs.get(job.id) is job:
                await self.drop(job.id)
            raise

    async def _store(self, job: Waiting) -> None:
        """Store and show a job. `ApiError` if it cannot be written."""
        files = {name: about(upload) for name, upload in job.files.items()}
        started = {name: getattr(job.started, name) for name in Started.__struct_fields__}
        record = _Record(**started, files=files, at=job.at, refused=job.refused, failed=job.failed)
        async with self._writing:
            if self.jobs.get(job.id) is job:
                try:
                    await asyncio.to_thread(write_atomic, self._path(job), msgspec.json.encode(record))
                except OSError as error:
                    raise of_disk(error) from None
        await self.clear()
        if self.jobs.get(job.id) is job:
            self.tell("wait", self.plain(job))

    def _path(self, job: Waiting) -> Path:
        return self.folder / f"{job.key}.json"

    async def _changed(self, job: Waiting, why: Mapping[str, Any]) -> None:
        """Keep a job with the fault `why`, which a page can mend; a program has to ask again."""
        if job.started.caller is not None:
            self.refuse(job, why)  # before it is dropped: its program may ask for it at any time
            await self.drop(job.id)
            return
        try:
            await self._store(job)
        except ApiError as error:
            logger.warning("job {} waits for its files and cannot be stored: {}", job.id, error)
            self.tell("wait", self.plain(job))

    async def settled(self, job: str) -> None:
        """Wait while a job is submitted: its files belong to the outbox after that."""
        waiting = self.jobs.get(job)
        if waiting is not None and waiting.submitting is not None:
            await waiting.submitting.wait()

    async def drop(self, job: str) -> Waiting | None:
        """Forget a job."""
        waiting = self.jobs.pop(job, None)
        if waiting is not None:
            self._gone.add(self._path(waiting))
            self.tell("wait", {"id": job, "gone": True})
            await finish_despite_cancel(self.clear())
        return waiting

    async def clear(self) -> None:
        """Remove the records of jobs that do not wait any more; one that cannot be removed is tried again later."""
        async with self._writing:
            if gone := self._gone and self._gone - {self._path(job) for job in self.jobs.values()}:
                left = await asyncio.to_thread(_remove, gone)
                self._gone = (self._gone - gone) | left

    async def arrived(self, upload: UploadedFile) -> None:
        """Submit the jobs that have waited for this file only."""
        for job in list(self._of(upload)):
            if job.is_ready and job.submitting is None and self.jobs.get(job.id) is job:
                await self._submit(job)

    async def _submit(self, job: Waiting) -> None:
        job.submitting = asyncio.Event()
        try:
            await self.begin(job)
        except (ApiError, WrongInput) as error:
            if isinstance(error, ApiError) and error.status == STOPPING:
                return
            job.refused = plain_error(error)
            await self._changed(job, job.refused)
        else:
            await self.drop(job.id)
        finally:
            job.submitting.set()
            job.submitting = None

    async def lost(self, upload: UploadedFile, why: dict[str, Any] | None = None) -> None:
        """Show which jobs a file was for that did not arrive, and keep why the daemon could not copy it."""
        for job in list(self._of(upload)):
            if why is None:
                self.tell("wait", self.plain(job))
            else:
                job.failed[upload.id] = why
                await self._changed(job, why)

    def _of(self, upload: UploadedFile) -> Iterator[Waiting]:
        return (job for job in list(self.jobs.values()) if any(file is upload for file in job.files.values()))

    def plain(self, job: Waiting) -> dict[str, Any]:
        """A job for the page. A file that has to be chosen again is `lost`."""
        return {
            "id": job.id, "kind": job.started.kind, "params": self.shown(job.started.kind, job.started.params),
            "inputs": [
                {
                    "name": name, "file": upload.name, "size": upload.shown_size, "content": upload.kind,
                    "upload": upload.id, "accepts": upload.accepts, "source": upload.source, "sent": upload.sent,
                    "failed": job.failed.get(upload.id),
                    "state": "here" if upload.complete else "coming" if self.uploads.knows(upload) else "lost",
                }
                for name, upload in job.files.items()
            ],
            "outputs": job.started.outputs, "at": job.at, "refused": job.refused, "batch": job.started.batch,
        }  # fmt: skip

    def all_plain(self) -> list[dict[str, Any]]:
        """All jobs for the page."""
        return [self.plain(job) for job in self.jobs.values()]


def _remove(paths: Collection[Path]) -> set[Path]:
    """Remove records for good; returns those that could not be removed."""
    left = set[Path]()
    for path in paths:
        try:
            retry_in_use(partial(path.unlink, missing_ok=True))
        except OSError as error:
            logger.warning("{} cannot be removed now: {}; the next start would submit its job", path, error)
            left.add(path)
    for folder in {path.parent for path in paths}:
        with suppress(OSError):  # some network file systems cannot sync a folder
            sync_folder(folder)
    return left
