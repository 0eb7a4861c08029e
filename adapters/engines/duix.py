"""The engine `duix`: HeyGem / Duix.Avatar beside this worker, which lip-syncs a video to an audio file.

Options: `url` (default http://127.0.0.1:8383), `folder` (where the engine's shared folder is on this machine).

The engine renders one task at a time and cannot cancel: after a cancel it renders to the end, and the next work waits.
It reports an end once and can stop reporting for good, so the file that it makes is looked at as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from wakestream.adapters.client.heygem_engine import EasyEngine, EngineBusy
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.atomic import remove
from wakestream.adapters.engines.config import EngineConfig
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.operators.model.errors import (
    EngineUnreachable,
    TaskFailed,
    TaskLost,
    WakestreamError,
    WorkerUnreachable,
)
from wakestream.operators.model.events import LIPSYNC, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import TaskReport

DEFAULT_URL: Final = "http://127.0.0.1:8383"

KIND: Final = Kind(
    LIPSYNC,
    (Slot("video", ("video",), help="A person who faces the camera"), Slot("audio", ("audio",), help="The speech")),
    (Slot("video", (".mp4",)),),
    title="Lip-sync",
    help="The person in the video speaks the audio.",
)

POLL_EVERY: Final = 1.0
"""Seconds between two questions for the progress, and until a busy engine is asked again."""

LOOK_AFTER: Final = 20.0
"""Seconds without progress after which the result file is looked at: the engine may have finished without a word."""


def create(config: EngineConfig) -> Duix:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("duix", ("url", "folder"), needed=("folder",))
    folder = Path(options["folder"]).expanduser()
    if not folder.is_dir():
        raise SettingsError(
            f"--engine-option folder={folder}: there is no such folder; give the engine's shared folder"
        )
    return Duix(options.get("url") or DEFAULT_URL, folder)


class Duix(Engine):
    """One Duix engine.

    Args:
        url: Its address.
        folder: Its shared folder, as this machine sees it.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._easy = EasyEngine(url, folder)

    async def describe(self) -> Sequence[Kind]:
        """Lip-sync only."""
        return [KIND]

    async def ready(self) -> Readiness:
        """Whether the engine answers; it has no health call."""
        try:
            await self._easy.health()
        except WakestreamError as error:
            return Readiness(False, str(error))
        return Readiness(True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Copy the files into the shared folder, submit them, and poll until the end."""
        refs = {name: FileRef(path.stem, path.suffix) for name, path in work.inputs.items()}
        for name, path in work.inputs.items():
            if not self._easy.folder.has(refs[name]):
                await _drain(self._easy.upload(_fingerprint(path), refs[name]))
        target = work.folder / "video.mp4"
        job = Job.lipsync(work.id, work.inputs["video"], work.inputs["audio"], target)
        if (code := await self._submitted(job, refs)) is None:
            yield Line("the engine renders another task; the work waits")
            while (code := await self._submitted(job, refs)) is None:  # noqa: ASYNC110 - it does not tell
                await asyncio.sleep(POLL_EVERY)
        async with aclosing(self._followed(code)) as frames:
            async for frame in frames:
                yield frame
        await _drain(self._easy.download(code, target))
        if not target.stat().st_size:
            raise TaskFailed("the engine made an empty file")
        yield Made("video", target)
        remove(self._easy.folder.result(code))

    async def cancel(self, work: Work) -> None:
        """Does nothing: the engine cannot cancel, and renders to the end."""

    async def close(self) -> None:
        """Nothing is open between two calls."""

    async def _submitted(self, job: Job, refs: Mapping[str, FileRef]) -> str | None:
        """The task's code; None while the engine renders another task."""
        try:
            return (await self._easy.submit(job, refs)).task_id
        except EngineBusy:
            return None
        except WorkerUnreachable as error:
            raise EngineUnreachable(str(error)) from None

    async def _followed(self, code: str) -> AsyncGenerator[Frame, None]:
        clock = asyncio.get_running_loop().time
        last, since = None, clock()
        while True:
            report = await self._report(code)
            if report.status == "error":
                raise TaskFailed(f"the engine failed: {report.message or 'without a reason'}")
            if report.status == "done":
                return
            frame = Frame(0, 0, report.percent)
            if frame != last:
                last, since = frame, clock()
                yield frame
            elif clock() - since >= LOOK_AFTER:
                since = clock()
                if await self._is_complete(code):
                    return
            await asyncio.sleep(POLL_EVERY)

    async def _report(self, code: str) -> TaskReport:
        try:
            return await self._easy.report(code)
        except (TaskLost, WorkerUnreachable) as error:
            raise EngineUnreachable(f"the engine was restarted or does not answer: {error}") from None

    async def _is_complete(self, code: str) -> bool:
        """Whether the result plays and does not grow any more."""
        path = self._easy.folder.result(code)
        try:
            size = path.stat().st_size
            await asyncio.sleep(POLL_EVERY)
            return size == path.stat().st_size and await asyncio.to_thread(self._easy.folder.has_result, code)
        except OSError:
            return False


async def _drain(items: AsyncGenerator[object, None]) -> None:
    async with aclosing(items):
        async for _ in items:
            pass


def _fingerprint(path: Path) -> Fingerprint:
    status = path.stat()
    return Fingerprint(path, status.st_size, status.st_mtime_ns, {"md5": path.stem})
