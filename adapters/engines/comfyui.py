"""The engine `comfyui`: runs workflows in a ComfyUI server, each as a kind of its own.

Options: `url` (default http://127.0.0.1:8188), `manifest` (the file that `wakestream kinds add` writes), `client` (the
name under which ComfyUI knows this worker).
"""

from __future__ import annotations

import asyncio
import platform
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines import comfyui_prompt as prompts
from wakestream.adapters.engines.comfyui_workflow import WorkflowKind, load_kinds
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.http_engine import HttpEngine, NotMade, Waiting, ending, outputs_of
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Preview, Readiness, Slot, Work, numbered
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError, WrongInput

DEFAULT_URL: Final = "http://127.0.0.1:8188"

LOOK_EVERY = 1.0
"""Seconds between two looks at queue and history, while nothing is said on the WebSocket."""

LOOK_WHILE_HEARD = 5.0
"""The same while it does say something: the queue has the whole workflows of all prompts."""

PATIENCE = 60.0
"""Seconds without an answer until a prompt that runs counts as lost: ComfyUI does not answer while it loads a model."""

CANCEL_WITHIN = 5.0
"""Seconds to wait until a cancelled prompt has left; ComfyUI ends it only after its present node."""

_TIMES = "comfyui-times.json"


def create(config: EngineConfig) -> ComfyUi:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("comfyui", ("url", "manifest", "client"), needed=("manifest",))
    url = options.get("url") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--engine-option url={url}: write an address such as {DEFAULT_URL}")
    kinds = load_kinds(Path(options["manifest"]).expanduser())
    times = prompts.NodeTimes(None if config.folder is None else config.folder / _TIMES)
    return ComfyUi(url, kinds, options.get("client") or _client(config.folder), times)


def _client(folder: Path | None) -> str:
    """The same id after a restart of the worker: ComfyUI sends a prompt's messages to the client that queued it."""
    if folder is None:
        return uuid.uuid4().hex
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{platform.node()} {folder.absolute()}").hex


