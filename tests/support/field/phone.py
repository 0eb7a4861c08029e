"""The phone as it is deployed: registers as `mobile`, boots, hands tasks to the PC, extracts texts, polls progress."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.field.frames import WITHIN, Frame, Frames, dsp

_IDS = itertools.count()


class FieldPhone:
    """One phone with a license key; `poll` is the pause between two polls."""

    def __init__(self, hub_url: str, key: str, *, poll: float = 8.0) -> None:
        self.url, self.key, self.poll = dsp(hub_url), key, poll
        self.heard, self.said = Frames(), Frames()
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        """Connects, and up to 10 times again with growing pauses."""
        for attempt in range(11):
            with suppress(OSError, ConnectionClosed):
                async with connect(self.url, ping_interval=None) as socket:
                    self._socket = socket
                    await self.say(type="register", key=self.key, device_type="mobile")
                    async for text in socket:
                        frame = json.loads(text)
                        await self.heard.add(frame)
            self._socket = None
            await asyncio.sleep(min(2.0 * 1.5**attempt, 30.0))

    async def say(self, **frame: Any) -> None:
        """One frame."""
        assert self._socket is not None, "the phone is not connected"
        await self._socket.send(json.dumps(frame, ensure_ascii=False))
        await self.said.add(frame)

    async def boot(self) -> str:
        """Ask for the GPU; gives the id."""
        request_id = f"boot_m_{int(time.time() * 1000)}{next(_IDS)}"
        await self.say(type="gpu.power.boot", request_id=request_id, msg="手机端请求开机")
        return request_id

    async def mobile_task(self, task_type: str, payload: Frame) -> None:
        """A task for the newest PC of the key; the hub makes its id."""
        await self.say(type="mobile_task", task_type=task_type, payload=payload)

    async def extract_text(self, url: str) -> str:
        """The text of a video's page; any `error` frame in between ends it."""
        before = len(self.heard.all)
        await self.say(type="url", url=url)
        waits = [asyncio.ensure_future(self._after(before, kind)) for kind in ("result", "error")]
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        frame = done.pop().result()
        if frame["type"] == "error":
            raise RuntimeError(str(frame.get("message")))
        return str(frame["content"])

    async def _after(self, before: int, kind: str) -> Frame:
        earlier = sum(frame.get("type") == kind for frame in self.heard.all[:before])
        return await self.heard.wait(kind, earlier + 1)

    async def follow(self, worker_url: str, task_id: str, secret: str = "") -> Frame:
        """Polls the worker until the task has ended; gives the last `data`."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        async with asyncio.timeout(WITHIN), aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.get(f"{worker_url}/api/heygem/progress", params={"task_id": task_id}) as reply:
                    data = (await reply.json()).get("data") or {}
                if data.get("status") in ("done", "error"):
                    return dict(data)
                await asyncio.sleep(self.poll)


@asynccontextmanager
async def field_phone(hub_url: str, key: str, *, poll: float = 8.0) -> AsyncIterator[FieldPhone]:
    """A phone that has registered, while the block lasts."""
    phone = FieldPhone(hub_url, key, poll=poll)
    running = asyncio.create_task(phone.run())
    try:
        await phone.heard.wait("registered")
        yield phone
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
