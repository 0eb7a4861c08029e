"""A fake ComfyUI on loopback: the HTTP and WebSocket interface, the queue and the history, with all their traps.

It copies ComfyUI 0.3.64 (`server.py`, `execution.py`, `main.py`), and with `newer` the releases of 2026: the jobs API
of its pull request 14493, ids that must be canonical UUIDs (13998), and a history without cached outputs if a prompt
has no client (until 14939). test_comfyui_engine.py compares it with a real 0.3.64, frame by frame. The traps:

- An upload whose name is taken by other bytes gets another name. A body over 100 MB is refused with 413.
- `/prompt` runs the same id again. If one output of several cannot run, the answer is 200, and the output is missing.
- `/interrupt` is global before September 2025 (`interrupts_any`, its pull request 9607). The prompt ends only after its
  present node, the next node is reported as started, and the history has the error.
- Deleting is always 200, and a deleted prompt leaves no trace.
- Queue, history and cache are lost with a restart.
- A node with the same inputs as in the prompt before does not run: its outputs have the old names, also if the files
  were removed since.
- `status` comes twice, previews are binary frames, `executing null` comes after the history and up to 0.4 s late.
- Videos are listed under `images`, with `animated`.
- A client that connects again before its old connection has ended gets no messages any more (its issue 9393).
- What fails in the server itself is 500 with a text, and everything may take long: `answer` decides.
"""

from __future__ import annotations

import asyncio
import heapq
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from aiohttp import BodyPartReader, web

from tests.support.engines.comfyui_graph import INFO, Cache, Folders, Interrupted, check, is_link, order, run_node
from tests.support.programs import plain_server

