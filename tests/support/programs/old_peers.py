"""A hub and a worker as they are deployed in the field: they know docs/protocol.md's old parts and not one thing more.

They are traps: what an old peer would not understand is kept in `faults`, which must stay empty.
"""

import asyncio
import contextlib
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.programs import plain_server
from tests.support.programs.client_scene import User
from wakestream.adapters.net.acceptor import accept_no_more

KEY = "field-license-key-0001"
SECRET = "field-secret-0123456789"

Frame = dict[str, Any]
Call = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

_SUBMIT = {"type", "request_id", "task_type", "payload"}
_MD5 = re.compile(r"[0-9a-f]{32}")


class OldHub:
    """Knows one key, answers by hand-written frames, and forgets everything with its process.

    `online` is what it believes of the GPU; `go_online` is the word that its `worker` is up, which answers from
    then. It may be `silent` about
    submits, or answer each with what it `complains` of.
    """

    def __init__(self, *, online: bool = False) -> None:
        self.url = ""
        self.online = online
        self.worker: OldWorker | None = None
        self.silent = False
        self.complains: str | None = None
        self.faults: list[str] = []
        self.submitted: list[Frame] = []
        self.connections: set[ServerConnection] = set()
        self.heard = asyncio.Condition()
        self._fds = itertools.count(7)

    async def serve(self, socket: ServerConnection) -> None:
        """One connection."""
        self.connections.add(socket)
        try:
            await say(socket, {"type": "connected", "fd": next(self._fds)})
            await say(socket, {"type": "server.notice", "level": 3, "data": [1, "two", None]})
            async for raw in socket:
                frame = orjson.loads(raw)
                await self._answer(socket, frame)
                async with self.heard:
                    self.heard.notify_all()
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(socket)

    async def _answer(self, socket: ServerConnection, frame: Frame) -> None:
        match frame.get("type"):
            case "ping":
                await say(socket, {"type": "pong"})
            case "register":
                await self._register(socket, frame)
            case "gpu.job.submit" | "gpu_task":
                await self._submit(socket, frame)
            case other:
                self.faults.append(f"the hub was sent a {other!r}, which it does not know")
                await say(socket, {"type": "error", "message": f"Unknown message type: {other}"})

    async def _register(self, socket: ServerConnection, frame: Frame) -> None:
        if frame.get("key") != KEY:
            await say(socket, {"type": "error", "message": "Invalid license key"})
            await socket.close()
            return
        device = frame.get("device_type", "pc")
        if device not in ("pc", "mobile"):
            self.faults.append(f"device_type {device!r}")
        await say(socket, {"type": "registered", "key": KEY, "device_type": device})

    async def _submit(self, socket: ServerConnection, frame: Frame) -> None:
        payload = frame.get("payload", {})
        wrong = [name for name in ("video_hash", "audio_hash") if not _MD5.fullmatch(str(payload.get(name)))]
        wrong += [name for name in ("video_ext", "audio_ext") if not str(payload.get(name)).startswith(".")]
        if wrong or set(frame) != _SUBMIT or not isinstance(frame["request_id"], str):
            self.faults.append(f"a submit with a wrong or a missing {wrong or set(frame) ^ _SUBMIT}")
            await say(socket, {"type": "error", "message": f"payload needs {', '.join(wrong)}"})
            return
        self.submitted.append(frame)
        if self.complains:
            await say(socket, {"type": "error", "message": self.complains})
        if self.silent or self.complains:
            return
        about = {"request_id": frame["request_id"], "task_type": frame["task_type"]}
        if self.online:
            await say(socket, {"type": "ack", **about, "msg": "task accepted"})
            # Its own worker gets it as well, has no such files yet, and says so: the client does not wait for that.
            await self.tell_result(about | {"error": True, "error_msg": "video file not found"})
        else:
            await say(socket, {"type": "gpu_offline", **about, "msg": "GPU offline, task queued", "version": "1.0"})

    async def tell_result(self, about: Frame) -> None:
        """A worker's result, under both of its names, to every connection."""
        for name in ("gpu.job.result", "gpu_task_result"):
            await self.tell({"type": name, **about})

    async def go_online(self) -> None:
        """The worker says that it is up: the hub tells everybody, under the old name alone."""
        self.online = True
        if self.worker is not None:
            self.worker.up = True
        await self.tell({"type": "gpu.status.response", "status": "running", "request_id": "x", "source": "monitor"})
        await self.tell({"type": "gpu_online", "msg": "GPU is online"})

    async def tell(self, frame: Frame) -> None:
        """One frame to every connection."""
        for socket in tuple(self.connections):
            with contextlib.suppress(ConnectionClosed):
                await say(socket, frame)

    async def has_submits(self, count: int) -> None:
        """Returns when so many submits have come."""
        async with self.heard:
            await self.heard.wait_for(lambda: len(self.submitted) >= count)


async def say(socket: ServerConnection, frame: Frame) -> None:
    await socket.send(orjson.dumps(frame).decode())


@asynccontextmanager
async def old_hub(*, online: bool = False, port: int = 0) -> AsyncIterator[OldHub]:
    """An old hub on loopback; it sends no protocol pings, as the field's do not."""
    hub = OldHub(online=online)
    async with serve(hub.serve, "127.0.0.1", port, ping_interval=None, close_timeout=0.2) as server:
        hub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield hub
        finally:
            await accept_no_more(server)


