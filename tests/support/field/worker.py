"""The deployed GPU worker: early, silent and double, as the field's own is.

Its habits, as seen between probes:

- At the hub it registers and says `gpu.power.online` in one burst, each time it connects; it never pings.
- A job from the hub whose files are here starts a render, and its result comes **at once**: it means "accepted".
  Nothing comes at the end. A job whose files are missing gets an error at once.
- A `request_id` is taken once in the life of the process; a repeat gets no answer at all.
- Task ids of HTTP submits are 16 random hex digits, those of hub copies the request's id; only a finished pair is
  found again, under the MD5 of `AUDIOHASH_VIDEOHASH`. The same pair while it renders is rendered a second time.
- `gpu.task.active` comes at each HTTP submit and once when a render starts, never during it.
- It stores a file with a wrong hash under the real one, takes the bare secret, and forgets its tasks at a restart.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.field.line import Frame, HubLine
from tests.support.field.worker_http import WorkerHttp
from tests.support.field.worker_tasks import Pair, Task, Tasks, cache_key, md5, rendered
from tests.support.ports import free_port
from tests.support.programs import plain_server

__all__ = ["FieldWorker", "Task", "cache_key", "field_worker", "md5", "rendered"]


class FieldWorker(Tasks):
    """One life of the worker's process. `url` is its HTTP address, `line` its connection to a hub, if it has one.

    A test holds the render with `held=True` and ends it with `finish()` or `fail(why)`.
    `renders` has one entry for each render that began, `calls` (of `http`) counts the HTTP calls.
    """

    def __init__(
        self,
        secret: str = "",
        *,
        held: bool = False,
        files: dict[str, bytes] | None = None,
        results: dict[str, bytes] | None = None,
    ) -> None:
        super().__init__(held=held, files=files, results=results)
        self.url = ""
        self.line: HubLine | None = None
        self.http = WorkerHttp(self, secret)
        self.taken: set[str] = set()
        self.on_start, self.on_end, self.http.submitted = self._started, self._ended, self._submitted

    @asynccontextmanager
    async def at_hub(
        self, api_server_url: str, *, pauses: Sequence[float] = (5.0, 10.0, 20.0, 30.0)
    ) -> AsyncIterator[HubLine]:
        """Hold a connection to this hub (the address before `/dsp`) within the block, which has registered it."""
        line = HubLine(api_server_url, self._announce, self._hear, pauses=pauses, origin="http://127.0.0.1")
        self.line = line
        async with line.kept():
            yield line
        self.line = None

    # --- to the hub

    async def _say(self, frame: Frame) -> None:
        if self.line is not None:
            await self.line.say(frame)
            self.changed()

    async def _announce(self, line: HubLine) -> None:
        now = int(time.time())
        await line.say({"type": "register", "role": "worker", "version": "1.0", "ts": now})
        await line.say({"type": "gpu.power.online", "status": "running", "msg": "GPU服务器已启动", "ts": now})

    async def _active(self, task: Task, kind: str) -> None:
        await self._say({"type": "gpu.task.active", "task_id": task.id, "task_type": kind, "ts": int(time.time())})

    async def _submitted(self, task: Task) -> None:
        await self._active(task, "heygem_submit")

    async def _started(self, task: Task) -> None:
        await self._active(task, "heygem_processing")
        await self._progress(task)

    async def _ended(self, task: Task) -> None:
        await self._progress(task)

    async def _progress(self, task: Task) -> None:
        if task.license_key:
            report = {name: value for name, value in self.report(task).items() if name in _TOLD}
            about = {"key": task.license_key, "sender_fd": task.sender_fd, "ts": int(time.time())}
            await self._say({"type": "gpu.task.progress", **report, **about})

    # --- from the hub

    async def _hear(self, frame: Frame) -> None:
        match frame.get("type"):
            case "gpu.job.submit" | "gpu_task":
                await self._take(frame)
            case "gpu.job.dispatch.batch":
                for job in frame["data"]["jobs"]:
                    await self._take(job)
            case "url" | "chatglm_video" as kind:
                await self._answer(frame, error=f"未知任务类型: {kind}")
            case "ping":
                await self._say({"type": "pong"})

    async def _take(self, frame: Frame) -> None:
        request_id = frame.get("request_id", "")
        if request_id in self.taken:
            return
        self.taken.add(request_id)
        kind = frame.get("task_type")
        if kind == "delete_asset":
            await self._answer(frame, {"id": frame["payload"]["id"], "msg": "删除成功"})
        elif kind != "heygem_submit":
            await self._answer(frame, error=f"未知任务类型: {kind}")
        else:
            await self._render(frame, request_id)

    async def _render(self, frame: Frame, request_id: str) -> None:
        asked = frame.get("payload")
        if not isinstance(asked, dict):  # the old hub turns an empty object into a list
            await self._answer(frame, error="'list' object has no attribute 'get'")
            return
        audio, video = asked.get("audio_hash"), asked.get("video_hash")
        if not audio or not video:
            await self._answer(frame, error="缺少 audio_hash 或 video_hash")
            return
        pair: Pair = (audio + asked.get("audio_ext", ".wav"), video + asked.get("video_ext", ".mp4"))
        for word, name in zip(("音频", "视频"), pair, strict=True):
            if name not in self.files:
                await self._answer(frame, error=f"{word}文件不存在: {name}")
                return
        key = cache_key(audio, video)
        task = self.add_finished(key, pair) if key in self.results else self.add(pair, request_id)
        await self._answer(frame, {"task_id": task.id, "queue": self.queue()})

    async def _answer(self, job: Frame, result: dict[str, Any] | None = None, *, error: str | None = None) -> None:
        about = {name: job.get(name) for name in ("task_type", "request_id", "key", "sender_fd")}
        end = {"error": True, "error_msg": error} if error is not None else {"error": False, "result": result}
        await self._say({"type": "gpu.job.result", **about, **end})


_TOLD = ("task_id", "status", "progress", "message", "total_frames", "current_frame")


@asynccontextmanager
async def field_worker(
    secret: str = "",
    *,
    hub: str | None = None,
    port: int | None = None,
    held: bool = False,
    files: dict[str, bytes] | None = None,
    results: dict[str, bytes] | None = None,
    pauses: Sequence[float] = (5.0, 10.0, 20.0, 30.0),
) -> AsyncIterator[FieldWorker]:
    """A worker on loopback, and at `hub` (the address before `/dsp`) if one is given.

    Hand `files` and `results` of the last life to the next one, as the deployed worker's disk does.
    """
    worker = FieldWorker(secret, held=held, files=files, results=results)
    runner = web.AppRunner(worker.http.app(), access_log=None, shutdown_timeout=0.1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(worker.working())
        taken = await stack.enter_async_context(plain_server.serving(runner, port or free_port()))
        worker.url = f"http://127.0.0.1:{taken}"
        if hub is not None:
            await stack.enter_async_context(worker.at_hub(hub, pauses=pauses))
        yield worker
