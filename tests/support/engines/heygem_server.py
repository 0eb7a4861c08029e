"""The synthesis engine's HTTP API as it is in the field, with its traps: a server on loopback and a shared folder.

What deployed engines were seen to do: errors come with HTTP status 200, "busy" (10001) and "unknown task" (10004) even
with `success: true`; the content type of the JSON is text/html; `msg` may be a number; one task at a time, no queue, no
cancel, no health call; the query that reports the end forgets the task, and answers 10004 from then on; a restart
forgets everything; the progress can stop at 5 % or 20 %, with the finished video in the folder or without it;
`result` is relative to the shared folder; an engine that dies leaves a file that does not play.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tests.support.programs import plain_server


@dataclass
class FakeEngine:
    """One task at a time, `steps` queries long; `clip` is what it renders. `url` is known while it `runs`.

    `stays_at`: the percentage at which the progress stops; `silent_end`: the video is complete then.
    """

    folder: Path
    clip: bytes
    steps: int = 3
    fails: bool = False
    busy_for: int = 0
    stays_at: int | None = None
    silent_end: bool = False
    refuses: bool = False
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)
    was_busy: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[FakeEngine]:
        """Serve for as long as the block runs."""
        routes = [web.post("/easy/submit", self._submit), web.get("/easy/query", self._query)]
        async with plain_server.answering(routes) as self.url:
            yield self

    def restart(self) -> None:
        """It forgets everything."""
        self.tasks.clear()

    async def _submit(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        self.asked.append(asked)
        if self.tasks or self.busy_for:
            self.busy_for = max(0, self.busy_for - 1)
            self.was_busy.set()
            return _said(10001, msg="忙碌中")
        if self.refuses or not all((self.folder / asked[name]).is_file() for name in ("audio_url", "video_url")):
            return _said(10002, success=False, msg="参数异常")
        self.tasks[asked["code"]] = 0
        return _said(10000, msg=1)

    async def _query(self, request: web.Request) -> web.Response:
        code = request.query["code"]
        if code not in self.tasks:
            return _said(10004, msg="任务不存在")
        self.tasks[code] += 1
        step = self.tasks[code]
        if self.stays_at is not None:
            if self.silent_end:
                (self.folder / f"{code}-r.mp4").write_bytes(self.clip)
            return _said(10000, {"code": code, "status": 1, "progress": self.stays_at, "msg": ""})
        if step <= self.steps:
            return _said(10000, {"code": code, "status": 1, "progress": 100 * step // (self.steps + 1), "msg": ""})
        del self.tasks[code]  # the end is reported once
        if self.fails:
            return _said(10000, {"code": code, "status": 3, "progress": 20, "msg": "no face found"})
        (self.folder / f"{code}-r.mp4").write_bytes(self.clip)
        return _said(10000, {"code": code, "status": 2, "progress": 100, "result": f"/{code}-r.mp4", "msg": ""})


def _said(code: int, data: dict[str, Any] | None = None, *, success: bool = True, msg: object = "") -> web.Response:
    text = orjson.dumps({"code": code, "success": success, "data": data or {}, "msg": msg}).decode()
    return web.Response(text=text, content_type="text/html")
