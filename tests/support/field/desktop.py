"""The desktop client as it is deployed, for tests: in a hurry, trusting, and without a retry.

It asks the hub and the worker's `health` at once and continues after the first yes. The order of its steps and
what ends each of them are the deployed client's. A test may make one of its limits shorter with `dataclasses.replace`.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

Frame = dict[str, Any]

NO_SECRET_KEY = "gradio_client"
"""The key that every desktop without a secret registers with."""

_YES = ("running", "online")


class DesktopJobFailedError(Exception):
    """The job has failed; the text is what the desktop shows."""


@dataclass(frozen=True, slots=True)
class DesktopLimits:
    """Its times, in seconds."""

    hub_open: float = 5.0
    hub_silence: float = 5.0
    after_boot: float = 600.0
    health: float = 10.0
    health_every: float = 3.0
    unreachable: float = 1800.0
    check: float = 15.0
    upload: float = 600.0
    submit: float = 30.0
    socket_open: float = 5.0
    poll: float = 15.0
    poll_every: float = 2.0
    whole_job: float = 1800.0
    download: float = 600.0
    url: float = 30.0
    video: float = 300.0


@dataclass
class FieldDesktop:
    """One desktop. `render` runs a job as it does; what it saw is in `heard`, `calls`, `snapshots` and `boots`.

    `calls` are method, path and HTTP status; `snapshots` are the `data` of each progress frame or poll; `polled` says
    whether it fell back to polling.
    """

    hub_url: str
    worker_url: str
    secret: str = ""
    license_key: str = ""
    limits: DesktopLimits = field(default_factory=DesktopLimits)
    heard: list[Frame] = field(default_factory=list)
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    snapshots: list[Frame] = field(default_factory=list)
    boots: int = 0
    polled: bool = False
    went_on_by: str = ""

    async def render(self, video: Path, audio: Path) -> bytes:
        """The finished film; `DesktopJobFailedError` says why it is missing."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        try:
            async with asyncio.timeout(self.limits.whole_job), aiohttp.ClientSession(headers=headers) as session:
                await self._until_online(session)
                return await _Job(self, session).run(video, audio)
        except TimeoutError:
            raise DesktopJobFailedError(f"nothing after {self.limits.whole_job:g} s in all") from None

    # Before the work: hub and health at once.

    async def _until_online(self, session: aiohttp.ClientSession) -> None:
        hub = asyncio.create_task(self._hub_says_yes())
        health = asyncio.create_task(self._health_says_yes(session))
        waiting = {hub, health}
        try:
            while True:
                ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in ended:
                    if one.result():
                        self.went_on_by = "hub" if one is hub else "health"
                        return
        finally:
            for one in (hub, health):
                one.cancel()
            await asyncio.wait((hub, health))

    async def _hub_says_yes(self) -> bool:
        """False when it has left the hub or lost it: from then on only `health` counts."""
        with suppress(OSError, TimeoutError, InvalidHandshake, ConnectionClosed):
            async with connect(_dsp(self.hub_url), open_timeout=self.limits.hub_open, ping_interval=20) as hub:
                return await self._ask_hub(hub)
        return False

    async def _ask_hub(self, hub: ClientConnection) -> bool:
        request_id = uuid.uuid4().hex
        await _say(hub, {"type": "register", "key": self.secret or NO_SECRET_KEY, "device_type": "pc"})
        await _say(hub, {"type": "gpu.status.query", "request_id": request_id})  # `registered` is not waited for
        leaves_at: float | None = None
        while True:
            loop = asyncio.get_running_loop()
            until = leaves_at if leaves_at is not None else loop.time() + self.limits.hub_silence
            async with asyncio.timeout_at(until):
                frame = await self.hear(hub)
            if frame is None:
                continue
            if _means_online(frame):  # the ids of answers are not compared
                return True
            stopped = frame.get("type") == "gpu.status.response" and frame.get("status") == "stopped"
            if stopped and leaves_at is None:
                leaves_at = loop.time() + self.limits.after_boot
                self.boots += 1
                boot = {"type": "gpu.power.boot", "request_id": request_id, "source": "gradio", "msg": "start"}
                await _say(hub, boot)

    async def hear(self, hub: ClientConnection) -> Frame | None:
        """The next frame; None for what is no JSON object."""
        try:
            frame = orjson.loads(await hub.recv())
        except ValueError:
            return None
        if not isinstance(frame, dict):
            return None
        self.heard.append(frame)
        return frame

    async def _health_says_yes(self, session: aiohttp.ClientSession) -> bool:
        loop = asyncio.get_running_loop()
        patience = loop.time() + self.limits.unreachable
        while True:
            if await self._healthy(session):
                return True
            if loop.time() >= patience:
                raise DesktopJobFailedError("the worker could not be reached")
            await asyncio.sleep(self.limits.health_every)

    async def _healthy(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with asyncio.timeout(self.limits.health):
                status, body = await self.get(session, "health")
        except (aiohttp.ClientConnectionError, TimeoutError):
            return False
        if status in (408, 504):
            return False
        if status >= 400:
            raise DesktopJobFailedError(f"health: HTTP {status}")
        reply = _json(body, "health")
        return reply.get("code") == 0 and bool(reply.get("initialized"))

    async def get(self, session: aiohttp.ClientSession, call: str) -> tuple[int, bytes]:
        """Status and body of a GET; it is noted in `calls`."""
        async with session.get(f"{self.worker_url}/api/heygem/{call}") as reply:
            self.calls.append(("GET", call.partition("?")[0], reply.status))
            return reply.status, await reply.read()

    # Its second connection, for texts and generated videos; it registers with the license.

    @asynccontextmanager
    async def texts(self) -> AsyncIterator[TextConnection]:
        """Open while the block runs."""
        async with connect(_dsp(self.hub_url), ping_interval=30, ping_timeout=10) as hub:
            await _say(hub, {"type": "register", "key": self.license_key})
            yield TextConnection(self, hub)


class _Job:
    """The work itself, over HTTP: each step once."""

    def __init__(self, desktop: FieldDesktop, session: aiohttp.ClientSession) -> None:
        self._desktop, self._session, self._limits = desktop, session, desktop.limits

    async def run(self, video: Path, audio: Path) -> bytes:
        names = {path: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in (video, audio)}
        here = await self._check(names)
        for path in (video, audio):
            if not here.get(names[path]):
                await self._upload(path, names[path])
        body = {"audio_hash": names[audio], "audio_ext": audio.suffix, "video_hash": names[video]}
        body |= {"video_ext": video.suffix, "license_key": self._desktop.license_key}
        task_id = (await self._post("submit", self._limits.submit, json=body))["task_id"]
        if not await self._watch(task_id):
            self._desktop.polled = True
            await self._poll(task_id)
        return await self._download(task_id)

    async def _check(self, names: dict[Path, str]) -> Frame:
        files = [{"hash": name, "ext": path.suffix} for path, name in names.items()]
        try:
            return await self._post("check_files", self._limits.check, json={"files": files})
        except DesktopJobFailedError:
            return {}  # then it sends both

    async def _upload(self, path: Path, name: str) -> None:
        form = aiohttp.FormData({"hash": name, "ext": path.suffix})
        form.add_field("file", path.read_bytes(), filename=path.name)
        await self._post("upload_file", self._limits.upload, data=form)

    async def _post(self, call: str, limit: float, **body: Any) -> Frame:
        url = f"{self._desktop.worker_url}/api/heygem/{call}"
        try:
            async with asyncio.timeout(limit), self._session.post(url, **body) as reply:
                self._desktop.calls.append(("POST", call, reply.status))
                status, content = reply.status, await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DesktopJobFailedError(f"{call}: {error!r}") from error
        if status >= 400:
            raise DesktopJobFailedError(f"{call}: HTTP {status}: {content[:300]!r}")
        reply_body = _json(content, call)
        if reply_body.get("code") != 0:
            raise DesktopJobFailedError(f"{call}: {reply_body.get('msg')}")
        data = reply_body.get("data")
        return data if isinstance(data, dict) else {}

    async def _watch(self, task_id: str) -> bool:
        """By the socket. False when that was refused or closed before the end: then it polls."""
        address = self._desktop.worker_url.replace("http", "ws", 1)
        url = f"{address}/ws/progress/{task_id}?token={self._desktop.secret}"
        try:
            async with connect(url, open_timeout=self._limits.socket_open) as socket:
                async for raw in socket:
                    frame = orjson.loads(raw)
                    if frame.get("code") != 0:
                        raise DesktopJobFailedError(f"progress: {frame.get('msg')}")
                    if self._ended(frame.get("data") or {}):
                        return True
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed, ValueError):
            return False
        return False

    def _ended(self, snapshot: Frame) -> bool:
        self._desktop.snapshots.append(snapshot)
        if snapshot.get("status") == "error":
            raise DesktopJobFailedError(str(snapshot.get("error")))
        return snapshot.get("status") == "done"

    async def _poll(self, task_id: str) -> None:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                async with asyncio.timeout(self._limits.poll):
                    status, body = await self._desktop.get(self._session, f"progress?task_id={task_id}")
                if status < 400 and self._ended(orjson.loads(body).get("data") or {}):
                    return
            await asyncio.sleep(self._limits.poll_every)

    async def _download(self, task_id: str) -> bytes:
        try:
            async with asyncio.timeout(self._limits.download):
                status, body = await self._desktop.get(self._session, f"download?task_id={task_id}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DesktopJobFailedError(f"download: {error!r}") from error
        if status >= 400 or body.startswith(b"{") or len(body) < 1024:
            raise DesktopJobFailedError(f"download: HTTP {status}, {len(body)} bytes")
        return body


class TextConnection:
    """The desktop's lasting connection for texts. Every frame that it does not wait for is skipped."""

    def __init__(self, desktop: FieldDesktop, hub: ClientConnection) -> None:
        self._desktop, self._hub = desktop, hub

    async def text_of(self, url: str) -> str:
        """The text behind `url`; without one, it shows the error's text."""
        await _say(self._hub, {"type": "url", "url": url})
        frame = await self._first(lambda one: one.get("type") in ("result", "error"), self._desktop.limits.url)
        if frame["type"] == "error":
            raise DesktopJobFailedError(str(frame.get("message")))  # not `msg`
        return str(frame.get("content"))

    async def video_of(self, content: str) -> str:
        """The URL of a video made from `content`. A request takes only a result that bears its id."""
        request_id = uuid.uuid4().hex
        await _say(self._hub, {"type": "chatglm_video", "content": content, "request_id": request_id})

        def ends_it(one: Frame) -> bool:
            if one.get("type") == "chatglm_video_result":
                return one.get("request_id") == request_id
            return one.get("type") in ("error", "gpu.power.offline")

        frame = await self._first(ends_it, self._desktop.limits.video)
        if frame["type"] != "chatglm_video_result" or frame.get("error"):
            raise DesktopJobFailedError(str(frame.get("message") or frame.get("error_msg") or frame.get("msg")))
        return str(frame.get("video_url"))

    async def say(self, frame: Frame) -> None:
        """Any frame."""
        await _say(self._hub, frame)

    async def _first(self, wanted: Callable[[Frame], bool], limit: float) -> Frame:
        try:
            async with asyncio.timeout(limit):
                while True:
                    frame = await self._desktop.hear(self._hub)
                    if frame is not None and wanted(frame):
                        return frame
        except TimeoutError:
            raise DesktopJobFailedError(f"no answer within {limit:g} s") from None


def _means_online(frame: Frame) -> bool:
    kind = frame.get("type")
    if kind == "gpu.status.response":
        return frame.get("status") in _YES
    return kind in ("gpu.power.online", "gpu_online") or (
        kind == "gpu.power.boot.result" and bool(frame.get("success"))
    )


def _dsp(hub_url: str) -> str:
    return f"{hub_url.replace('http', 'ws', 1)}/dsp"


async def _say(socket: ClientConnection, frame: Frame) -> None:
    await socket.send(orjson.dumps(frame).decode())


def _json(body: bytes, call: str) -> Frame:
    try:
        reply = orjson.loads(body)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise DesktopJobFailedError(f"{call}: the reply is no JSON")
    return reply
