"""One prompt in ComfyUI: its messages on the WebSocket, and what looks at queue and history find."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.engines.comfyui_workflow import WorkflowKind
from wakestream.adapters.engines.http_engine import MAX_JSON, HttpEngine
from wakestream.adapters.runtime.tasks import background, end, restarted
from wakestream.operators.model.engine import Frame, Preview, Slot, Work, picture_type
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError, WrongInput
from wakestream.streams.protocol.kinds import file_fits

# The progress of a ComfyUI prompt: nodes that are done, and the value within a node, weighted by earlier runs.

_UNKNOWN = 1.0
"""Seconds that a node counts for which never ran here."""

_LEAST = 0.01

ENDS: Final = ("execution_success", "execution_error", "execution_interrupted")
"""The last messages of a prompt, except for an `executing` without a node."""


class NodeTimes:
    """Seconds that each node took lately, by its kind, its id and its class.

    Args:
        path: Where they are kept: the machine is switched off between two jobs. None: nowhere.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[tuple[str, ...], float] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):  # only the progress would be less exact
            kept = orjson.loads(path.read_bytes()) if path is not None else {}
            self._known = {tuple(key.split(" ", 2)): float(seconds) for key, seconds in kept.items()}

    def of(self, kind: str, node: str, class_type: str) -> float:
        """The seconds of a node; those of other nodes of the class if this one never ran."""
        same = [seconds for (*_, known), seconds in self._known.items() if known == class_type]
        default = sum(same) / len(same) if same else _UNKNOWN
        return self._known.get((kind, node, class_type), default)

    def learn(self, progress: PromptProgress) -> None:
        """Remember what the nodes of a finished prompt took; messages may be late, so the last runs count by half."""
        for node, seconds in progress.took.items():
            key = (progress.kind, node, progress.class_of(node))
            before = self._known.get(key, seconds)
            self._known[key] = max(_LEAST, round((before + seconds) / 2, 3))
        if self._path is not None:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path, orjson.dumps({" ".join(key): value for key, value in self._known.items()}))


