"""The engine `openai`: a server with OpenAI's HTTP interface, such as vLLM, Ollama, llama.cpp or a Whisper server.

Options: `url` (default http://127.0.0.1:8000), `key` (a file with the server's API key; without it the environment
variable WAKESTREAM_OPENAI_KEY counts), `manifest` (the kinds; without it, `/v1/models` decides).

These servers stop a work when its connection closes, so a cancel needs no call. A streamed text is complete only with
its end: a server that dies closes the stream without one.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from wakestream.adapters.config.setting_files import Secret, SettingsError
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.http_engine import HttpEngine, Waiting, fetch_url
from wakestream.adapters.engines.manifest import Entry, Keys, entry_of, read_manifest, tables_of
from wakestream.adapters.engines.openai_answers import (
    Busy,
    decoded_image,
    fault_of,
    json_of,
    piece_of,
    pieces_of,
    told_of,
)
from wakestream.operators.model.engine import TEXT, Engine, Frame, Kind, Line, Made, Preview, Readiness, Work, numbered
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError, WrongInput

DEFAULT_URL: Final = "http://127.0.0.1:8000"

KEY: Final = "WAKESTREAM_OPENAI_KEY"
"""The environment variable with the server's API key."""

PATIENCE: Final = 600.0
"""Seconds after which a server that is still busy counts as one that does not work."""

SAY_EVERY: Final = 0.5
"""Seconds between two reports of progress."""

MAX_CONTENT: Final = 32 * 1024 * 1024
"""The most bytes of a file that becomes a part of the request's JSON."""

KEYS: Final = Keys(("task", "model", "request"), ("task",), tasks=tables_of(Path(__file__).with_name("openai.toml")))

_PATHS: Final = {
    "complete": "/v1/chat/completions", "transcribe": "/v1/audio/transcriptions", "speak": "/v1/audio/speech",
    "image": "/v1/images/generations",
}  # fmt: skip
_BY_NAME: Final = {  # the first that fits what a server says of a model; no list says what a model is for
    "": r"embed|rerank|moderation",
    "transcribe": r"whisper|transcri|speech-recognition|speech-to-text",
    "speak": r"\btts\b|text-to-speech|kokoro|piper",
    "image": r"dall-e|gpt-image|flux|diffusion|sdxl|text-to-image",
    "complete": "",
}


def create(config: EngineConfig) -> OpenAI:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("openai", ("url", "key", "manifest"))
    manifest = options.get("manifest")
    entries = read_manifest(Path(manifest).expanduser(), KEYS) if manifest else []
    for entry in entries:
        for name, form, what in (("model", str, "a text"), ("request", dict, "a table")):
            if not isinstance(entry.own.get(name, form()), form):
                raise SettingsError(f"{manifest}: kinds.{entry.kind.name}.{name} must be {what}")
    return OpenAI(options.get("url") or DEFAULT_URL, config.secret("key", KEY), entries, config.limit)


@dataclass(frozen=True, slots=True)
class _Task:
    """A kind, what the server is asked for, and the models that it may name."""

    kind: Kind
    task: str
    request: Mapping[str, Any]


