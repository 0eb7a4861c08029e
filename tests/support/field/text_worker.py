"""The deployed text worker: it registers as a worker, and is no GPU.

Its habits: exactly `{"type":"register","role":"worker"}`, never `gpu.power.online`, a `ping` every 25 s, and back
after 5 s. It reads `url` (one at a time) and `chatglm_video` (four at a time); a `gpu.job.submit` gets no answer.
Its own frames have neither `request_id` nor `sender_fd`, its errors begin with `错误:`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.support.field.line import Frame, HubLine

Extract = Callable[[str], Awaitable[str]]


async def _text(url: str) -> str:
    return f"text of {url}"


class FieldTextWorker:
    """`line` is its connection. `extract` does its work; what it raises becomes its error."""

    def __init__(self, extract: Extract) -> None:
        self.line: HubLine | None = None
        self._extract = extract
        self._one, self._four = asyncio.Semaphore(1), asyncio.Semaphore(4)
        self._work: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def at_hub(self, api_server_url: str) -> AsyncIterator[None]:
        """Hold a connection to this hub (the address before `/dsp`) within the block, which has registered it."""
        self.line = HubLine(api_server_url, self._register, self._hear, pauses=(5.0,), ping_every=25.0)
        try:
            async with self.line.kept():
                yield
        finally:
            for task in self._work:
                task.cancel()
            await asyncio.gather(*self._work, return_exceptions=True)

    async def _register(self, line: HubLine) -> None:
        await line.say({"type": "register", "role": "worker"})

    async def _hear(self, frame: Frame) -> None:
        work = {"url": self._url, "chatglm_video": self._chatglm_video}.get(str(frame.get("type")))
        if work is not None:
            task = asyncio.create_task(work(frame))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _url(self, frame: Frame) -> None:
        about = {"type": "result", "key": frame.get("key")}
        async with self._one:
            try:
                await self._say({**about, "content": await self._extract(frame["url"])})
            except Exception as error:
                await self._say({**about, "content": f"错误: {error}", "error": True})

    async def _chatglm_video(self, frame: Frame) -> None:
        about = {"type": "chatglm_video_result", "key": frame.get("key")}
        async with self._four:
            try:
                url = f"https://videos.invalid/{len(frame['content'])}.mp4"
                await self._say({**about, "video_url": url, "cover_url": ""})
            except Exception as error:
                await self._say({**about, "error": True, "error_msg": f"错误: {error}"})

    async def _say(self, frame: Frame) -> None:
        assert self.line is not None
        await self.line.say(frame)


@asynccontextmanager
async def field_text_worker(hub: str, *, extract: Extract = _text) -> AsyncIterator[FieldTextWorker]:
    """A text worker that has registered at `hub` (the address before `/dsp`), while the block lasts."""
    worker = FieldTextWorker(extract)
    async with worker.at_hub(hub):
        yield worker