class ComfyUi(Engine):
    """Runs workflows in one ComfyUI server.

    Args:
        url: The server's address.
        kinds: The kinds by name.
        client: The client id of this worker at the server.
        times: What nodes took earlier.
    """

    def __init__(self, url: str, kinds: Mapping[str, WorkflowKind], client: str, times: prompts.NodeTimes) -> None:
        self._http = HttpEngine(url, "ComfyUI")
        self._declared = dict(kinds)
        self._kinds = dict(kinds)
        self._client = client
        self._times = times
        self._known: set[str] = set()
        self._lacks: dict[str, str] = {}
        self._sent: dict[str, asyncio.Task[tuple[int, Any]]] = {}
        self._has_jobs = True

    async def describe(self) -> Sequence[Kind]:
        """The workflows whose nodes ComfyUI has, with the limits and choices that it knows of their parameters."""
        info = await self._http.object("/object_info", f"{self._http.url} is not a ComfyUI server")
        self._kinds = {name: kind.with_schema(info) for name, kind in self._declared.items()}
        return [kind.kind for name, kind in self._kinds.items() if name not in self._lacks]

    async def ready(self) -> Readiness:
        """Whether the server answers and has all nodes of a workflow; a workflow that lacks one is not offered."""
        before = self._lacks
        try:
            await self._place("")
            self._lacks = {name: lacks for name, kind in self._declared.items() if (lacks := await self._lack(kind))}
        except WakestreamError as error:
            self._known.clear()
            return Readiness(False, str(error))
        told = {
            name: f"kind {name} is not offered: node {lacks} is missing in ComfyUI; install its custom nodes"
            for name, lacks in self._lacks.items()
        }
        for name, _ in self._lacks.items() - before.items():
            logger.error("{}", told[name])
        if len(self._lacks) < len(self._declared):
            return Readiness(True, "; ".join(told.values()))
        missing = ", ".join(dict.fromkeys(self._lacks.values()))
        return Readiness(
            False, f"ComfyUI is not ready: node {missing} is missing; install the custom nodes of the workflow"
        )

    async def _lack(self, kind: WorkflowKind) -> str:
        """A node of the workflow that ComfyUI does not have; empty if it has all."""
        for class_type in sorted({str(node["class_type"]) for node in kind.workflow.values()} - self._known):
            path = f"/object_info/{quote(class_type, safe='')}"
            if not await self._http.object(path, f"{self._http.url} is not a ComfyUI server"):
                return class_type
            self._known.add(class_type)
        return ""

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Run the workflow; a prompt of an earlier run of the worker that is still there is followed."""
        kind = self._kinds[work.kind]
        prompt = prompts.RunningPrompt(
            prompts.prompt_id(work), kind, prompts.PromptProgress(work.kind, kind.workflow, self._times)
        )
        async with prompts.Listener(self._http, self._client, prompt):
            if not await self._is_there(prompt):
                await self._start(work, prompt)
            async for item in self._followed(prompt):
                yield item
        outputs = await self._outputs(prompt)
        self._times.learn(prompt.progress)
        async for result in outputs_of(work, kind.kind, lambda slot: self._fetched(work, prompt, slot, outputs)):
            yield result

    async def cancel(self, work: Work) -> None:
        """Remove the prompt from the queue, or interrupt it if it is the one that runs."""
        prompt = prompts.prompt_id(work)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_WITHIN):
                if (sent := self._sent.get(prompt)) is not None:
                    await asyncio.wait([sent])  # before that it may not be in the queue yet
                await self._cancel(prompt)

    async def close(self) -> None:
        """Close the connections; a prompt that runs goes on."""
        await self._http.close()

    async def _cancel(self, prompt: str) -> None:
        asked = False
        while True:
            with suppress(EngineUnreachable):
                if (place := await self._place(prompt)) is None:
                    return
                asked = asked or await self._ask_to_cancel(prompt, place)
            await asyncio.sleep(0.2)  # it ends after its present node; nothing says when

    async def _ask_to_cancel(self, prompt: str, place: int) -> bool:
        """Returns whether it was asked of a prompt that runs; one that waited may have started meanwhile."""
        if self._has_jobs:
            status, said = await self._http.json("POST", f"/api/jobs/{prompt}/cancel")
            self._has_jobs = status not in (404, 405)
            if status == 200 and isinstance(said, dict):
                return place == 0
        if place > 0:
            await self._http.json("POST", "/queue", json={"delete": [prompt]})
            return False
        # Versions before September 2025 interrupt whatever runs, so this is only sent while our own prompt runs.
        await self._http.json("POST", "/interrupt", json={"prompt_id": prompt})
        return True

    async def _is_there(self, prompt: prompts.RunningPrompt) -> bool:
        """Whether the prompt waits, runs or has succeeded. A failure is forgotten: the work is to be done again."""
        if await self._place(prompt.id) is not None:
            return True
        entry = await self._history(prompt.id)
        if entry is not None and prompts.failure(prompt.kind, entry) is not None:
            await self._forget(prompt)
            return False
        return entry is not None

    async def _forget(self, prompt: prompts.RunningPrompt) -> None:
        await self._http.json("POST", "/history", json={"delete": [prompt.id]})

    async def _start(self, work: Work, prompt: prompts.RunningPrompt) -> None:
        names = {name: await self._uploaded(name, path) for name, path in work.inputs.items()}
        asked = {
            "prompt": prompt.kind.prompt(names, work.params, prompt.id[:8]), "client_id": self._client,
            "prompt_id": prompt.id,
        }  # fmt: skip
        status, said = await self._send(prompt.id, asked)
        if status == 200 and isinstance(said, dict) and said.get("prompt_id") == prompt.id:
            if (refused := prompts.refused_outputs(prompt.kind, said, work.outputs)) is not None:
                await self.cancel(work)  # ComfyUI runs the other outputs
                raise refused
            return
        if status == 400 and isinstance(said, dict):
            raise prompts.refusal(prompt.kind, said)
        raise EngineUnreachable(f"ComfyUI did not take the workflow: HTTP {status} {str(said or '')[:200]}".rstrip())

    async def _send(self, prompt: str, asked: Mapping[str, Any]) -> tuple[int, Any]:
        """Send a prompt. A cancel waits for the answer: the prompt is in the queue only then."""
        sent = asyncio.create_task(self._http.json("POST", "/prompt", json=asked))
        self._sent[prompt] = sent

        def answered(task: asyncio.Task[tuple[int, Any]]) -> None:
            self._sent.pop(prompt, None)
            if not task.cancelled():
                task.exception()  # it is raised below if a caller still waits

        sent.add_done_callback(answered)
        return await asyncio.shield(sent)

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
            raise EngineUnreachable(f"ComfyUI did not take the file of input {name}: HTTP {status}")
        folder = said.get("subfolder")
        return f"{folder}/{said['name']}" if folder else str(said["name"])

    async def _followed(self, prompt: prompts.RunningPrompt) -> AsyncGenerator[Frame | Line | Preview, None]:
        """Progress until the prompt is in the history, which is the only sure sign of its end.

        The WebSocket alone is not enough: it may break, or stay open and silent.
        """
        last, looks, waiting = None, prompts.Looks(), Waiting()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await prompt.seen.wait()
            heard = prompt.seen.is_set()
            prompt.seen.clear()
            if (frame := prompt.progress.frame()) != last:
                last = frame
                yield frame
            if prompt.preview is not None:
                shown, prompt.preview = prompt.preview, None
                yield shown
            if heard and not prompt.ended and looks.since() < LOOK_WHILE_HEARD:
                continue
            try:
                place = await self._place(prompt.id)
                done = place is None and await self._history(prompt.id) is not None
            except EngineUnreachable:
                if looks.since() > PATIENCE:
                    raise
                continue
            if done:
                return
            looks.found(prompt, place)
            if (line := waiting.line(f"{place} before it", place) if place else waiting.over()) is not None:
                yield line

    async def _place(self, prompt: str) -> int | None:
        """0 if it runs, its place in the queue from 1, None if it is in neither."""
        queue = await self._http.object("/queue", f"{self._http.url} is not a ComfyUI server that works")
        if any(row[1] == prompt for row in queue.get("queue_running", ())):
            return 0
        waiting = [row[1] for row in sorted(queue.get("queue_pending", ()), key=lambda row: row[0])]
        return waiting.index(prompt) + 1 if prompt in waiting else None

    async def _history(self, prompt: str) -> dict[str, Any] | None:
        entry = (await self._http.object(f"/history/{prompt}", "ComfyUI does not show its history")).get(prompt)
        return entry if isinstance(entry, dict) else None

    async def _outputs(self, prompt: prompts.RunningPrompt) -> Mapping[str, Any]:
        entry = await self._history(prompt.id)
        if entry is None:
            raise EngineUnreachable("ComfyUI does not know the work any more; it was restarted")
        if (error := prompts.failure(prompt.kind, entry)) is not None:
            raise error
        outputs = entry.get("outputs")
        return outputs if isinstance(outputs, dict) else {}

    async def _fetched(
        self, work: Work, prompt: prompts.RunningPrompt, slot: Slot, outputs: Mapping[str, Any]
    ) -> AsyncGenerator[Made, None]:
        node, name = prompt.kind.outputs[slot.name], slot.name
        files = prompts.best_files(outputs.get(node), slot)
        if not files:
            if (text := prompts.text_of(outputs.get(node))) is None:
                raise NotMade(f"ComfyUI made no file for the output {name} (node {node}); check the workflow")
            target = work.folder / f"{name}.txt"
            target.write_text(text, encoding="utf-8")
            yield Made(name, target)
        for number, file in enumerate(files, 1):
            target = work.folder / f"{numbered(name, number)}{ending(str(file['filename'])) or '.bin'}"
            params = {key: str(file.get(key) or "") for key in ("filename", "subfolder", "type")}
            try:
                await self._http.fetch("/view", target, params=params)
            except TaskFailed as error:
                await self._forget(prompt)
                raise TaskFailed(f"{error} (output {name}, {file['filename']}); submit the job again") from None
            yield Made(name, target, number)
