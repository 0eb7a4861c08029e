"""The tasks of the deployed GPU worker: one render at a time, random ids, and a cache of finished pairs only."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.field.line import Watched

Pair = tuple[str, str]
"""The stored names of an audio and a video file, such as `MD5.wav`."""


def md5(data: bytes) -> str:
    """The name that the deployed parts give to a file."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def cache_key(audio_hash: str, video_hash: str) -> str:
    """The task id of a pair that was rendered before; extensions do not count."""
    return md5(f"{audio_hash}_{video_hash}".encode())[:16]


@dataclass(eq=False)
class Task:
    """One render; `license_key` is set where an HTTP `submit` asked for it, and progress goes to the hub only then."""

    id: str
    pair: Pair
    license_key: str | None = None
    sender_fd: int | None = None
    status: str = "queued"
    progress: int = 1
    message: str = "排队中"
    current_frame: int = 0
    total_frames: int = 0
    created_at: float = field(default_factory=time.time)
    started_at: float = 0
    finished_at: float = 0
    error: str = ""
    result: bytes = b""

    @property
    def ended(self) -> bool:
        return self.status in ("done", "error")


class Tasks(Watched):
    """The queue. `files` and `results` outlive a restart when they are handed to the next one.

    `held`: a render ends only when the test calls `finish` (or `fail`), once for each. `renders` are the pairs whose
    render began, one entry for each time.
    """

    def __init__(self, *, held: bool, files: dict[str, bytes] | None, results: dict[str, bytes] | None) -> None:
        super().__init__()
        self.files = files if files is not None else {}
        self.results = results if results is not None else {}
        self.tasks: dict[str, Task] = {}
        self.renders: list[Pair] = []
        self._waiting: asyncio.Queue[Task] = asyncio.Queue()
        self._ends: asyncio.Queue[str] = asyncio.Queue()
        self.held = held
        self.on_start: Callable[[Task], Awaitable[None]] = _nothing
        self.on_end: Callable[[Task], Awaitable[None]] = _nothing

    # --- what a test does

    def keep(self, data: bytes, ext: str) -> str:
        """Store a file as if it had been uploaded; gives its hash."""
        digest = md5(data)
        self.files.setdefault(f"{digest}{ext}", data)
        self.changed()
        return digest

    def finish(self) -> None:
        """Let the present render, or the next one, end well."""
        self._ends.put_nowait("")

    def fail(self, why: str) -> None:
        """Let the present render, or the next one, fail."""
        self._ends.put_nowait(why)

    @property
    def rendering(self) -> Task | None:
        """The task that is at work."""
        return next((task for task in self.tasks.values() if task.status in ("processing", "synthesizing")), None)

    async def until_rendering(self, count: int = 1) -> None:
        """Return when so many renders have begun, in all."""
        await self.until(lambda: len(self.renders) >= count)

    # --- what the worker does

    def add(self, pair: Pair, task_id: str = "", license_key: str | None = None, sender_fd: int | None = None) -> Task:
        """Queue a render, also of a pair that is being rendered already."""
        task = Task(task_id or secrets.token_hex(8), pair, license_key, sender_fd)
        self.tasks[task.id] = task
        self._waiting.put_nowait(task)
        self.changed()
        return task

    def add_finished(self, task_id: str, pair: Pair) -> Task:
        """The task of a pair whose result is there: its id is the cache key."""
        now = time.time()
        done = {"status": "done", "progress": 100, "message": "完成", "started_at": now, "finished_at": now}
        task = Task(task_id, pair, result=self.results[task_id], **done)  # type: ignore[arg-type]
        self.tasks[task_id] = task
        return task

    def queue(self) -> dict[str, Any]:
        """The object that `submit`, `health` and `progress` carry."""
        queued = sum(task.status == "queued" for task in self.tasks.values())
        working = sum(not task.ended for task in self.tasks.values()) - queued
        return {"total_tasks": len(self.tasks), "processing": working, "queued": queued, "max_concurrent": 1}

    def position(self, task: Task) -> int:
        """1 is next, 0 is not queued."""
        queued = [one for one in self.tasks.values() if one.status == "queued"]
        return queued.index(task) + 1 if task in queued else 0

    def report(self, task: Task) -> dict[str, Any]:
        """What `progress` and the progress socket say of a task; integers throughout."""
        return {
            "task_id": task.id, "status": task.status, "progress": task.progress, "message": task.message,
            "total_frames": task.total_frames, "current_frame": task.current_frame,
            "queue_position": self.position(task), "created_at": int(task.created_at),
            "started_at": int(task.started_at), "finished_at": int(task.finished_at), "error": task.error,
            "queue": self.queue(),
        }  # fmt: skip

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Render, one at a time, within this block."""
        task = asyncio.create_task(self._work(), name="field-renders")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            task = await self._waiting.get()
            self.renders.append(task.pair)
            task.status, task.progress, task.message, task.started_at = "processing", 5, "准备中", time.time()
            self.changed()
            await self.on_start(task)
            why = await self._ends.get() if self.held or not self._ends.empty() else ""
            task.finished_at = time.time()
            if why:
                task.status, task.progress, task.message, task.error = "error", 0, why, why
            else:
                task.status, task.progress, task.message = "done", 100, "完成"
                task.result = rendered(*(self.files[name] for name in task.pair))
                audio, video = (name.partition(".")[0] for name in task.pair)
                self.results[cache_key(audio, video)] = task.result
            await self.on_end(task)
            self.changed()


def rendered(audio: bytes, video: bytes) -> bytes:
    """The result of a pair; never under the 1024 bytes below which the deployed desktop calls a result broken."""
    return b"rendered:" + video + audio + b"." * 1024


async def _nothing(_: Task) -> None:
    """Nobody listens."""
