"""A worker that calls the HTTP API (`/easy/…`) of the HeyGem / Duix engine directly.

The engine shares a folder with us. It has no health call, no queue and no cancel, renders one task at a time, reports
the end of a task once and then forgets it. Errors have HTTP status 200, and JSON often has the type text/html.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import subprocess
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson
from loguru import logger

from wakestream.adapters.client.download import disk_errors
from wakestream.adapters.client.upload import check_unchanged, read_errors
from wakestream.adapters.client.worker_replies import body, parsed, shortened, worker_errors
from wakestream.adapters.disk.atomic import replace_file, write_all, write_atomic
from wakestream.adapters.disk.part_file import beside, sync_rename
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.runtime.tasks import heartbeat
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
        return {ref.hash: all(self.folder.has(file) for file in files if file.hash == ref.hash) for ref in files}

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
    reply = data if isinstance(data, dict) else {}
    status, progress = reply.get("status"), reply.get("progress")
    word = ENDS.get(status, "processing") if isinstance(status, int) else "processing"
    percent = float(progress) if isinstance(progress, int | float) and math.isfinite(progress) else 0.0
    said = reply.get("msg")  # sometimes a number
    return TaskReport(word, min(100.0, max(0.0, percent)), shortened(str(said)) if said else "")


BLOCK = 4 * 1024 * 1024
"""Bytes that are copied at a time."""

READ_WITHIN = 600.0
"""Seconds in which ffmpeg must have read a result."""

ALIVE = 10.0
"""Seconds between two signs of life during a sync."""


class SharedFolder:
    """Files by hash, results by task, and how tasks ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, ref: FileRef) -> bool:
        """Whether the complete file is there."""
        return self._place(ref).is_file()

    async def store(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int, None]:
        """Copy a user's file; yields the bytes so far. Raises `FileChanged` when it has changed since it was hashed."""
        check_unchanged(file)
        async with aclosing(_copy(file.path, self._place(ref), file)) as copying:
            async for count in copying:
                yield count

    async def fetch(self, code: str, output: Path) -> AsyncGenerator[Downloading | Done, None]:
        """Copy a result. Raises `TaskLost` when it was removed."""
        try:
            size = self.result(code).stat().st_size
        except OSError:
            self.forget(code)
            raise TaskLost("the result is no longer in the engine's folder; the job is submitted again") from None
        async with aclosing(_copy(self.result(code), output)) as copying:
            async for count in copying:
                yield Downloading(count, size)
        yield Done(output, size)

    def result(self, code: str) -> Path:
        """The path of a task's result."""
        return self.path / f"{code}-r.mp4"

    def has_result(self, code: str) -> bool:
        """Whether there is a playable result; an engine that died leaves an unplayable one. Blocks."""
        return self.result(code).is_file() and _has_frames(self.result(code))

    def keep(self, code: str, report: TaskReport) -> None:
        """Remember how a task ended."""
        with disk_errors(self._ended(code)):
            write_atomic(self._ended(code), orjson.dumps(report), mode=0o666, sync=False)

    def ended(self, code: str) -> TaskReport | None:
        """How the task ended; None when that is unknown or its result was removed."""
        try:
            report = TaskReport(**orjson.loads(self._ended(code).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return report if report.status != "done" or self.result(code).is_file() else None

    def forget(self, code: str) -> None:
        """Forget how the task ended."""
        with contextlib.suppress(OSError):
            self._ended(code).unlink(missing_ok=True)

    def _ended(self, code: str) -> Path:
        return self.path / f"{code}.ended.json"

    def _place(self, ref: FileRef) -> Path:
        return self.path / f"{ref.hash}{ref.ext}"


async def _copy(source: Path, target: Path, file: Fingerprint | None = None) -> AsyncGenerator[int, None]:
    """Copy; yields the bytes so far. The target gets its name at the end, if `file` has not changed."""
    partial = beside(target, uuid.uuid4().hex)  # two jobs may copy the same file
    try:
        with _opened(source, "rb") as reading, _opened(partial, "wb") as writing:
            copied = 0
            while count := await asyncio.to_thread(_block, reading, writing, partial):
                copied += count
                yield copied
            with disk_errors(partial):  # synced before the rename
                async with aclosing(heartbeat(asyncio.to_thread(os.fsync, writing.fileno()), ALIVE)) as syncing:
                    async for _ in syncing:
                        yield copied
        if file is not None:
            check_unchanged(file)
        with disk_errors(target):
            replace_file(partial, target)
        await asyncio.to_thread(sync_rename, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _opened(path: Path, mode: Literal["rb", "wb"]) -> FileIO:
    with read_errors(path) if mode == "rb" else disk_errors(path):
        return path.open(mode, buffering=0)


def _block(reading: FileIO, writing: FileIO, target: Path) -> int:
    with read_errors(Path(str(reading.name))):
        block = reading.read(BLOCK)
    with disk_errors(target):
        write_all(writing, block)
    return len(block)


def _has_frames(path: Path) -> bool:
    """Whether ffmpeg reads at least one picture of a video."""
    read = (found_ffmpeg(), "-nostdin", "-i", str(path.absolute()), "-map", "0:v:0", "-c", "copy", "-f", "null", "-")
    try:
        ended = subprocess.run(read, capture_output=True, check=False, timeout=READ_WITHIN)
    except subprocess.TimeoutExpired:
        logger.warning("ffmpeg did not read {} within {:g} s; the result counts as unplayable", path, READ_WITHIN)
        return False
    frames = re.findall(rb"frame=\s*(\d+)", ended.stderr)
    return ended.returncode == 0 and bool(frames) and int(frames[-1]) > 0