MAX_UPLOAD = 100 * 1024 * 1024
PREVIEW = b"\x00\x00\x00\x01\x00\x00\x00\x01\xff\xd8\xff\xe0\x00\x10JFIF\x00"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class FakeComfyUi:
    """The server; `url` is known while it `runs`.

    Args:
        folder: Its folder: inputs and outputs survive a restart.
        newer: It has the jobs API and takes only canonical UUIDs.
        interrupts_any: An interrupt ends any prompt, whatever id it has.

    Attributes:
        missing: Nodes that are not installed.
        late: Seconds until `executing null` comes.
        answer: Asked before each call; may wait, or give an answer in place of the right one.
        calls: The calls so far, as `POST /prompt`.
        frames: What was sent to each client.
    """

    def __init__(self, folder: Path, *, newer: bool = False, interrupts_any: bool = False) -> None:
        self.folders = Folders(folder)
        self.newer, self.interrupts_any = newer, interrupts_any
        self.url = ""
        self.missing: set[str] = set()
        self.late = 0.4
        self.answer: Answer | None = None
        self.calls: list[str] = []
        self.frames: dict[str, list[dict[str, Any]]] = {}
        self._port = 0
        self._number = 0
        self._forget()
        self._stack = AsyncExitStack()

    def _forget(self) -> None:
        self.queue: list[list[Any]] = []
        self.running: list[Any] | None = None
        self.history: dict[str, Any] = {}
        self._cache = Cache(self.folders)
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._interrupt = False
        self._came = asyncio.Event()
        self._out: asyncio.Queue[tuple[object, str | None]] = asyncio.Queue()
        self._calling: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[FakeComfyUi]:
        """Serve for as long as the block runs."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Listen, at the same port as before."""
        app = web.Application(client_max_size=MAX_UPLOAD, middlewares=[self._seen])
        for prefix in ("", "/api"):
            for method, path, call in self._routes():
                app.router.add_route(method, prefix + path, call)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._port = await self._stack.enter_async_context(plain_server.serving(runner, self._port))
        self.url = f"http://127.0.0.1:{self._port}"
        for work in (self._prompts(), self._publish()):
            task = asyncio.create_task(work)
            self._stack.push_async_callback(_ended, task)

    async def stop(self) -> None:
        """End as a killed process does: all connections break, and nothing is remembered."""
        for task in list(self._calling):
            task.cancel()
        for socket in list(self._sockets.values()):
            await socket.close()
        await self._stack.aclose()
        self._forget()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    def _routes(self) -> list[tuple[str, str, Any]]:
        jobs: list[tuple[str, str, Any]] = [
            ("GET", "/jobs/{id}", self._job),
            ("POST", "/jobs/{id}/cancel", self._cancel_job),
        ]
        return [
            ("GET", "/ws", self._listen), ("POST", "/upload/image", self._upload), ("POST", "/prompt", self._put),
            ("GET", "/queue", self._get_queue), ("POST", "/queue", self._post_queue), ("GET", "/view", self._view),
            ("POST", "/interrupt", self._post_interrupt), ("GET", "/history/{id}", self._get_history),
            ("POST", "/history", self._post_history), ("GET", "/object_info", self._object_info),
            ("GET", "/object_info/{class}", self._object_info), *(jobs if self.newer else ()),
        ]  # fmt: skip

    @web.middleware
    async def _seen(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        task = asyncio.current_task()
        assert task is not None
        self._calling.add(task)
        try:
            instead = await self.answer(request) if self.answer is not None else None
            return instead or await handler(request)
        finally:
            self._calling.discard(task)

    # HTTP

    async def _upload(self, request: web.Request) -> web.Response:
        fields: dict[str, bytes] = {}
        sent_as, size = "", 0
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            data = bytearray()
            while block := await part.read_chunk(1024 * 1024):
                data += block
                size += len(block)
                if size > MAX_UPLOAD:
                    raise web.HTTPRequestEntityTooLarge(MAX_UPLOAD, size)
            fields[part.name or ""] = bytes(data)
            sent_as = part.filename or sent_as
        kind = fields.get("type", b"input").decode()
        stem, _, ending = sent_as.rpartition(".")
        name, count, data = sent_as, 0, bytearray(fields["image"])
        folder = self.folders.of(kind)
        while (folder / name).exists() and (folder / name).read_bytes() != data:
            count += 1
            name = f"{stem} ({count}).{ending}"
        if not (folder / name).exists():  # the same bytes are not written again: a node may be reading them
            (folder / name).write_bytes(data)
        return web.json_response({"name": name, "subfolder": "", "type": kind})

    async def _put(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if "prompt" not in asked:
            return _refused({"type": "no_prompt", "message": "No prompt provided"}, {})
        given = asked.get("prompt_id", str(uuid.uuid4()))
        if self.newer and not _canonical(given):
            return _refused({"type": "invalid_prompt_id", "message": "prompt_id must be a valid UUID"}, {})
        number, self._number = self._number, self._number + 1
        error, nodes, outputs = check(asked["prompt"], self.folders)
        if error is not None:
            newer = self.newer and error["type"] == "invalid_prompt"
            return _refused({**error, "type": "missing_node_type"} if newer else error, nodes)
        extra = {**asked.get("extra_data", {}), **({"client_id": asked["client_id"]} if "client_id" in asked else {})}
        heapq.heappush(self.queue, [number, given, asked["prompt"], extra, outputs])
        self._came.set()
        self._tell_status()
        return web.json_response({"prompt_id": given, "number": number, "node_errors": nodes})

    async def _get_queue(self, _: web.Request) -> web.Response:
        running = [self.running] if self.running is not None else []
        return web.json_response({"queue_running": running, "queue_pending": self.queue})

    async def _post_queue(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("clear"):
            self.queue.clear()
            self._tell_status()
        for each in asked.get("delete", ()):
            self._delete(each)
        return web.Response()

    def _delete(self, prompt: str) -> bool:
        found = [row for row in self.queue if row[1] == prompt][:1]
        for row in found:
            self.queue.remove(row)
            heapq.heapify(self.queue)
            self._tell_status()
        return bool(found)

    async def _post_interrupt(self, request: web.Request) -> web.Response:
        with suppress(orjson.JSONDecodeError):
            asked = orjson.loads(await request.read() or b"{}")
            self._interrupt_if(None if self.interrupts_any else asked.get("prompt_id"))
        return web.Response()

    def _interrupt_if(self, prompt: str | None) -> bool:
        ours = prompt is None or (self.running is not None and self.running[1] == prompt)
        self._interrupt |= ours
        return ours

    async def _job(self, request: web.Request) -> web.Response:
        job = request.match_info["id"]
        rows = {row[1]: "pending" for row in self.queue} | ({self.running[1]: "in_progress"} if self.running else {})
        status = "completed" if job in self.history else rows.get(job)
        if status is None:
            return web.json_response({"error": "Job not found"}, status=404)
        return web.json_response({"id": job, "status": status})

    async def _cancel_job(self, request: web.Request) -> web.Response:
        job = request.match_info["id"]
        ours = self.running is not None and self.running[1] == job
        return web.json_response({"cancelled": self._interrupt_if(job) if ours else self._delete(job)})

    async def _get_history(self, request: web.Request) -> web.Response:
        found = self.history.get(request.match_info["id"])
        return web.json_response({} if found is None else {request.match_info["id"]: found})

    async def _post_history(self, request: web.Request) -> web.Response:
        asked = await request.json()
        for each in list(self.history) if asked.get("clear") else asked.get("delete", ()):
            self.history.pop(each, None)
        return web.Response()

    async def _view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        path = self.folders.of(query.get("type", "output")) / query.get("subfolder", "") / query["filename"]
        if not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path, headers={"Content-Disposition": f'filename="{path.name}"'})

    async def _object_info(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("class")
        found = {name: info for name, info in INFO.items() if wanted in (None, name) and name not in self.missing}
        text = orjson.dumps(found).decode()
        names = sorted(path.name for path in self.folders.of("input").iterdir())
        images = [name for name in names if name.endswith(".png")]
        found = orjson.loads(text)
        if "LoadImage" in found:
            found["LoadImage"]["input"]["required"]["image"][0] = images
        if "LoadVideo" in found:
            found["LoadVideo"]["input"]["required"]["file"][1]["options"] = [n for n in names if n.endswith(".mp4")]
        return web.json_response(found)

    # WebSocket

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        self._sockets.pop(client, None)
        self._sockets[client] = socket
        try:
            self._tell("status", {"status": self._status(), "sid": client}, client)
            async for _ in socket:
                pass
        finally:
            self._sockets.pop(client, None)  # also if it is a newer connection's by now, as the real one does
        return socket

    def _status(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self.queue) + (self.running is not None)}}

    def _tell_status(self) -> None:
        self._tell("status", {"status": self._status()})

    def _tell(self, kind: str, data: Mapping[str, Any], client: str | None = None) -> None:
        self._out.put_nowait(({"type": kind, "data": data}, client))

    async def _publish(self) -> None:
        while True:
            frame, client = await self._out.get()
            for name, socket in list(self._sockets.items()):
                if client not in (None, name):
                    continue
                with suppress(ConnectionError):
                    if isinstance(frame, bytes):
                        await socket.send_bytes(frame)
                    else:
                        text = orjson.dumps(frame).decode()
                        self.frames.setdefault(name, []).append(orjson.loads(text))
                        await socket.send_str(text)

    # the prompts, one after the other

    async def _prompts(self) -> None:
        while True:
            while not self.queue:
                self._came.clear()
                await self._came.wait()
            self.running = heapq.heappop(self.queue)
            self._tell_status()
            _, name, prompt, extra, outputs = self.running
            run = _Run(self, name, prompt, extra.get("client_id"))
            await run.all(outputs)
            self.history[name] = {
                "prompt": self.running, "outputs": run.outputs, "meta": {},
                "status": {"status_str": "success" if run.ok else "error", "completed": run.ok, "messages": run.said},
            }  # fmt: skip
            self.running = None
            self._tell_status()
            if run.client is not None:
                last = ("executing", {"node": None, "prompt_id": name}, run.client)
                asyncio.get_running_loop().call_later(self.late, self._tell, *last)


class _Run:
    """One prompt that runs."""

    def __init__(self, server: FakeComfyUi, name: str, prompt: Mapping[str, Any], client: str | None) -> None:
        self.server, self.name, self.prompt, self.client = server, name, prompt, client
        self.outputs: dict[str, Any] = {}
        self.said: list[Any] = []
        self.ok = True
        self.nodes: dict[str, Any] = {}
        self.executed: list[str] = []

    def tell(self, kind: str, **data: object) -> None:
        """A frame for the client; without a client only `progress_state` is sent, to all."""
        if self.client is not None or kind == "progress_state":
            self.server._tell(kind, data, self.client)

    def message(self, kind: str, **data: object) -> None:
        """A frame that is in the history too."""
        data = {"prompt_id": self.name, **data, "timestamp": int(time.time() * 1000)}
        self.said.append([kind, data])
        if self.client is not None or kind == "execution_interrupted":
            self.server._tell(kind, data, self.client)

    async def all(self, outputs: list[str]) -> None:
        """Run all nodes that the outputs need."""
        server, cache = self.server, self.server._cache
        server._interrupt = False
        self.message("execution_start")
        keys = cache.keys(self.prompt)
        self.message("execution_cached", nodes=[node for node in self.prompt if keys[node] in cache.known])
        for node in order(self.prompt, outputs, lambda each: keys[each] in cache.known):
            if keys[node] in cache.known:
                shown = cache.known[keys[node]][1]
                self.tell("executed", node=node, display_node=node, output=shown, prompt_id=self.name)
                self.state(node, 1, 1, "finished")
            elif not await self.one(node, keys):
                self.ok = False
                return
            lost = server.newer and self.client is None and node not in self.executed
            if (shown := cache.known[keys[node]][1]) is not None and not lost:
                self.outputs[node] = shown
        self.message("execution_success")

    async def one(self, node: str, keys: Mapping[str, str]) -> bool:
        """Run one node. False if it failed."""
        made, cache = self.prompt[node], self.server._cache
        self.state(node, 0.0, 1.0, "running")
        self.tell("executing", node=node, display_node=node, prompt_id=self.name)
        inputs = {
            name: cache.known[keys[value[0]]][0][value[1]] if is_link(value) else value
            for name, value in made["inputs"].items()
        }
        try:
            self.go_on()
            await asyncio.sleep(0)
            values, shown = await run_node(made["class_type"], inputs, self.server.folders, self.step(node))
        except Interrupted:
            self.message("execution_interrupted", node_id=node, node_type=made["class_type"], executed=self.executed)
            return False
        except Exception as error:
            self.message(
                "execution_error", node_id=node, node_type=made["class_type"], executed=self.executed,
                exception_message=f"{error}\n", exception_type=type(error).__name__, traceback=["…"],
                current_inputs={}, current_outputs=[],
            )  # fmt: skip
            return False
        cache.known[keys[node]] = (values, shown)
        if shown is not None:
            self.tell("executed", node=node, display_node=node, output=shown, prompt_id=self.name)
        most = self.nodes[node]["max"]
        self.state(node, most, most, "finished")
        self.executed.append(node)
        return True

    def go_on(self) -> None:
        """Raises `Interrupted` if that was asked."""
        if self.server._interrupt:
            self.server._interrupt = False
            raise Interrupted

    def step(self, node: str) -> Callable[[int, int], Awaitable[None]]:
        """What a node reports its steps with."""

        async def report(value: int, most: int) -> None:
            self.go_on()
            self.state(node, value, most, "running")
            self.tell("progress", value=value, max=most, prompt_id=self.name, node=node)
            if self.client is not None:
                self.server._out.put_nowait((PREVIEW, self.client))

        return report

    def state(self, node: str, value: float, most: float, state: str) -> None:
        """Send how far all nodes are."""
        self.nodes[node] = {
            "value": value, "max": most, "state": state, "node_id": node, "prompt_id": self.name,
            "display_node_id": node, "parent_node_id": None, "real_node_id": node,
        }  # fmt: skip
        self.tell("progress_state", prompt_id=self.name, nodes=dict(self.nodes))


def _refused(error: Mapping[str, Any], nodes: Mapping[str, Any]) -> web.Response:
    return web.json_response({"error": {"details": "", "extra_info": {}, **error}, "node_errors": nodes}, status=400)


def _canonical(text: object) -> bool:
    try:
        return isinstance(text, str) and str(uuid.UUID(text)) == text
    except ValueError:
        return False


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
