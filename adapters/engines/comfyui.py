"""The engine `comfyui`: runs workflows in a ComfyUI server, each as a kind of its own.

Options: `url` (default http://127.0.0.1:8188), `manifest` (the file that `wakestream kinds add` writes), `client` (the
name under which ComfyUI knows this worker).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.comfyui_progress import NodeTimes, PromptProgress
from wakestream.adapters.engines.comfyui_workflow import WorkflowKind, load_kinds
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.http_engine import HttpEngine
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError, WrongInput

DEFAULT_URL: Final = "http://127.0.0.1:8188"

LOOK_EVERY = 1.0
"""Seconds between two looks at the history, while nothing is said on the WebSocket."""

CANCEL_WITHIN = 5.0
"""Seconds to wait until a cancelled prompt has left; ComfyUI ends it only after its present node."""

_GONE_AFTER = 3
"""How often a prompt must be found neither in the queue nor in the history until it counts as lost."""


def create(config: EngineConfig) -> ComfyUi:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("comfyui", ("url", "manifest", "client"), needed=("manifest",))
    url = options.get("url") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--engine-option url={url}: write an address such as {DEFAULT_URL}")
    kinds = load_kinds(Path(options["manifest"]).expanduser())
    return ComfyUi(url, kinds, client=options.get("client") or uuid.uuid4().hex)


@dataclass(slots=True)
class _Prompt:
    """One prompt in ComfyUI: its id, its nodes, and how far it is."""

    id: str
    kind: WorkflowKind
    progress: PromptProgress
    error: str = ""
    ended: bool = False
    seen: asyncio.Event = field(default_factory=asyncio.Event)


class ComfyUi(Engine):
    """Runs workflows in one ComfyUI server.

    Args:
        url: The server's address.
        kinds: The kinds by name.
        client: The client id of this worker at the server.
    """

    def __init__(self, url: str, kinds: Mapping[str, WorkflowKind], client: str) -> None:
        self._http = HttpEngine(url, "ComfyUI")
        self._kinds = dict(kinds)
        self._client = client
        self._times = NodeTimes()

    async def describe(self) -> Sequence[Kind]:
        """The workflows, with the limits and choices that ComfyUI knows of their parameters."""
        status, info = await self._http.json("GET", "/object_info")
        if status != 200 or not isinstance(info, dict):
            raise EngineUnreachable(f"{self._http.url} is not a ComfyUI server: HTTP {status} for /object_info")
        self._kinds = {name: kind.with_schema(info) for name, kind in self._kinds.items()}
        return [kind.kind for kind in self._kinds.values()]

    async def ready(self) -> Readiness:
        """Whether the server answers and has all nodes of the workflows."""
        try:
            for class_type in sorted(
                {node["class_type"] for kind in self._kinds.values() for node in kind.workflow.values()}
            ):
                status, info = await self._http.json("GET", f"/object_info/{class_type}")
                if status != 200:
                    return Readiness(False, f"{self._http.url} is not a ComfyUI server: HTTP {status}")
                if not info:
                    return Readiness(
                        False, f"ComfyUI has no node {class_type}: install the custom nodes of the workflow"
                    )
        except WakestreamError as error:
            return Readiness(False, str(error))
        return Readiness(True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Run the workflow; a prompt of an earlier run of the worker that is still there is followed."""
        kind = self._kinds[work.kind]
        prompt = _Prompt(prompt_id(work), kind, PromptProgress(kind.workflow, self._times))
        async with self._listening(prompt):
            if await self._found(prompt.id) is None:
                await self._start(work, prompt)
            async for item in self._followed(prompt):
                yield item
        outputs = await self._outputs(prompt)
        self._times.learn(prompt.progress)
        for name in work.outputs:
            yield await self._fetched(work, kind, name, outputs)

    async def cancel(self, work: Work) -> None:
        """Remove the prompt from the queue, or interrupt it if it is the one that runs."""
        with suppress(WakestreamError, TimeoutError):
            async with asyncio.timeout(CANCEL_WITHIN):
                await self._cancel(prompt_id(work))

    async def close(self) -> None:
        """Close the connections; a prompt that runs goes on."""
        await self._http.close()

    async def _cancel(self, prompt: str) -> None:
        status, _ = await self._http.json("POST", f"/api/jobs/{prompt}/cancel")
        while (place := await self._place(prompt)) is not None:
            if place > 0:
                await self._http.json("POST", "/queue", json={"delete": [prompt]})
            elif status >= 300:
                # Old versions interrupt whatever runs, so this is only sent while our own prompt runs.
                await self._http.json("POST", "/interrupt", json={"prompt_id": prompt})
                status = 200
            await asyncio.sleep(0.2)  # it ends after its present node; nothing says when

    async def _start(self, work: Work, prompt: _Prompt) -> None:
        names = {name: await self._uploaded(name, path) for name, path in work.inputs.items()}
        asked = {
            "prompt": prompt.kind.prompt(names, work.params), "client_id": self._client, "prompt_id": prompt.id,
        }  # fmt: skip
        status, said = await self._http.json("POST", "/prompt", json=asked)
        if status == 200 and isinstance(said, dict) and said.get("prompt_id") == prompt.id:
            return
        if status == 400 and isinstance(said, dict):
            raise _refusal(prompt.kind, said)
        raise TaskFailed(f"ComfyUI did not take the workflow: HTTP {status} {str(said)[:200]}")

    async def _uploaded(self, name: str, path: Path) -> str:
        """Upload a file; returns the name that ComfyUI gave it."""
        with path.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("image", file, filename=path.name, content_type="application/octet-stream")
            form.add_field("type", "input")
            status, said = await self._http.json("POST", "/upload/image", data=form)
        if status == 413:
            size = path.stat().st_size
            raise WrongInput(
                f"inputs.{name}",
                f"input {name}: ComfyUI does not take a file of {size} bytes; start it with a larger --max-upload-size",
            )
        if status != 200 or not isinstance(said, dict) or not said.get("name"):
            raise TaskFailed(f"ComfyUI did not take the file of input {name}: HTTP {status}")
        folder = said.get("subfolder")
        return f"{folder}/{said['name']}" if folder else str(said["name"])

    def _listening(self, prompt: _Prompt) -> _Listener:
        return _Listener(self._http, self._client, prompt)

    async def _followed(self, prompt: _Prompt) -> AsyncGenerator[Frame | Line, None]:
        """Progress until the prompt is in the history, which is the only sure sign of its end."""
        missed, last = 0, None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await prompt.seen.wait()
            prompt.seen.clear()
            frame = prompt.progress.frame()
            if frame != last:
                last = frame
                yield frame
            found = await self._found(prompt.id) if prompt.ended or not prompt.progress.moving else "running"
            if found == "done":
                return
            missed = missed + 1 if found is None else 0
            if missed >= _GONE_AFTER:
                raise EngineUnreachable(
                    "ComfyUI does not know the work any more; it was restarted, or it was deleted there"
                )

    async def _found(self, prompt: str) -> str | None:
        """`done`, `running`, or None if ComfyUI does not know it. Queue first: it moves from there to the history."""
        if await self._place(prompt) is not None:
            return "running"
        return "done" if await self._history(prompt) is not None else None

    async def _place(self, prompt: str) -> int | None:
        """0 if it runs, its place in the queue from 1, None if it is in neither."""
        status, queue = await self._http.json("GET", "/queue")
        if status != 200 or not isinstance(queue, dict):
            raise EngineUnreachable(f"ComfyUI does not show its queue: HTTP {status}")
        if any(row[1] == prompt for row in queue.get("queue_running", ())):
            return 0
        waiting = [row[1] for row in sorted(queue.get("queue_pending", ()), key=lambda row: row[0])]
        return waiting.index(prompt) + 1 if prompt in waiting else None

    async def _history(self, prompt: str) -> dict[str, Any] | None:
        status, said = await self._http.json("GET", f"/history/{prompt}")
        found = said.get(prompt) if status == 200 and isinstance(said, dict) else None
        return found if isinstance(found, dict) else None

    async def _outputs(self, prompt: _Prompt) -> Mapping[str, Any]:
        entry = await self._history(prompt.id)
        if entry is None:
            raise EngineUnreachable("ComfyUI does not know the work any more; it was restarted")
        status = entry.get("status") or {}
        if status.get("status_str") == "error" or not status.get("completed", True):
            raise TaskFailed(prompt.error or _error_in(status.get("messages", ())))
        outputs = entry.get("outputs")
        return outputs if isinstance(outputs, dict) else {}

    async def _fetched(self, work: Work, kind: WorkflowKind, name: str, outputs: Mapping[str, Any]) -> Made:
        node = kind.outputs[name]
        files = [one for one in _files_in(outputs.get(node)) if one.get("filename")]
        if not files:
            raise TaskFailed(f"ComfyUI made no file for the output {name} (node {node}); check the workflow")
        files.sort(key=lambda one: one.get("type") != "output")  # a preview only where nothing was saved
        first = files[0]
        target = work.folder / f"{name}{Path(str(first['filename'])).suffix.lower()}"
        params = {key: str(first.get(key) or "") for key in ("filename", "subfolder", "type")}
        await self._http.fetch("/view", target, params=params)
        if not target.stat().st_size:
            raise TaskFailed(f"ComfyUI made an empty file for the output {name} (node {node})")
        return Made(name, target)


