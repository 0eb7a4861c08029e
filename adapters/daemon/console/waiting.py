"""Jobs that were started while their files are still copied into the daemon. Each is submitted when all are there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wakestream.adapters.daemon.api.auth import ApiError, plain_error
from wakestream.adapters.daemon.api.requests import Wanted
from wakestream.adapters.daemon.console.uploads import Upload, Uploads
from wakestream.operators.model.errors import WrongInput

LASTS: Final = 24 * 3600.0
"""Seconds after which a job whose files did not arrive is dropped."""

MOST: Final = 2000


@dataclass(slots=True)
class Waiting:
    """A job that waits for its files. `key` names its results; `refused` says why it could not be submitted.

    `submitting` is there while it is submitted, and set at the end of that.
    """

    asked: Wanted
    key: str
    files: Mapping[str, Upload]
    at: float
    refused: dict[str, Any] | None = None
    submitting: asyncio.Event | None = field(default=None, repr=False)

    @property
    def is_ready(self) -> bool:
        """Whether all its files are there."""
        return all(upload.complete for upload in self.files.values())


@dataclass(slots=True)
class WaitingJobs:
    """The jobs that wait for files, by id. They are in memory only: an incomplete file does not outlive the daemon.

    Attributes:
        uploads: The files.
        begin: Submits a job.
        tell: Sends an event to all pages.
        now: UNIX seconds.
    """

    uploads: Uploads
    begin: Callable[[Waiting], Awaitable[object]]
    tell: Callable[[str, object], None]
    now: Callable[[], float] = time.time
    jobs: dict[str, Waiting] = field(default_factory=dict)

    def paths(self) -> set[str]:
        """The paths of their files."""
        return {str(upload.path) for job in self.jobs.values() for upload in job.files.values()}

    def add(self, job: Waiting) -> None:
        """Keep a job until its files are there; one with the same id is replaced."""
        for old in [one for one in self.jobs.values() if one.at < self.now() - LASTS]:
            self.drop(old.asked.job)
        if len(self.jobs) >= MOST:
            why = f"{MOST} jobs wait for their files; start this one when some of them have begun"
            raise ApiError(429, "many_waiting", why, count=MOST)
        self.jobs[job.asked.job] = job
        self.tell("wait", self.plain(job))

    async def settled(self, job: str) -> None:
        """Wait while a job is submitted: its files belong to the outbox after that."""
        found = self.jobs.get(job)
        if found is not None and found.submitting is not None:
            await found.submitting.wait()

    def drop(self, job: str) -> Waiting | None:
        """Forget a job."""
        found = self.jobs.pop(job, None)
        if found is not None:
            self.tell("wait", {"id": job, "gone": True})
        return found

    async def arrived(self, upload: Upload) -> None:
        """Submit the jobs that have waited for this file only."""
        for job in list(self._of(upload)):
            if job.is_ready and job.submitting is None and self.jobs.get(job.asked.job) is job:
                await self._submit(job)

    async def _submit(self, job: Waiting) -> None:
        job.submitting = asyncio.Event()
        try:
            await self.begin(job)
        except (ApiError, WrongInput) as error:
            job.refused = plain_error(error)
            self.tell("wait", self.plain(job))
        else:
            self.drop(job.asked.job)
        finally:
            job.submitting.set()
            job.submitting = None

    def lost(self, upload: Upload) -> None:
        """Tell the pages which jobs a file was for that did not arrive."""
        for job in self._of(upload):
            self.tell("wait", self.plain(job))

    def _of(self, upload: Upload) -> Iterator[Waiting]:
        return (job for job in list(self.jobs.values()) if any(one is upload for one in job.files.values()))

    def plain(self, job: Waiting) -> dict[str, Any]:
        """A job for the page. A file that has to be chosen again is `lost`."""
        return {
            "id": job.asked.job, "kind": job.asked.kind, "params": job.asked.params,
            "inputs": [
                {
                    "name": name, "file": upload.name, "size": upload.size, "content": upload.kind, "upload": upload.id,
                    "by_daemon": upload.by_daemon,
                    "state": "here" if upload.complete else "coming" if self.uploads.knows(upload) else "lost",
                }
                for name, upload in job.files.items()
            ],
            "outputs": {name: path.suffix for name, path in job.asked.outputs.items()},
            "at": job.at, "refused": job.refused,
        }  # fmt: skip

    def all_plain(self) -> list[dict[str, Any]]:
        """All jobs for the page."""
        return [self.plain(job) for job in self.jobs.values()]