class OldWorker:
    """Stores by MD5 without looking whether it is right, knows no `Range`, and forgets everything with its process.

    `up` is whether its machine is on: a gateway answers for one that is not.
    `before[call]` may answer in the place of a call, to play what goes wrong; None lets the call pass.
    """

    def __init__(self) -> None:
        self.url = ""
        self.up = True
        self.faults: list[str] = []
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Call] = {}
        self.files: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.statuses = ["queued", "processing", "synthesizing", "encoding", "done"]
        self._polls: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every call comes in here."""
        call = request.path.removeprefix("/api/heygem/")
        self.calls[call] += 1
        if not self.up:
            return web.Response(status=502)
        if call != "health" and request.headers.get("Authorization") != f"Bearer {SECRET}":
            return failed(401, "Unauthorized")
        self._look_for_additions(call, request)
        answer = await self.before[call](request) if call in self.before else None
        if answer is not None:
            return answer
        method = {
            "health": self._health, "check_files": self._check, "upload_file": self._upload, "submit": self._submit,
            "progress": self._progress, "download": self._download,
        }.get(call)  # fmt: skip
        if method is None:
            self.faults.append(f"there is no call {call!r}")
            return failed(404, "Not Found")
        return await method(request)

    def _look_for_additions(self, call: str, request: web.Request) -> None:
        if "Range" in request.headers or "If-Range" in request.headers:
            self.faults.append(f"{call} was asked for a range")
        if request.can_read_body and request.content_length is None:
            self.faults.append(f"{call} came without a Content-Length")
        if call == "health" and "Authorization" in request.headers:
            self.faults.append("health was sent the secret")

    async def _health(self, _: web.Request) -> web.Response:
        queue = {"size": 0, "processing": None}
        return web.json_response({"code": 0, "msg": "ok", "initialized": True, "queue": queue})

    async def _check(self, request: web.Request) -> web.Response:
        files = (await request.json())["files"]
        self.faults += [
            f"checked {file}" for file in files if not _MD5.fullmatch(file["hash"]) or set(file) != {"hash", "ext"}
        ]
        return done({file["hash"]: file["hash"] in self.files for file in files})

    async def _upload(self, request: web.Request) -> web.Response:
        form: dict[str, bytes] = {}
        files: set[str] = set()
        async for part in await request.multipart():  # `post` would leave a temporary file when the client goes away
            name = str(part.name)
            form[name] = bytes(await part.read())
            files |= {name} if part.filename else set()
        if set(form) != {"file", "hash", "ext"} or files != {"file"}:
            self.faults.append(f"a form of {sorted(form)}")
            return failed(400, "file, hash and ext are required")
        data, digest = form["file"], form["hash"].decode()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
            self.faults.append("a file under a wrong hash, which it stores anyway")
        self.files[digest] = data
        return done({"hash": digest, "server_path": f"/data/{digest}{form['ext'].decode()}"})

    async def _submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if set(asked) != {"audio_hash", "audio_ext", "video_hash", "video_ext"}:
            self.faults.append(f"a submit with {sorted(asked)}")
        if asked["video_hash"] not in self.files or asked["audio_hash"] not in self.files:
            return failed(404, "files not uploaded")
        task = f"{asked['video_hash'][:8]}_{asked['audio_hash'][:8]}"
        cached = {"cached": True} if task in self.results else {}
        self.results[task] = b"rendered:" + self.files[asked["video_hash"]] + self.files[asked["audio_hash"]]
        return done({"task_id": task, "queue": {"size": 1}, **cached})

    async def _progress(self, request: web.Request) -> web.Response:
        task = request.query["task_id"]
        if task not in self.results:
            return failed(404, "task not found")
        step = min(self._polls[task], len(self.statuses) - 1)
        self._polls[task] += 1
        percent = 100 * (step + 1) // len(self.statuses)
        return done({
            "task_id": task, "status": self.statuses[step], "progress": percent, "message": "", "total_frames": 0,
            "current_frame": 0, "queue_position": 0, "created_at": 1, "started_at": None, "finished_at": None,
            "error": None,
        })  # fmt: skip

    async def _download(self, request: web.Request) -> web.StreamResponse:
        task = request.query["task_id"]
        if task not in self.results:
            return failed(404, "task not found")
        return web.Response(body=self.results[task], content_type="video/mp4")


def done(data: object) -> web.Response:
    """A call that went well."""
    return web.json_response({"code": 0, "data": data, "msg": "success"})


def failed(status: int, msg: str) -> web.Response:
    """A call that did not."""
    return web.json_response({"code": status, "msg": msg}, status=status)


@asynccontextmanager
async def old_worker(port: int = 0) -> AsyncIterator[OldWorker]:
    """An old worker on loopback."""
    worker = OldWorker()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", worker.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    async with plain_server.serving(runner, port) as taken:
        worker.url = f"http://127.0.0.1:{taken}"
        yield worker


@asynccontextmanager
async def field(
    user: User,
    *,
    online: bool = True,
    hub_life: AsyncExitStack | None = None,
    worker_life: AsyncExitStack | None = None,
) -> AsyncIterator[tuple[OldHub, OldWorker]]:
    """The user's hub and worker are old ones, and the settings are where users of the field have them.

    A test that gives one of them a `life` ends it when it likes.
    """
    async with asyncio.timeout(50), AsyncExitStack() as ours:
        hub = await (hub_life or ours).enter_async_context(old_hub(online=online))
        worker = await (worker_life or ours).enter_async_context(old_worker())
        worker.up, hub.worker = online, worker
        lines = {"API_SERVER_URL": hub.url, "HEYGEM_SERVER_URL": worker.url, "HEYGEM_API_SECRET": SECRET}
        (user.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        (user.folder / ".license").touch(mode=0o600)
        (user.folder / ".license").write_text(f'{{"license_key": "{KEY}"}}')
        yield hub, worker