class _Listener:
    """Listens on ComfyUI's WebSocket while the block runs, and connects again when it breaks."""

    def __init__(self, http: HttpEngine, client: str, prompt: _Prompt) -> None:
        self._http, self._client, self._prompt = http, client, prompt
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run())
        with suppress(TimeoutError):  # the history says everything, too; only the progress would be missing
            async with asyncio.timeout(LOOK_EVERY):
                await self._ready.wait()

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self._http.session.ws_connect(
                    f"{self._http.url}/ws", params={"clientId": self._client}, max_msg_size=0, heartbeat=20.0
                ) as socket:
                    self._ready.set()
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            self._take(message.data)
            await asyncio.sleep(LOOK_EVERY)

    def _take(self, text: str) -> None:
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        data = frame.get("data") if isinstance(frame, dict) else None
        if not isinstance(data, dict) or data.get("prompt_id") != self._prompt.id:
            return
        kind = frame.get("type")
        if kind == "execution_error":
            self._prompt.error = _sentence(data)
        self._prompt.ended |= kind in ("execution_success", "execution_error", "execution_interrupted")
        self._prompt.progress.take(str(kind), data)
        self._prompt.seen.set()


def prompt_id(work: Work) -> str:
    """The prompt's id: a canonical UUID that depends on the work and the attempt."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{work.id}/{work.attempt}"))


def _files_in(output: object) -> list[Mapping[str, Any]]:
    """All files of a node's output: they are under `images`, `gifs`, `audio`, `3d`, … depending on the node."""
    lists = output.values() if isinstance(output, Mapping) else ()
    return [one for each in lists if isinstance(each, list) for one in each if isinstance(one, Mapping)]


