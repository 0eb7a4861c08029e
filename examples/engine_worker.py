"""Another worker protocol: the HeyGem / Duix engine's own HTTP API, with no worker of ours before it.

ENGINE_URL=http://gpu:8383 ENGINE_FOLDER=/mnt/engine/temp python examples/engine_worker.py VIDEO AUDIO RESULT

The engine shares a folder with us, has no health call and no queue, tells the end of a task once and then forgets it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import imageio_ffmpeg  # type: ignore[import-untyped]
import orjson
from reactivex import Observable

from wakestream.adapters.run_jobs import new_job, run_jobs
from wakestream.operators import (
    Backoff,
    Done,
    Downloading,
    FileRef,
    FileUnusable,
    Fingerprint,
    Health,
    Job,
    JobEvent,
    Policy,
    TaskLost,
    TaskReceipt,
    TaskReport,
    WorkerError,
    WorkerRefused,
    WorkerUnreachable,
    dedupe,
    download,
    follow,
    mendable,
    online,
    submit,
    synthesize,
    then,
    timeout_idle,
    upload,
)
from wakestream.streams import World, guarded

OK, BUSY, LOCKED, UNKNOWN = 10000, 10001, 10003, 10004
"""The engine's own codes. All of them come with HTTP 200, and 10001 and 10004 with `success: true` as well."""

FINISHED, BROKEN = 2, 3
"""The ends of a task; 1 is running."""

STALL = 900.0
"""Seconds without any progress after which the engine is believed to hang, as it does at 5 % and at 20 %."""


class EngineBusy(WorkerError):
    """It works on another task and has no queue: ask again."""

    code = "engine_busy"
    retryable = True


def beside_the_engine(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
    """The standard stages, with patience for an engine that is busy and none for one that hangs."""
    workers, random = world.workers, world.random
    patient = replace(
        policy, call=Backoff(initial=2.0, max_delay=10.0, max_elapsed=policy.execution, retry_on=mendable)
    )
    return guarded(
        lambda readings: submit(job, world.hub, readings, policy)
        .pipe(then(online(workers, policy, random)), then(dedupe(workers, readings, policy, random)))
        .pipe(then(upload(workers, policy, random)), then(synthesize(job, workers, patient, random)))
        .pipe(then(lambda task: follow(workers, policy, random)(task).pipe(timeout_idle(STALL, "engine"))))
        .pipe(then(download(job.output, workers, policy, random))),
        job, world, policy, cancel,
    )  # fmt: skip


class Engine:
    """The ports `Workers` and `Worker` on one engine at `url`, whose shared folder is mounted here as `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url.rstrip("/"), folder

    def resolve(self, url: str | None) -> str:
        """Always this engine, whatever the hub says of its workers."""
        return self.url

    def at(self, url: str | None) -> Engine:
        """Always this engine."""
        return self

    async def health(self) -> Health:
        """It has no such call: that it answers a question about no task is all there is to know."""
        await self._call("GET", "query", params={"code": "is-anybody-there"})
        return Health(initialized=True)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        """What lies in the shared folder."""
        return {ref.hash: (self.folder / f"{ref.hash}{ref.ext}").is_file() for ref in files}

    async def upload(self, file: Fingerprint, ref: FileRef) -> AsyncGenerator[int, None]:
        """Copy it there; it gets its name when it is whole."""
        async for copied in _copy(file.path, self.folder / f"{ref.hash}{ref.ext}"):
            yield copied

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        """Start the pair, unless its task runs or its result stands. Raises `EngineBusy`, `WorkerRefused`."""
        code = f"{video.hash[:16]}{audio.hash[:16]}"
        known = await self._look(code)
        if known is not None and known.status != "error":
            return TaskReceipt(code, cached=known.status == "done")
        self._ended(code).unlink(missing_ok=True)
        names = {"audio_url": f"{audio.hash}{audio.ext}", "video_url": f"{video.hash}{video.ext}"}
        asked = {**names, "code": code, "chaofen": 0, "watermark_switch": 0, "pn": 1}
        said = await self._call(
            "POST", "submit", data=orjson.dumps(asked), headers={"Content-Type": "application/json"}
        )
        if said["code"] in (BUSY, LOCKED):
            raise EngineBusy("the engine works on another task")
        if said["code"] != OK:
            raise WorkerRefused(f"the engine refused the task: {said['code']} {said.get('msg', '')}")
        return TaskReceipt(code)

    async def report(self, task_id: str) -> TaskReport:
        """How far it is. `TaskLost` when the engine has restarted: it remembers nothing."""
        report = await self._look(task_id)
        if report is None:
            raise TaskLost("the engine does not know the task any more")
        return report

    async def _look(self, code: str) -> TaskReport | None:
        if self._ended(code).is_file():  # it was told once, and is not told again
            return TaskReport(**orjson.loads(self._ended(code).read_bytes()))
        said = await self._call("GET", "query", params={"code": code})
        if said["code"] == UNKNOWN:
            return TaskReport("done", 100.0) if await asyncio.to_thread(_plays, self.result(code)) else None
        data = said.get("data") or {}
        status = {FINISHED: "done", BROKEN: "error"}.get(data.get("status", 0), "processing")
        report = TaskReport(status, float(data.get("progress") or 0), str(data.get("msg") or ""))
        if status != "processing":
            _write(self._ended(code), orjson.dumps(report))
        return report

    async def download(self, task_id: str, output: Path) -> AsyncGenerator[Downloading | Done, None]:
        """Copy the result from the shared folder; `output` appears when it is whole."""
        size = self.result(task_id).stat().st_size
        async for copied in _copy(self.result(task_id), output):
            yield Downloading(copied, size)
        yield Done(output, size)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        """It cannot: it renders to the end, and nobody waits for it."""

    def result(self, code: str) -> Path:
        """Where the engine leaves its result."""
        return self.folder / f"{code}-r.mp4"

    def _ended(self, code: str) -> Path:
        return self.folder / f"{code}.ended.json"

    async def _call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
                session.request(method, f"{self.url}/easy/{name}", **options) as response,
            ):
                said = orjson.loads(await response.read())  # whatever its content type: text/html is usual
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WorkerUnreachable(f"the engine at {self.url} does not answer ({type(error).__name__})") from None
        except orjson.JSONDecodeError:
            raise WorkerRefused(f"what answers at {self.url} is no engine: its answer is not JSON") from None
        if not isinstance(said, dict) or "code" not in said:
            raise WorkerRefused(f"what answers at {self.url} is no engine: its answer has no code")
        return said


async def _copy(source: Path, target: Path) -> AsyncGenerator[int, None]:
    partial = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as reading, partial.open("wb") as writing:
            while chunk := await asyncio.to_thread(reading.read, 4 * 1024 * 1024):
                await asyncio.to_thread(writing.write, chunk)
                yield writing.tell()
        partial.replace(target)
    except OSError as error:
        raise FileUnusable(f"{source} cannot be copied to {target}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


def _plays(path: Path) -> bool:
    try:
        return path.is_file() and imageio_ffmpeg.count_frames_and_secs(str(path))[0] > 0
    except RuntimeError:
        return False


if __name__ == "__main__":
    video, audio, result = map(Path, sys.argv[1:4])
    engine = Engine(os.environ["ENGINE_URL"], Path(os.environ["ENGINE_FOLDER"]))
    sys.exit(run_jobs([new_job(video, audio, result)], beside_the_engine, workers=engine))
