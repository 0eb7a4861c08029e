"""A worker that calls the HTTP API (`/easy/…`) of the HeyGem / Duix engine directly.

The engine shares a folder with us. It has no health call, no queue and no cancel, renders one task at a time, reports
the end of a task once and then forgets it. Errors have HTTP status 200, and JSON often has the type text/html.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from wakestream.adapters.client.heygem_folder import SharedFolder
from wakestream.adapters.client.worker_errors import shortened, worker_errors
from wakestream.adapters.client.worker_replies import body, parsed
from wakestream.operators.model.errors import TaskLost, WorkerError, WorkerRefused, WorkerUnreachable
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Health, Output, TaskReceipt, TaskReport, Worker, Workers

OK, BUSY, LOCKED, UNKNOWN = 10000, 10001, 10003, 10004
"""The engine's own codes. All of them come with HTTP 200, and 10001 and 10004 with `success: true` as well."""

ENDS = {2: "done", 3: "error"}
"""The final states of a task by the engine's status number; 1 is running."""

ANSWER = 30.0
"""Seconds that the engine has to answer a call."""


class EngineBusy(WorkerError):
    """The engine renders another task and has no queue; try again."""

    code = "engine_busy"
    retryable = True


class EasyEngine(Workers, Worker):
    """Implements the ports `Workers` and `Worker` for one engine.

    Files of our own in the shared folder remember how tasks ended (`CODE.ended.json`).

    Args:
        url: The engine's address.
        folder: Where its shared folder is mounted on this machine.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url.rstrip("/"), SharedFolder(folder)

    def resolve(self, url: str | None) -> str:
        """Always this engine."""
        return self.url

    def at(self, url: str | None) -> EasyEngine:
        """Always this engine."""
        return self

    async def health(self) -> Health:
        """Ask for a task that does not exist: an answer shows that the engine is up."""
        await self._call("GET", "query", params={"code": "is-anybody-there"})
        return Health(initialized=True)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """Whether each file is in the shared folder."""
        return {ref.hash: all(self.folder.has(one) for one in files if one.hash == ref.hash) for ref in files}

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int, None]:
        """Copy the file into the shared folder; it gets its name when it is complete."""
        return self.folder.store(file, ref)

    async def submit(self, job: Job, files: Mapping[str, FileRef]) -> TaskReceipt:
        """Start a task, unless it runs or its result exists. Raises `EngineBusy`, `WorkerRefused`."""
        if not job.old_shape:
            raise WorkerRefused(f"this engine makes a video of a video and an audio file only, not {job.kind!r}")
        video, audio = files.values()
        code = f"{video.hash[:16]}{audio.hash[:16]}"
        known = await self._look(code)
        if known is not None and known.status != "error":
            return TaskReceipt(code, cached=known.status == "done")
        self.folder.forget(code)
        asked = {
            "audio_url": f"{audio.hash}{audio.ext}", "video_url": f"{video.hash}{video.ext}", "code": code,
            "chaofen": 0, "watermark_switch": 0, "pn": 1,
        }  # fmt: skip
        json = {"Content-Type": "application/json"}
        said = await self._call("POST", "submit", data=orjson.dumps(asked), headers=json)
        if said["code"] in (BUSY, LOCKED):
            raise EngineBusy("the engine renders another task")
        if said["code"] != OK:
            raise _refusal(said)
        return TaskReceipt(code)

    async def report(self, task_id: str) -> TaskReport:
        """The progress of a task. Raises `TaskLost` when the engine has restarted, since it forgets its tasks."""
        report = await self._look(task_id)
        if report is None:
            raise TaskLost("the engine does not know the task any more")
        return report

    async def _look(self, code: str) -> TaskReport | None:
        ended = self.folder.ended(code)
        if ended is not None:  # the engine reports an end only once
            return ended
        said = await self._call("GET", "query", params={"code": code})
        if said["code"] == UNKNOWN:
            plays = await asyncio.to_thread(self.folder.has_result, code)
            return TaskReport("done", 100.0) if plays else None
        if said["code"] != OK:
            raise _refusal(said)
        report = _report(said.get("data"))
        if report.status != "processing":
            self.folder.keep(code, report)
        return report

    def download(
        self, task_id: str, output: Path, name: str | None = None, made: Output | None = None
    ) -> AsyncGenerator[Downloading | Done, None]:
        """Copy the result from the shared folder; `output` appears when it is complete."""
        return self.folder.fetch(task_id, output)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """Does nothing: the engine cannot cancel, and renders to the end."""

    async def _call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        """The engine's answer, an object with a `code`. Its content type is often text/html."""
        timeout = aiohttp.ClientTimeout(total=ANSWER)
        with worker_errors(self.url):
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
                ) as session,
                session.request(method, f"{self.url}/easy/{name}", allow_redirects=False, **options) as response,
            ):
                said, status = parsed(await body(response)), response.status
        if said is None and status >= 500:
            raise WorkerUnreachable(f"the engine at {self.url} does not run: HTTP {status}")
        if said is None or type(said.get("code")) is not int:
            raise WorkerRefused(f"{self.url} is not an engine: its answer is not JSON with a code; correct the address")
        return said


def _refusal(said: Mapping[str, Any]) -> WorkerRefused:
    return WorkerRefused(f"the engine refused: {said['code']} {shortened(str(said.get('msg') or ''))}".rstrip())


def _report(data: object) -> TaskReport:
    found = data if isinstance(data, dict) else {}
    status, progress = found.get("status"), found.get("progress")
    word = ENDS.get(status, "processing") if isinstance(status, int) else "processing"
    percent = float(progress) if isinstance(progress, int | float) and math.isfinite(progress) else 0.0
    said = found.get("msg")  # sometimes a number
    return TaskReport(word, min(100.0, max(0.0, percent)), shortened(str(said)) if said else "")