class PromptProgress:
    """How far a prompt is.

    Args:
        kind: The name of the kind.
        workflow: Its nodes.
        times: What nodes took earlier.
        clock: Seconds.
    """

    def __init__(
        self,
        kind: str,
        workflow: Mapping[str, Mapping[str, Any]],
        times: NodeTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind, self._workflow, self._clock = kind, workflow, clock
        self._weights = {node: times.of(kind, node, str(made.get("class_type"))) for node, made in workflow.items()}
        self._part: dict[str, float] = {}
        self._steps = (0, 0)
        self._since: tuple[str, float] | None = None
        self.took: dict[str, float] = {}

    def class_of(self, node: str) -> str:
        """The class of a node."""
        return str(self._workflow.get(node, {}).get("class_type"))

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take one message of the WebSocket."""
        if kind == "execution_cached":
            nodes = data.get("nodes")
            self._part |= dict.fromkeys(map(str, nodes if isinstance(nodes, list) else ()), 1.0)
        elif kind == "executing":
            self._enter(data.get("node"))
        elif kind == "progress_state":
            nodes = data.get("nodes")
            for node, state in (nodes if isinstance(nodes, dict) else {}).items():
                if isinstance(state, dict):
                    self._set(node, state.get("value"), state.get("max"), done=state.get("state") == "finished")
        elif kind == "progress":
            self._set(str(data.get("node")), data.get("value"), data.get("max"), done=False)
        elif kind in ENDS and self._since is not None:
            self.took[self._since[0]] = self._clock() - self._since[1]
            self._since = None

    def _enter(self, node: object) -> None:
        now = self._clock()
        if self._since is not None:
            before, at = self._since
            self._part[before] = 1.0
            self.took[before] = now - at
        self._since = None if node is None else (str(node), now)
        self._steps = (0, 0)

    def _set(self, node: str, value: object, most: object, *, done: bool) -> None:
        if not isinstance(value, int | float) or not isinstance(most, int | float) or not 0 < most < 1e9:
            return
        value = max(0, min(value, most))
        self._part[node] = 1.0 if done else max(self._part.get(node, 0.0), min(1.0, value / most))
        if most > 1 and not done:
            self._steps = (int(value), int(most))

    def frame(self) -> Frame:
        """The progress of the whole prompt; `frame` and `frames` are the steps of the present node."""
        whole = sum(self._weights.values())
        done = sum(self._weights[node] * part for node, part in self._part.items() if node in self._weights)
        return Frame(*self._steps, round(100.0 * done / whole, 1) if whole else 0.0)


CONNECT_AGAIN = 1.0
"""Seconds until a broken WebSocket is opened again, and the most to wait for the first one."""

_PICTURE: Final = b"\0\0\0\1"
"""The first bytes of a preview picture on the WebSocket."""

GONE_AFTER: Final = 3
"""How often a prompt must be found neither in the queue nor in the history until it counts as lost."""


@dataclass(slots=True)
class RunningPrompt:
    """One prompt in ComfyUI: its id, its nodes, and how far it is. `breaks`: how often the WebSocket was lost.

    `runs`: whether the last message was about it; the pictures that come then are its own."""

    id: str
    kind: WorkflowKind
    progress: PromptProgress
    ended: bool = False
    breaks: int = 0
    runs: bool = False
    preview: Preview | None = None
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
                        elif message.type is aiohttp.WSMsgType.BINARY and self._prompt.runs:
                            self._show(message.data)
            self._prompt.breaks += 1
            self._prompt.runs = False
            await asyncio.sleep(CONNECT_AGAIN)

    def _take(self, text: str) -> None:
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        data = frame.get("data") if isinstance(frame, dict) else None
        if not isinstance(data, dict) or "prompt_id" not in data:
            return
        self._prompt.runs = data["prompt_id"] == self._prompt.id
        if not self._prompt.runs:
            return
        kind = str(frame.get("type"))
        self._prompt.ended |= kind in ENDS
        with suppress(AttributeError, TypeError):  # custom nodes send messages of their own
            self._prompt.progress.take(kind, data)
        self._prompt.seen.set()

    def _show(self, frame: bytes) -> None:
        """Take a picture of the sampler: a number for its kind, the number of its format, then its bytes."""
        preview = Preview(picture_type(frame[8:]), frame[8:])
        if frame[:4] == _PICTURE and preview.fits:
            self._prompt.preview = preview
            self._prompt.seen.set()


def prompt_id(work: Work) -> str:
    """The prompt's id: a canonical UUID that depends on the work and the attempt."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{work.id}/{work.attempt}"))


# What ComfyUI's answers mean: errors of a job's fields, errors of nodes, and the files of an output.


def _files_in(output: object) -> list[Mapping[str, Any]]:
    """All files of a node's output: they are under `images`, `gifs`, `audio`, `3d`, … depending on the node."""
    lists = output.values() if isinstance(output, Mapping) else ()
    return [file for listed in lists if isinstance(listed, list) for file in listed if isinstance(file, Mapping)]


def text_of(output: object) -> str | None:
    """The text that a node shows, for outputs without a file; None if it shows none."""
    shown = output.get("text") if isinstance(output, Mapping) else None
    return "\n".join(map(str, shown)) if isinstance(shown, list) and shown else None


def best_files(output: object, slot: Slot) -> list[Mapping[str, Any]]:
    """The files that were saved and have an ending of the output; previews only where nothing was saved.

    Of an output that is no list, it is the first one.
    """
    files = [file for file in _files_in(output) if file.get("filename")]

    def rank(file: Mapping[str, Any]) -> tuple[bool, bool]:
        return file.get("type") != "output", not file_fits(slot, Path(str(file["filename"])).suffix.lower())

    best = min(map(rank, files), default=None)
    chosen = [file for file in files if rank(file) == best]
    return chosen if slot.many else chosen[:1]


def refused_outputs(kind: WorkflowKind, said: Mapping[str, Any], wanted: Sequence[str]) -> WakestreamError | None:
    """The error of a wanted output that ComfyUI leaves out, although it takes the prompt for the sake of others."""
    nodes = {kind.outputs[name] for name in wanted}
    errors = said.get("node_errors")
    wrong = {
        node: fault
        for node, fault in (errors.items() if isinstance(errors, Mapping) else ())
        if nodes & {str(output) for output in fault.get("dependent_outputs", ())}
    }
    return refusal(kind, {"node_errors": wrong}) if wrong else None


def refusal(kind: WorkflowKind, said: Mapping[str, Any]) -> WakestreamError:
    """The error for a prompt that ComfyUI refused; a wrong value of a field of the job names that field."""
    errors = said.get("node_errors")
    texts: list[str] = []
    for node, fault in (errors or {}).items() if isinstance(errors, Mapping) else ():
        for error in fault.get("errors", ()):
            name = str((error.get("extra_info") or {}).get("input_name", ""))
            text = f"{error.get('message', '')}: {error.get('details', '')}".strip(": ")[:300]
            if (field_name := kind.field_at(str(node), name)) is not None:
                return WrongInput(field_name, f"{field_name}: ComfyUI refuses it: {text}")
            texts.append(f"at node {node} {fault.get('class_type', '')}: {text}")
    if texts:
        return TaskFailed(f"ComfyUI refused the workflow {texts[0]}")
    error = said.get("error")
    text = f"{error.get('message', '')} {error.get('details', '')}" if isinstance(error, Mapping) else str(error)
    return TaskFailed(f"ComfyUI refused the workflow: {text.strip()[:300]}")


def failure(kind: WorkflowKind, entry: Mapping[str, Any]) -> WakestreamError | None:
    """Why the prompt of this entry of the history failed; None if it succeeded."""
    status = entry.get("status") or {}
    if status.get("status_str") != "error" and status.get("completed", True):
        return None
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], Mapping):
            if message[0] == "execution_error":
                return _error_at(kind, message[1])
            if message[0] == "execution_interrupted":
                return TaskFailed("the work was interrupted in ComfyUI")
    return TaskFailed("ComfyUI failed without a reason; see its log")


def _error_at(kind: WorkflowKind, data: Mapping[str, Any]) -> WakestreamError:
    """The error of a node. If the node loads an input file, that file is wrong."""
    node, text = str(data.get("node_id")), str(data.get("exception_message") or "without a reason").strip()[:500]
    said = f"ComfyUI failed at node {node} {data.get('node_type') or ''}: {text}"
    for name, (place, _) in kind.inputs.items():
        if place == node:
            return WrongInput(f"inputs.{name}", f"input {name}: {said}")
    return TaskFailed(said)
