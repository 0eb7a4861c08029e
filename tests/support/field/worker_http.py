"""The HTTP side of the deployed GPU worker: the secret by `replace`, CORS on every reply, HTML where it breaks."""

import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support.field.worker_tasks import Task, Tasks, cache_key, md5

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Range",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Accept-Ranges, Content-Disposition",
}

_MD5 = re.compile(r"[0-9a-f]{32}").fullmatch

Call = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WorkerHttp:
    """Answers `/api/heygem/…`, `/api/asset/…` and `/ws/progress/ID`.

    `before[call]` may answer in the place of a call, to play a fault; None lets the call pass. `calls` counts them by
    name (`submit`, `progress`, …; the progress socket is `ws`). `submitted` is called at each HTTP submit.
    While it is not `on`, a gateway answers. What a deployed client does not send is kept in `faults`.
    """

    def __init__(self, tasks: Tasks, secret: str) -> None:
        self.tasks, self.secret = tasks, secret
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.before: dict[str, Call] = {}
        self.on = True
        self.faults: list[str] = []
        self.assets: list[dict[str, Any]] = []
        self.submitted: Callable[[Task], Awaitable[None]] = _nothing
        self._calls: dict[str, tuple[str, Handler]] = {
            "health": ("GET", self._health), "check_files": ("POST", self._check),
            "upload_file": ("POST", self._upload_file), "submit": ("POST", self._submit),
            "upload": ("POST", self._upload), "progress": ("GET", self._progress),
            "download": ("GET", self._download), "queue": ("GET", self._queue),
            "asset/upload": ("POST", self._asset_upload), "asset/list": ("GET", self._asset_list),
            "asset/delete": ("POST", self._asset_delete),
        }  # fmt: skip

    def app(self) -> web.Application:
        """The application, for a server of the test's."""
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/ws/progress/"):
            return await self._socket(request)
        if request.method == "OPTIONS":
            return web.Response(headers=CORS)
        name = request.path.removeprefix("/api/").removeprefix("heygem/")
        self.calls[name] += 1
        self.tasks.changed()
        if not self.on:
            return web.Response(status=502)
        try:
            reply = await self._answer(name, request)
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
            page = "<html><title>500 Internal Server Error</title></html>"
            reply = web.Response(status=500, text=page, content_type="text/html")
        if not reply.prepared:
            reply.headers.update(CORS)
        return reply

    async def _answer(self, name: str, request: web.Request) -> web.StreamResponse:
        self._look_for_additions(name, request)
        if name not in self._calls:
            return failed(404, "接口不存在")
        method, answer = self._calls[name]
        if request.method != method and not (name == "download" and request.method == "HEAD"):
            return failed(405, "请求方法不允许")
        if name != "health" and not self._may(request):
            self.refused[name] += 1
            return failed(401, "鉴权失败")
        early = await self.before[name](request) if name in self.before else None
        return early if early is not None else await answer(request)

    def _look_for_additions(self, call: str, request: web.Request) -> None:
        if call not in self._calls:
            self.faults.append(f"there is no call {call!r}")
        if "Range" in request.headers or "If-Range" in request.headers:
            self.faults.append(f"{call} was asked for a range")
        if request.can_read_body and request.content_length is None:
            self.faults.append(f"{call} came without a Content-Length")
        if call == "health" and "Authorization" in request.headers:
            self.faults.append("health was sent the secret")

    def _may(self, request: web.Request) -> bool:
        """Every `Bearer ` is taken away, so the bare secret passes, and `bearer …` does not."""
        given = request.headers.get("Authorization", "").replace("Bearer ", "").strip()
        return not self.secret or given == self.secret

    # --- files

    async def _health(self, _: web.Request) -> web.Response:
        # It listens only once the models are loaded.
        return web.json_response({"code": 0, "msg": "ok", "initialized": True, "queue": self.tasks.queue()})

    async def _check(self, request: web.Request) -> web.Response:
        files = (await request.json())["files"]
        self.faults += [f"checked {file}" for file in files if set(file) != {"hash", "ext"} or not _MD5(file["hash"])]
        return done({file["hash"]: f"{file['hash']}{file['ext']}" in self.tasks.files for file in files})

    async def _upload_file(self, request: web.Request) -> web.Response:
        form, names = await _form(request)
        if "file" not in form or not form.get("hash"):
            return failed(400, "缺少 file 或 hash")
        ext = form["ext"].decode() if form.get("ext") else _ext_of(names.get("file", ""))
        name = f"{form['hash'].decode()}{ext}"
        digest = form["hash"].decode()
        if (set(form), set(names)) != ({"file", "hash", "ext"}, {"file"}) or md5(form["file"]) != digest:
            self.faults.append(f"a form of {sorted(form)} for {digest}")
        if name not in self.tasks.files:  # a made-up hash is not refused: the file is kept under its real one
            digest = self.tasks.keep(form["file"], ext)
        return done({"hash": digest, "server_path": f"/data/pool/{digest}{ext}"})

    async def _upload(self, request: web.Request) -> web.Response:
        """Both files and the submit in one call; neither pooled nor cached."""
        form, names = await _form(request)
        pair = tuple(f"upload-{secrets.token_hex(4)}{_ext_of(names.get(part, ''))}" for part in ("audio", "video"))
        self.tasks.files.update(zip(pair, (form["audio"], form["video"]), strict=True))
        task = self.tasks.add((pair[0], pair[1]))
        return done({"task_id": task.id, "queue": self.tasks.queue()})

    # --- tasks

    async def _submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if set(asked) != {"audio_hash", "audio_ext", "video_hash", "video_ext"}:
            self.faults.append(f"a submit with {sorted(asked)}")
        audio, video = asked.get("audio_hash"), asked.get("video_hash")
        if not audio or not video:
            return failed(400, "缺少 audio_hash 或 video_hash")
        pair = (audio + asked.get("audio_ext", ".wav"), video + asked.get("video_ext", ".mp4"))
        for word, name in zip(("音频", "视频"), pair, strict=True):
            if name not in self.tasks.files:
                return failed(404, f"{word}文件不存在: {name}，请先上传")
        key = cache_key(audio, video)
        if key in self.tasks.results:
            task = self.tasks.add_finished(key, pair)
            await self.submitted(task)
            return done({"task_id": key, "cached": True, "queue": self.tasks.queue()})
        # The same pair while it renders is rendered again: only a finished one is found.
        task = self.tasks.add(pair, license_key=asked.get("license_key"), sender_fd=asked.get("sender_fd"))
        await self.submitted(task)
        return done({"task_id": task.id, "queue": self.tasks.queue()})

    async def _progress(self, request: web.Request) -> web.Response:
        task = self.tasks.tasks.get(request.query.get("task_id", ""))
        return failed(404, "任务不存在") if task is None else done(self.tasks.report(task))

    async def _queue(self, _: web.Request) -> web.Response:
        rows = [
            {"task_id": task.id, "status": task.status, "progress": task.progress, "created_at": int(task.created_at)}
            for task in self.tasks.tasks.values()
        ]
        return done({**self.tasks.queue(), "tasks": rows})

    async def _download(self, request: web.Request) -> web.Response:
        task = self.tasks.tasks.get(request.query.get("task_id", ""))
        if task is None:
            return failed(404, "任务不存在")
        if task.status != "done":
            return failed(400, "任务未完成")
        tag = f'"{md5(task.result)}"'
        headers = {"Accept-Ranges": "bytes", "ETag": tag, "Content-Disposition": f"inline; filename={task.id}.mp4"}
        body, status, part = task.result, 200, request.http_range
        if part.start is not None or part.stop is not None:
            body, status = body[part], 206
            begin = part.indices(len(task.result))[0]
            headers["Content-Range"] = f"bytes {begin}-{begin + len(body) - 1}/{len(task.result)}"
        return web.Response(body=body, status=status, headers=headers, content_type="video/mp4")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """The progress socket: 101 whatever comes; a wrong token or task is a frame with a `code`, then close 1000.

        It speaks at once, and again when `status`, `progress` or `current_frame` changed. Nothing else is ever sent.
        """
        self.calls["ws"] += 1
        socket = web.WebSocketResponse(heartbeat=None, autoping=False)
        if not socket.can_prepare(request).ok:
            return failed(400, "需要 WebSocket")
        await socket.prepare(request)
        task = self.tasks.tasks.get(request.path.rpartition("/")[2])
        if self.secret and request.query.get("token") != self.secret:
            self.refused["ws"] += 1
            await socket.send_json({"code": 401, "msg": "鉴权失败"})
        elif task is None:
            await socket.send_json({"code": 404, "msg": "任务 ID 不存在"})
        else:
            await self._follow(socket, task)
        await socket.close()
        return socket

    async def _follow(self, socket: web.WebSocketResponse, task: Task) -> None:
        told = None
        while not socket.closed:
            now = (task.status, task.progress, task.current_frame)
            if now != told:
                told = now
                await socket.send_json({"code": 0, "data": self.tasks.report(task)})
            if task.ended:
                return
            await self.tasks.until(lambda: (task.status, task.progress, task.current_frame) != told)  # noqa: B023

    # --- the phone's files

    async def _asset_upload(self, request: web.Request) -> web.Response:
        form, names = await _form(request)
        ext = _ext_of(names.get("file", ""))
        digest = self.tasks.keep(form["file"], ext)
        asset = {
            "id": len(self.assets) + 1, "name": form["name"].decode(), "asset_type": form["asset_type"].decode(),
            "file_hash": digest, "file_ext": ext, "file_size": len(form["file"]),
        }  # fmt: skip
        self.assets.append(asset | {"created_at": int(time.time()), "days_left": 1})
        return done(asset)

    async def _asset_list(self, _: web.Request) -> web.Response:
        return done(self.assets)

    async def _asset_delete(self, request: web.Request) -> web.Response:
        wanted = (await request.json())["id"]
        self.assets = [asset for asset in self.assets if asset["id"] != wanted]
        return web.json_response({"code": 0, "msg": "已删除"})


async def _form(request: web.Request) -> tuple[dict[str, bytes], dict[str, str]]:
    """The parts of a form, and the file names of those that have one."""
    form: dict[str, bytes] = {}
    names: dict[str, str] = {}
    async for part in await request.multipart():  # `post` would leave a temporary file when the client goes away
        name = str(part.name)
        form[name] = bytes(await part.read())  # type: ignore[union-attr, arg-type]
        if part.filename:
            names[name] = part.filename
    return form, names


def _ext_of(name: str) -> str:
    return f".{name.rpartition('.')[2]}" if "." in name else ".bin"


def done(data: object) -> web.Response:
    """A call that went well."""
    return web.json_response({"code": 0, "data": data, "msg": "success"})


def failed(status: int, msg: str) -> web.Response:
    """A call that did not: no `data`."""
    return web.json_response({"code": status, "msg": msg}, status=status)


async def _nothing(_: Task) -> None:
    """Nobody listens."""