def _refusal(kind: WorkflowKind, said: Mapping[str, Any]) -> WakestreamError:
    """The error for a prompt that ComfyUI refused; a wrong value of a field of the job names that field."""
    errors = said.get("node_errors")
    for node, found in (errors or {}).items() if isinstance(errors, Mapping) else ():
        for error in found.get("errors", ()):
            name = str((error.get("extra_info") or {}).get("input_name", ""))
            text = f"{error.get('message', '')}: {error.get('details', '')}".strip(": ")
            field_name = kind.field_at(str(node), name)
            if field_name is not None:
                return WrongInput(field_name, f"{field_name}: ComfyUI refuses it: {text[:300]}")
            return TaskFailed(
                f"ComfyUI refused the workflow at node {node} {found.get('class_type', '')}: {text[:300]}"
            )
    error = said.get("error")
    text = f"{error.get('message', '')} {error.get('details', '')}" if isinstance(error, Mapping) else str(error)
    return TaskFailed(f"ComfyUI refused the workflow: {text.strip()[:300]}")


def _sentence(data: Mapping[str, Any]) -> str:
    text = str(data.get("exception_message") or "without a reason").strip()
    return f"ComfyUI failed at node {data.get('node_id')} {data.get('node_type') or ''}: {text[:500]}"


def _error_in(messages: object) -> str:
    """The error among the messages of the history."""
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], Mapping):
            if message[0] == "execution_error":
                return _sentence(message[1])
            if message[0] == "execution_interrupted":
                return "the work was interrupted in ComfyUI"
    return "ComfyUI failed without a reason; see its log"