class OpenAI(Engine):
    """One server.

    Args:
        url: Its address, with or without `/v1`.
        key: Its API key.
        entries: The kinds of the manifest; none: they are made of its models.
        limit: The most seconds of silence in a work.
    """

    parallel = True

    def __init__(self, url: str, key: Secret | None, entries: Sequence[Entry], limit: float) -> None:
        self._http = HttpEngine(url.rstrip("/").removesuffix("/v1"), "The model server")
        self._key = key
        self._entries, self._limit = entries, limit
        self._tasks: dict[str, _Task] = {}

    async def describe(self) -> Sequence[Kind]:
        """The kinds of the manifest whose models are there, or one for each task that a model is for."""
        self._tasks, lacks = self._found(await self._models())
        if not self._tasks:
            raise TaskFailed(lacks or "the model server has no model; load one, or describe the kinds in a manifest")
        return [task.kind for task in self._tasks.values()]

    async def ready(self) -> Readiness:
        """Whether the server answers, has loaded its model, and has the models of the manifest."""
        try:
            status, said = await self._http.json("GET", "/health", headers=self._headers)
            if status in (500, 503):  # llama.cpp loads its model, or vLLM's engine has died
                return Readiness(False, f"the model server is not ready: {told_of(said)[0] or f'HTTP {status}'}")
            tasks, lacks = self._found(await self._models())
        except WakestreamError as error:
            return Readiness(False, str(error))
        return Readiness(bool(tasks) or not lacks, lacks)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Ask the server; while it is busy, ask again."""
        if work.kind not in self._tasks:
            await self.describe()
        if (task := self._tasks.get(work.kind)) is None:
            have = ", ".join(self._tasks)
            raise WrongInput("kind", f"the model server has no kind {work.kind!r} any more; it has {have}")
        clock = asyncio.get_running_loop().time
        waiting, since = Waiting(), clock()
        while True:
            try:
                async with aclosing(_WAYS[task.task](self, work, task)) as items:
                    async for item in items:
                        yield item
            except Busy as busy:
                if clock() - since > PATIENCE:
                    raise EngineUnreachable(f"the model server takes no work: {busy}") from None
                if (line := waiting.line(str(busy))) is not None:
                    yield line
                await asyncio.sleep(busy.after)
            else:
                return

    async def cancel(self, work: Work) -> None:
        """Does nothing: the server stops when the connection closes."""

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    @property
    def _headers(self) -> dict[str, str]:
        # A connection of its own for each call: a server may close an idle one just when a request is written to it.
        return {"Connection": "close", **({"Authorization": f"Bearer {self._key}"} if self._key is not None else {})}

    async def _models(self) -> list[Mapping[str, Any]] | None:
        """The models that the server lists; None if it has no list, as whisper.cpp has none."""
        status, said = await self._http.json("GET", "/v1/models", headers=self._headers)
        if status == 404 and self._entries:
            return None
        listed = said.get("data") if isinstance(said, dict) else None
        if status == 200 and listed is None:
            listed = []  # Ollama without a model
        if status != 200 or not isinstance(listed, list):
            raise EngineUnreachable(f"{self._http.url}/v1/models: {fault_of(status, said, '/v1/models', None)}")
        return [model for model in listed if isinstance(model, dict) and isinstance(model.get("id"), str)]

    def _found(self, models: list[Mapping[str, Any]] | None) -> tuple[dict[str, _Task], str]:
        """The kinds that the server can do, and why it cannot do the others."""
        of_task: dict[str, list[str]] = {}
        for model in models or ():
            about = f"{model.get('task', '')} {model['id']}".lower()
            task = next(task for task, words in _BY_NAME.items() if re.search(words, about))
            of_task.setdefault(task, []).append(model["id"])
        entries = self._entries or [entry_of(task, task, {"task": task}, KEYS) for task in _PATHS if task in of_task]
        names, tasks, lacks = {model["id"] for model in models or ()}, {}, ""
        for entry in entries:
            own, task = entry.own, entry.own["task"]
            if models is not None and "model" in own and names.isdisjoint((own["model"], f"{own['model']}:latest")):
                lacks = (
                    f"kind {entry.kind.name} is not offered: the model server has no model {own['model']}; it has "
                    f"{', '.join(sorted(names)) or 'none'}"
                )
                continue
            choices = [] if "model" in own else of_task.get(task) or sorted(names)
            request = {**({"model": own["model"]} if "model" in own else {}), **own.get("request", {})}
            tasks[entry.kind.name] = _Task(_with_choices(entry.kind, choices, request), task, request)
        return tasks, lacks

    @asynccontextmanager
    async def _asked(self, task: _Task, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request of a work. Raises `Busy`, or what the server says against it."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=self._limit)
        path = _PATHS[task.task]
        async with self._http.exchange("POST", path, headers=self._headers, timeout=timeout, **body) as response:
            if response.status != 200:
                raw = await self._http.body(response)
                raise fault_of(response.status, json_of(raw), path, task.kind, response.headers.get("Retry-After", ""))
            yield response

    async def _complete(self, work: Work, task: _Task) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """A chat of one turn: instructions, then the prompt with the texts and images."""
        body = {"stream": True, **task.request, **work.params}
        parts: list[Mapping[str, Any]] = [{"type": "text", "text": _text(work, body.pop("prompt", ""), "text")}]
        for path in work.files("images"):
            data = base64.b64encode(await asyncio.to_thread(_content, path, "images")).decode()
            media = guess_type(path.name)[0] or "image/png"
            parts.append({"type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}})
        content = parts if len(parts) > 1 else parts[0]["text"]
        system = [{"role": "system", "content": body.pop("system")}] if body.get("system") else []
        body["messages"] = [*system, {"role": "user", "content": content}]
        async with self._asked(task, json=body) as response:
            async for item in self._written(work, task, response, "text", int(body.get("max_tokens", 0))):
                yield item

    async def _transcribe(self, work: Work, task: _Task) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        body = {**task.request, **work.params}
        with self._http.sending(work.inputs["audio"]) as part, aiohttp.MultipartWriter("form-data") as form:
            part.set_content_disposition("form-data", name="file", filename=work.inputs["audio"].name)
            form.append_payload(part)
            for name, value in body.items():
                text = value if isinstance(value, str) else orjson.dumps(value).decode()
                form.append(text).set_content_disposition("form-data", name=name)
            async with self._asked(task, data=form) as response:
                async for item in self._written(work, task, response, str(body.get("response_format", "text"))):
                    yield item

    async def _written(
        self, work: Work, task: _Task, response: aiohttp.ClientResponse, form: str, most: int = 0
    ) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """The text of an answer as the output `text`, with progress if it is streamed."""
        pieces, end = list[str](), ""
        if response.content_type == "text/event-stream":
            clock, count = asyncio.get_running_loop().time, 0
            say_at = clock()
            async with aclosing(pieces_of(response, task.kind)) as items:
                async for piece, why in items:
                    pieces.append(piece)
                    count, end = count + 1, end or why
                    if clock() >= say_at:
                        say_at = clock() + SAY_EVERY
                        yield Frame(count, most, round(min(100.0, 100 * count / most), 1) if most else 0.0)
                        yield Preview(TEXT, "".join(pieces).encode(errors="replace"))
            if not end and task.task == "complete":
                raise EngineUnreachable("the model server broke off before the text was complete")
        else:
            raw = await self._http.body(response)
            said = json_of(raw)
            plain = form == "text" and isinstance(said, dict)  # some servers answer JSON in any case
            piece, end = piece_of(said) if plain else (raw.decode(errors="replace"), "")
            pieces.append(piece)
        if not (text := "".join(pieces)).strip():
            raise TaskFailed(
                "the model server returned no text; if the prompt is long, give the model a larger context"
            )
        if end == "length":
            yield Line("the model stopped at its limit of tokens, so the text may be cut off; give a larger max_tokens")
        target = work.folder / f"text{_TEXTS.get(form, '.txt')}"
        await asyncio.to_thread(target.write_text, text, encoding="utf-8")
        yield Made("text", target)

    async def _speak(self, work: Work, task: _Task) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        body = {**task.request, **work.params}
        body["input"] = _text(work, body.pop("text", ""), "script")
        async with self._asked(task, json=body) as response:
            if response.content_type.startswith(("text/", "application/json")):
                raise TaskFailed(f"the model server sent no sound, but {response.content_type}")
            target = work.folder / f"audio.{body.get('response_format', 'mp3')}"
            await self._http.store(response, target)
        yield Made("audio", target)

    async def _image(self, work: Work, task: _Task) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        body = {"response_format": "b64_json", **task.request, **work.params}
        async with self._asked(task, json=body) as response:
            said = json_of(await self._http.body(response))
        data = said.get("data") if isinstance(said, dict) else None
        images = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        if not images:
            raise TaskFailed("the model server made no image")
        for number, image in enumerate(images, 1):
            target = work.folder / numbered("images", number)
            if isinstance(url := image.get("url"), str) and not url.startswith("data:"):
                target = await fetch_url(url, target, "the model server's file store", (self._http.url,))
            else:
                encoded = str(image.get("b64_json") or url or "").rpartition(",")[2]
                target = await asyncio.to_thread(decoded_image, encoded, target)
            yield Made("images", target, number)


_WAYS: Final = {
    "complete": OpenAI._complete, "transcribe": OpenAI._transcribe, "speak": OpenAI._speak, "image": OpenAI._image,
}  # fmt: skip
_TEXTS: Final = {"srt": ".srt", "vtt": ".vtt", "json": ".json", "verbose_json": ".json"}


def _with_choices(kind: Kind, models: Sequence[str], request: Mapping[str, Any]) -> Kind:
    """The kind with a choice of models, and without the parameters that the manifest's request sets."""
    params = {name: param for name, param in kind.params.get("properties", {}).items() if name not in request}
    if models:
        params = {"model": {"enum": list(models), "default": models[0], "title": "Model"}, **params}
    needed = [name for name in kind.params.get("required", ()) if name in params]
    schema = {"type": "object", "properties": params, **({"required": needed} if needed else {})}
    return replace(kind, params=schema if params else {}, seed=kind.seed if kind.seed in params else "")


def _text(work: Work, given: str, name: str) -> str:
    """A text of a parameter and of the file `name`."""
    try:
        texts = [given, *(_content(path, name).decode() for path in work.files(name))]
    except UnicodeDecodeError:
        raise WrongInput(f"inputs.{name}", f"input {name}: the file is not UTF-8; save it as UTF-8") from None
    if not (text := "\n\n".join(filter(None, texts))).strip():
        param = "prompt" if name == "text" else "text"
        raise WrongInput(f"params.{param}", f"there is no text; give the parameter {param}, or the input {name}")
    return text


def _content(path: Path, name: str) -> bytes:
    if (size := path.stat().st_size) > MAX_CONTENT:
        fault = f"input {name}: the file has {size} bytes; a file in a request may have {MAX_CONTENT}"
        raise WrongInput(f"inputs.{name}", fault)
    return path.read_bytes()
