"""The engine `gradio`: the named endpoints of a Gradio app, each as a kind.

Options: `url` (default http://127.0.0.1:7860), `auth` (a file with the app's `USER:PASSWORD`; without it the
environment variable WAKESTREAM_GRADIO_AUTH counts).

Gradio gives a result once, to the connection that waits for it, so the connection is held here, on the GPU machine. A
plain function cannot be stopped: after a cancel it runs on to its end, and the next work waits for it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from wakestream.adapters.config.setting_files import Secret, SettingsError
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.gradio_schema import Endpoint, endpoints_of
from wakestream.adapters.engines.http_engine import HttpEngine, NotMade, Waiting, ending, event_of, lines_of, outputs_of
from wakestream.operators.model.engine import (
    TEXT,
    Engine,
    Frame,
    Kind,
    Line,
    Made,
    Preview,
    Readiness,
    Slot,
    Work,
    numbered,
)
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError, WrongInput
from wakestream.streams.protocol.kinds import fitting

DEFAULT_URL: Final = "http://127.0.0.1:7860"

AUTH: Final = "WAKESTREAM_GRADIO_AUTH"
"""The environment variable with the app's `USER:PASSWORD`."""

AGAIN: Final = 1.0
"""Seconds until a full queue is asked again."""

SILENCE: Final = 60.0
"""Seconds without a byte after which a stream counts as broken; Gradio sends a heartbeat every 15 s."""


def create(config: EngineConfig) -> Gradio:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("gradio", ("url", "auth"))
    auth = config.secret("auth", AUTH)
    user, separator, password = (auth or "user:password").partition(":")
    if not (user and separator and password):
        raise SettingsError(f"--engine-option auth or {AUTH}: the content is not USER:PASSWORD; write both in one line")
    return Gradio(options.get("url") or DEFAULT_URL, auth)


@dataclass(frozen=True, slots=True)
class _Event:
    """One work in the app's queue; `joining` gives its id, None if the queue is full."""

    session: str
    fn_index: int
    joining: asyncio.Task[str | None]


