"""One prompt in ComfyUI: its messages on the WebSocket, and what looks at queue and history find."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import orjson

from wakestream.adapters.engines.comfyui_progress import ENDS, PromptProgress
from wakestream.adapters.engines.comfyui_workflow import WorkflowKind
from wakestream.adapters.engines.http_engine import MAX_JSON, HttpEngine
from wakestream.adapters.runtime.tasks import background, end, restarted
from wakestream.operators.model.engine import Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed

CONNECT_AGAIN = 1.0
"""Seconds until a broken WebSocket is opened again, and the most to wait for the first one."""

GONE_AFTER: Final = 3
"""How often a prompt must be found neither in the queue nor in the history until it counts as lost."""


@dataclass(slots=True)
class RunningPrompt:
    """One prompt in ComfyUI: its id, its nodes, and how far it is. `breaks`: how often the WebSocket was lost."""

    id: str
    kind: WorkflowKind
    progress: PromptProgress
    ended: bool = False
    breaks: int = 0
    seen: asyncio.Event = field(default_factory=asyncio.Event)


class Looks:
    """What the looks at queue and history found."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()
        self._missed = 0

    def since(self) -> float:
        """Seconds since the last one that had an answer."""
        return self._clock() - self._last

    def found(self, prompt: RunningPrompt, place: int | None) -> None:
        """The prompt is at this place. Raises if it is nowhere for a while."""
        self._last = self._clock()
        self._missed = self._missed + 1 if place is None else 0
        if self._missed < GONE_AFTER:
            return
        if prompt.breaks:
            raise EngineUnreachable("ComfyUI does not know the work any more; it was restarted")
        raise TaskFailed("the work was deleted in ComfyUI")


class Listener:
    """Listens on ComfyUI's WebSocket while the block runs, and connects again when it breaks."""

    def __init__(self, http: HttpEngine, client: str, prompt: RunningPrompt) -> None:
        self._http, self._client, self._prompt = http, client, prompt
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = background("ComfyUI's WebSocket", restarted("the reader of ComfyUI's messages", self._run))
        with suppress(TimeoutError):  # the history says everything, too; only the progress would be missing
            async with asyncio.timeout(CONNECT_AGAIN):
                await self._ready.wait()

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self._http.session.ws_connect(
                    f"{self._http.url}/ws", params={"clientId": self._client}, max_msg_size=MAX_JSON, heartbeat=20.0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                ) as socket:  # fmt: skip
                    self._ready.set()
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            self._take(message.data)
            self._prompt.breaks += 1
            await asyncio.sleep(CONNECT_AGAIN)

    def _take(self, text: str) -> None:
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        data = frame.get("data") if isinstance(frame, dict) else None
        if not isinstance(data, dict) or data.get("prompt_id") != self._prompt.id:
            return
        kind = str(frame.get("type"))
        self._prompt.ended |= kind in ENDS
        with suppress(AttributeError, TypeError):  # custom nodes send messages of their own
            self._prompt.progress.take(kind, data)
        self._prompt.seen.set()


def prompt_id(work: Work) -> str:
    """The prompt's id: a canonical UUID that depends on the work and the attempt."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{work.id}/{work.attempt}"))
