"""The engine `gradio`: the named endpoints of a Gradio app, each as a kind.

Options: `url` (default http://127.0.0.1:7860).

Gradio gives a result once, to the connection that waits for it, so the connection is held here, on the GPU machine. A
plain function cannot be stopped: after a cancel it runs on to its end, and the next work waits for it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.gradio_schema import Endpoint, endpoints_of
from wakestream.adapters.engines.http_engine import HttpEngine
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError

DEFAULT_URL: Final = "http://127.0.0.1:7860"

AGAIN: Final = 1.0
"""Seconds until a full queue is asked again."""

SILENCE: Final = 60.0
"""Seconds without a byte after which a stream counts as broken; Gradio sends a heartbeat every 15 s."""

_MAX_EVENT: Final = 64 * 1024 * 1024


def create(config: EngineConfig) -> Gradio:
    """The engine for a worker. Raises `SettingsError`."""
    return Gradio(config.known("gradio", ("url",)).get("url") or DEFAULT_URL)


class Gradio(Engine):
    """One Gradio app.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._http = HttpEngine(url, "Gradio")
        self._endpoints: dict[str, Endpoint] = {}
        self._running: dict[str, dict[str, Any]] = {}

    async def describe(self) -> Sequence[Kind]:
        """The named endpoints that return something."""
        found = {}
        for path in ("/gradio_api/info", "/config"):
            status, found[path] = await self._http.json("GET", path)
            if status != 200 or not isinstance(found[path], dict):
                raise EngineUnreachable(f"{self._http.url} is not a Gradio app: HTTP {status} for {path}")
        self._endpoints = endpoints_of(found["/gradio_api/info"], found["/config"])
        if not self._endpoints:
            raise TaskFailed(
                "the Gradio app has no named endpoint that returns something; give its function an api_name"
            )
        return [endpoint.kind for endpoint in self._endpoints.values()]

    async def ready(self) -> Readiness:
        """Whether the app answers."""
        try:
            status, _ = await self._http.json("GET", "/gradio_api/info")
        except WakestreamError as error:
            return Readiness(False, str(error))
        return Readiness(status == 200, "" if status == 200 else f"{self._http.url} is no Gradio app: HTTP {status}")

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Join the app's queue, and follow the stream until the result."""
        endpoint, session = self._endpoints[work.kind], uuid.uuid4().hex
        uploaded = {name: await self._uploaded(name, path) for name, path in work.inputs.items()}
        asked = {
            "data": [_argument(field, work, uploaded) for field in endpoint.arguments],
            "fn_index": endpoint.fn_index, "session_hash": session,
        }  # fmt: skip
        if (event_id := await self._joined(asked)) is None:
            yield Line("the queue of the Gradio app is full; the work waits")
            while (event_id := await self._joined(asked)) is None:  # noqa: ASYNC110 - the app does not tell
                await asyncio.sleep(AGAIN)
        self._running = {work.id: {"event_id": event_id, "session_hash": session, "fn_index": endpoint.fn_index}}
        data: Sequence[Any] | None = None
        async with aclosing(self._events(session)) as events:
            async for event in events:
                if event.get("msg") == "process_completed":
                    data = _completed(event)
                    break
                for item in _progress(event):
                    yield item
        if data is None:
            raise EngineUnreachable("Gradio broke off before the result came; it gives a result only once")
        made = {name: value for name, value in zip(endpoint.results, data, strict=False) if name is not None}
        for name in work.outputs:
            yield Made(name, await self._stored(name, made.get(name), work.folder))

    async def cancel(self, work: Work) -> None:
        """Cancel the event. A plain function runs on to its end; a generator ends at its next step."""
        event = self._running.get(work.id)
        if event is not None:
            try:
                await self._http.json("POST", "/gradio_api/cancel", json=event)
            except WakestreamError:
                return

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _uploaded(self, name: str, path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("files", file, filename=path.name, content_type="application/octet-stream")
            status, said = await self._http.json("POST", "/gradio_api/upload", data=form)
        if status != 200 or not isinstance(said, list) or not said:
            raise TaskFailed(f"Gradio did not take the file of input {name}: HTTP {status} {_detail(said)}")
        return {"path": said[0], "meta": {"_type": "gradio.FileData"}, "orig_name": path.name}

    async def _joined(self, asked: Mapping[str, Any]) -> str | None:
        """Join the queue; returns the event's id, None if the queue is full."""
        status, said = await self._http.json("POST", "/gradio_api/queue/join", json=asked)
        if status == 200 and isinstance(said, dict) and said.get("event_id"):
            return str(said["event_id"])
        if status == 503:
            return None
        raise TaskFailed(f"Gradio did not take the work: HTTP {status} {_detail(said)}")

    async def _events(self, session: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of the stream of a session."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE)
        path = "/gradio_api/queue/data"
        async with self._http.exchange("GET", path, params={"session_hash": session}, timeout=timeout) as response:
            raw = b""
            async for block in response.content.iter_any():
                raw += block
                *lines, raw = raw.split(b"\n")
                if len(raw) > _MAX_EVENT:
                    raise TaskFailed(f"Gradio sent an event of more than {_MAX_EVENT} bytes")
                for line in lines:
                    if line.startswith(b"data:"):
                        event = orjson.loads(line[5:])
                        if isinstance(event, dict):
                            yield event

    async def _stored(self, name: str, value: object, folder: Path) -> Path:
        found = value.get("video", value) if isinstance(value, dict) else value
        if value is None:
            raise TaskFailed(f"the Gradio app made no output {name!r}")
        if isinstance(found, dict) and found.get("path"):
            path = str(found["path"])
            target = folder / f"{name}{Path(str(found.get('orig_name') or path)).suffix.lower()}"
            await self._http.fetch(f"/gradio_api/file={path}", target)
            if not target.stat().st_size:
                raise TaskFailed(f"the Gradio app made an empty file for the output {name!r}")
            return target
        target = folder / (f"{name}.txt" if isinstance(value, str) else f"{name}.json")
        target.write_bytes(value.encode() if isinstance(value, str) else orjson.dumps(value))
        return target


def _argument(field: str | None, work: Work, uploaded: Mapping[str, Any]) -> Any:
    part, _, name = (field or "").partition(".")
    return uploaded.get(name) if part == "inputs" else work.params.get(name) if part == "params" else None


def _progress(event: Mapping[str, Any]) -> list[Frame | Line]:
    if event.get("msg") == "estimation" and event.get("rank"):
        return [Line(f"{event['rank']} works are before this one in the app's queue")]
    found = event.get("progress_data") if event.get("msg") == "progress" else None
    if not isinstance(found, list) or not found or not isinstance(found[-1], dict):
        return []
    # Nested bars come outermost first: each is a part of one step of the bar before it.
    whole, share = 0.0, 1.0
    for bar in found:
        part, steps = _part(bar)
        whole += share * part
        share = share / steps if steps else 0.0
    index, length = (int(found[0].get(key) or 0) for key in ("index", "length"))
    return [Frame(index if length else 0, length, round(min(100.0, 100 * whole), 1))]


def _part(bar: Mapping[str, Any]) -> tuple[float, float]:
    """How much of a bar is done, 0 to 1, and the number of its steps (0 if unknown)."""
    if isinstance(bar.get("progress"), int | float):
        return float(bar["progress"]), 0.0
    index, length = bar.get("index"), bar.get("length")
    if isinstance(index, int | float) and isinstance(length, int | float) and length > 0:
        return index / length, float(length)
    return 0.0, 0.0


def _completed(event: Mapping[str, Any]) -> Sequence[Any]:
    output = event.get("output")
    output = output if isinstance(output, dict) else {}
    if event.get("success") is False or output.get("error") is not None or "data" not in output:
        said = output.get("error")
        why = said or "the app raised an error that it does not show; see its log, or launch it with show_error=True"
        raise TaskFailed(f"the Gradio app failed: {str(why)[:500]}")
    if output["data"] is None:
        raise TaskFailed("the work was cancelled at the Gradio app")
    return list(output["data"])


def _detail(said: object) -> str:
    return str(said.get("detail") if isinstance(said, dict) else said or "")[:300]