class Gradio(Engine):
    """One Gradio app.

    Args:
        url: Its address.
        auth: Its `USER:PASSWORD`, if it was launched with `auth`.
    """

    def __init__(self, url: str, auth: Secret | None = None) -> None:
        self._auth = auth
        self._http = HttpEngine(url, "Gradio")
        self._app: object = None
        self._endpoints: dict[str, Endpoint] = {}
        self._running: dict[str, _Event] = {}

    async def describe(self) -> Sequence[Kind]:
        """The named endpoints that return something."""
        await self._login()
        answers = {}
        for path in ("/gradio_api/info", "/config"):
            answers[path] = await self._http.object(path, f"{self._http.url} is not a Gradio app")
        self._app = answers["/config"].get("app_id")
        self._endpoints = endpoints_of(answers["/gradio_api/info"], answers["/config"])
        if not self._endpoints:
            raise TaskFailed(
                "the Gradio app has no named endpoint that returns something; give its function an api_name"
            )
        return [endpoint.kind for endpoint in self._endpoints.values()]

    async def ready(self) -> Readiness:
        """Whether the app answers."""
        try:
            await self._login()
            status, _ = await self._http.json("GET", "/gradio_api/app_id")
        except WakestreamError as error:
            return Readiness(False, str(error))
        return Readiness(status == 200, "" if status == 200 else f"{self._http.url} is not a Gradio app: HTTP {status}")

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Join the app's queue, and follow the stream until the result."""
        # The endpoint of a kind; all are read again if the app was restarted, as their numbers may be others.
        kind = work.kind
        await self._login()
        _, said = await self._http.json("GET", "/gradio_api/app_id")
        if kind not in self._endpoints or not isinstance(said, dict) or said.get("app_id") != self._app:
            await self.describe()
        if kind not in self._endpoints:
            have = ", ".join(self._endpoints)
            raise WrongInput("kind", f"the Gradio app has no kind {kind!r} any more; it has {have}")
        endpoint, session = self._endpoints[kind], uuid.uuid4().hex
        fitting(
            endpoint.kind, {name: path.suffix.lower() for name, path in work.inputs.items()}, work.params, work.outputs
        )
        uploaded = {name: await self._uploaded(name, path) for name, path in work.inputs.items()}
        data = [argument.value(work.params, uploaded) for argument in endpoint.arguments]
        waiting = Waiting()
        while not await self._joined(work, session, endpoint.fn_index, data):
            if (line := waiting.line("the queue of the Gradio app is full")) is not None:
                yield line
            await asyncio.sleep(AGAIN)
        results, before, shown = None, 0, list[Any]()
        async with aclosing(self._events(session)) as events:
            async for event in events:
                if event.get("msg") == "process_completed":
                    results = _completed(event)
                    break
                if event.get("msg") == "process_generating" and (preview := _grown(endpoint, event, shown)) is not None:
                    yield preview
                before = _before(event, before)
                for item in _progress(event, before, waiting):
                    yield item
        if results is None:
            raise EngineUnreachable("Gradio broke off before the result came; it gives a result only once")
        made = endpoint.made(results)
        async for result in outputs_of(work, endpoint.kind, lambda slot: self._made(slot, made, work.folder)):
            yield result

    async def cancel(self, work: Work) -> None:
        """Cancel the event. A plain function runs on to its end; a generator ends at its next step."""
        event = self._running.get(work.id)
        if event is None:
            return
        try:
            if (event_id := await event.joining) is not None:
                asked = {"event_id": event_id, "session_hash": event.session, "fn_index": event.fn_index}
                await self._http.json("POST", "/gradio_api/cancel", json=asked)
        except WakestreamError:
            return

    async def close(self) -> None:
        """Close the connections."""
        for event in self._running.values():
            event.joining.cancel()
            await asyncio.wait([event.joining])
        await self._http.close()

    async def _login(self) -> None:
        """Log in where the app wants a login: at first, and after its restart. Raises `EngineUnreachable`."""
        status, _ = await self._http.json("GET", "/gradio_api/login_check")
        if status != 401:  # an app without a login answers 200
            return
        if self._auth is None:
            raise EngineUnreachable(
                f"the Gradio app at {self._http.url} wants a login; give --engine-option auth=FILE, "
                f"a file with USER:PASSWORD, or set {AUTH}"
            )
        user, _, password = self._auth.partition(":")
        status, said = await self._http.json("POST", "/login", data={"username": user, "password": password})
        if status != 200:
            raise EngineUnreachable(
                f"the Gradio app at {self._http.url} did not accept the login: HTTP {status} {_detail(said)}"
            )

    async def _uploaded(self, name: str, path: Path) -> dict[str, Any]:
        with self._http.sending(path) as part, aiohttp.MultipartWriter("form-data") as form:
            part.set_content_disposition("form-data", name="files", filename=f"{name}{ending(path.name)}")
            form.append_payload(part)
            status, said = await self._http.json("POST", "/gradio_api/upload", data=form)
        if status == 413:
            raise WrongInput(f"inputs.{name}", f"inputs.{name}: the file is larger than the Gradio app's max_file_size")
        if status != 200 or not isinstance(said, list) or not said:
            raise TaskFailed(f"Gradio did not take the file of input {name}: HTTP {status} {_detail(said)}")
        return {"path": said[0], "meta": {"_type": "gradio.FileData"}, "orig_name": path.name}

    async def _joined(self, work: Work, session: str, fn_index: int, data: Sequence[Any]) -> bool:
        """Join the queue; returns whether it had room. A join that has begun is not broken off: it can be cancelled."""
        asked = {"data": data, "fn_index": fn_index, "session_hash": session}
        event = _Event(session, fn_index, asyncio.create_task(self._join(asked)))
        self._running = {work.id: event}
        return await asyncio.shield(event.joining) is not None

    async def _join(self, asked: Mapping[str, Any]) -> str | None:
        status, said = await self._http.json("POST", "/gradio_api/queue/join", json=asked)
        if status == 200 and isinstance(said, dict) and said.get("event_id"):
            return str(said["event_id"])
        if status == 503:
            return None
        if status == 422:
            raise WrongInput("params", f"the Gradio app does not take the parameters: {_detail(said)}")
        raise TaskFailed(f"Gradio did not take the work: HTTP {status} {_detail(said)}")

    async def _events(self, session: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of the stream of a session. Raises `EngineUnreachable` when the app says that it stops."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE)
        path = "/gradio_api/queue/data"
        async with (
            self._http.exchange("GET", path, params={"session_hash": session}, timeout=timeout) as response,
            aclosing(lines_of(response.content)) as lines,
        ):
            async for line in lines:
                event = event_of(line, "Gradio")
                if not isinstance(event, dict):
                    continue
                if event.get("msg") == "unexpected_error":
                    raise EngineUnreachable(f"Gradio broke the work off: {str(event.get('message'))[:300]}")
                yield event

    async def _made(self, slot: Slot, made: Mapping[str, list[Any]], folder: Path) -> AsyncGenerator[Made, None]:
        if not (values := made.get(slot.name)):
            raise NotMade(f"the Gradio app made no output {slot.name!r}")
        for number, value in enumerate(values, 1):
            name = numbered(slot.name, number)
            plain = slot.accepts[0] if slot.accepts[:1] in ((".txt",), (".json",)) else None
            file = None if plain else _file_of(value)
            if file is None:
                target = folder / f"{name}{plain or '.json'}"
                text = plain == ".txt" and isinstance(value, str)
                target.write_bytes(value.encode() if text else orjson.dumps(value))
            else:
                path = str(file["path"])
                target = folder / f"{name}{ending(str(file.get('orig_name') or path)) or ending(path) or '.bin'}"
                await self._http.fetch(f"/gradio_api/file={quote(path)}", target)
            yield Made(slot.name, target, number)


def _file_of(value: Any) -> Mapping[str, Any] | None:
    """The file in a result: itself, the video beside its subtitles, a picture of a gallery or of an editor."""
    for candidate in (value, *(value.get(key) for key in ("video", "image", "composite") if isinstance(value, dict))):
        if isinstance(candidate, dict) and candidate.get("path"):
            return candidate
    return None


def _grown(endpoint: Endpoint, event: Mapping[str, Any], shown: list[Any]) -> Preview | None:
    """The first text of a function that yields. After the first time, an app sends only how each output has changed."""
    output = event.get("output")
    data = output.get("data") if isinstance(output, dict) else None
    if not isinstance(data, list):
        return None
    shown[:] = [_changed(*pair) for pair in zip(shown, data, strict=False)] if shown else data
    made = endpoint.made(shown)
    texts = (made.get(slot.name) for slot in endpoint.kind.outputs if slot.accepts[:1] == (".txt",))
    text = next((values[0] for values in texts if values and isinstance(values[0], str)), "")
    return Preview(TEXT, text.encode(errors="replace")) if text else None


def _changed(value: Any, edits: Any) -> Any:
    """A text after these edits; None for all else."""
    for edit in edits if isinstance(edits, list) else ():
        match edit:
            case ["replace", [], new]:
                value = new
            case ["append", [], str(more)] if isinstance(value, str):
                value += more
            case _:
                return None
    return value


def _before(event: Mapping[str, Any], before: int) -> int:
    """How many works are before this one, by the last event that told it; a heartbeat does not."""
    if event.get("msg") == "estimation":
        rank = event.get("rank")
        return rank if isinstance(rank, int) else 0
    return before if event.get("msg") == "heartbeat" else 0


def _progress(event: Mapping[str, Any], before: int, waiting: Waiting) -> list[Frame | Line]:
    if before and (line := waiting.line(f"{before} before it in the app's queue", before)) is not None:
        return [line]
    if event.get("msg") == "process_starts" and (over := waiting.over()) is not None:
        return [over]
    if event.get("msg") == "log" and event.get("log"):
        return [Line(str(event["log"]))]
    bars = event.get("progress_data") if event.get("msg") == "progress" else None
    if not isinstance(bars, list) or not bars or not all(isinstance(bar, dict) for bar in bars):
        return []
    # Nested bars come outermost first: each is a part of one step of the bar before it.
    whole, share = 0.0, 1.0
    for bar in bars:
        part, steps = _part(bar)
        whole += share * part
        share = share / steps if steps else 0.0
    index, length = (int(_number(bars[0].get(key))) for key in ("index", "length"))
    return [Frame(index if length else 0, length, round(min(100.0, 100 * whole), 1))]


def _number(value: object, most: float = 1e9) -> float:
    """A number of an event, from 0 to `most`; 0 for anything else."""
    return min(most, max(0.0, value)) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _part(bar: Mapping[str, Any]) -> tuple[float, float]:
    """How much of a bar is done, 0 to 1, and the number of its steps (0 if unknown)."""
    if isinstance(bar.get("progress"), int | float):
        return _number(bar["progress"], 1.0), 0.0
    index, length = _number(bar.get("index")), _number(bar.get("length"))
    return (min(1.0, index / length), length) if length else (0.0, 0.0)


def _completed(event: Mapping[str, Any]) -> list[Any]:
    output = event.get("output")
    output = output if isinstance(output, dict) else {}
    if event.get("success") is False or output.get("error") is not None:
        said = output.get("error")
        why = said or "the app raised an error that it does not show; see its log, or launch it with show_error=True"
        raise TaskFailed(f"the Gradio app failed: {str(why)[:500]}")
    if output.get("data") is None:
        raise TaskFailed("the work was cancelled at the Gradio app")
    if not isinstance(output["data"], list):
        raise TaskFailed("the Gradio app sent a result that is not a list of outputs")
    return output["data"]


def _detail(said: object) -> str:
    return str((said.get("detail") if isinstance(said, dict) else said) or "without a reason")[:300]
