"""A hub and a worker of it that have met, and callers of the worker who bear a capability, the secret, or nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from websockets.asyncio.client import connect

from tests.support.programs.hub_scene import Peer
from tests.support.programs.our_peers import Joining, Place, gpu_online
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.net.connection_limits import Network
from wakestream.adapters.worker.program import RunningWorker

VIDEO, AUDIO = b"video" * 100, b"audio" * 100


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def pair(video: bytes, audio: bytes) -> dict[str, str]:
    """The body of a submit of these."""
    return {"video_hash": md5(video), "video_ext": ".mp4", "audio_hash": md5(audio), "audio_ext": ".wav"}


PAIR = pair(VIDEO, AUDIO)


class Caller:
    """A caller with a token, or without one."""

    def __init__(self, session: aiohttp.ClientSession, address: str, token: str | None) -> None:
        self.session, self.address = session, address
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        path = path if path.startswith("/") else f"/api/heygem/{path}"
        options["headers"] = self.headers | options.pop("headers", {})
        async with self.session.request(method, f"{self.address}{path}", **options) as response:
            is_json = response.content_type == "application/json" and method != "HEAD"
            body: dict[str, Any] = await response.json() if is_json else {"bytes": await response.read()}
            body["retry"] = response.headers.get("Retry-After")
            return response.status, body

    async def data(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        status, body = await self(method, path, **options)
        assert status == 200, body
        data: dict[str, Any] = body["data"]
        return data

    async def upload(self, video: bytes = VIDEO, audio: bytes = AUDIO) -> None:
        for content, ext in ((video, ".mp4"), (audio, ".wav")):
            form = aiohttp.FormData({"hash": md5(content), "ext": ext})
            form.add_field("file", content, filename=f"file{ext}")
            await self.data("POST", "upload_file", data=form)

    async def submit(self, **more: str) -> str:
        return str((await self.data("POST", "submit", json={**PAIR, **more}))["task_id"])


class Scene:
    """A hub and a worker of it, who have met."""

    def __init__(self, hub: HubServer, worker: RunningWorker, session: aiohttp.ClientSession, engine: Joining) -> None:
        self.hub, self.worker, self.session, self.engine = hub, worker, session, engine

    def bearer(self, token: str | None) -> Caller:
        return Caller(self.session, self.worker.address, token)

    def token(self, job: str, owner: str = "lic", **more: Any) -> str:
        now = time.time()
        claims = {"gpu": "gpu", "now": now, "expires": now + 900} | more
        return self.hub._outbound._signer.mint(job, owner, **claims)

    def job(self, job: str, owner: str = "lic") -> Caller:
        return self.bearer(self.token(job, owner))

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[HubClient, None]:
        """A client of the hub, with a license of its own."""
        key = LicenseBook(self.hub.licenses._book.path.parent).issue("client", "", time.time())[1]
        self.hub.licenses.look()
        async with connect(self.hub.url) as socket:
            peer = Peer(socket)
            await peer.get()
            await peer.ask(type="register", key=key, features=["capability", "done", "released"])
            yield HubClient(peer, self)


@asynccontextmanager
async def scene(place: Place, *, held: bool = False, proxies: tuple[Network, ...] = ()) -> AsyncGenerator[Scene, None]:
    engine = Joining(held=held)
    async with (
        place.hub() as hub, place.worker(engine, proxies=proxies) as worker,
        aiohttp.ClientSession() as session,
    ):  # fmt: skip
        await gpu_online(hub)
        yield Scene(hub, worker, session, engine)


class HubClient:
    """A client's connection to the hub, and what it gets there for the worker."""

    def __init__(self, peer: Peer, here: Scene) -> None:
        self.peer, self._here = peer, here

    async def granted(self, job: str, payload: dict[str, str] | None = None) -> Caller:
        """Submit; returns the caller with the capability that came with the GPU."""
        await self.peer.send(type="gpu.job.submit", request_id=job, payload=payload or {})
        return self._here.bearer((await self.peer.first("ack"))["data"]["capability"])

    async def over(self, job: str, word: str = "gpu.job.done") -> None:
        """Say that the job is over; returns when the hub has taken that."""
        await self.peer.send(type=word, request_id=job)
        await self.peer.first("gpu.job.released")

    async def result(self) -> dict[str, Any]:
        """The worker's word on a job."""
        return await self.peer.first("gpu.job.result")
