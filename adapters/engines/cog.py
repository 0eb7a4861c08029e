"""The engine `cog`: one model behind Cog's HTTP server (https://cog.run/http/).

Files go in by URL, and come out by the server's `--upload-url` (or as data URLs in the JSON, which suits small files
only). This engine serves both, on an address that the server can reach.

Options: `url` (default http://127.0.0.1:5000), `listen` (HOST:PORT on which this engine serves files; default
127.0.0.1:8394), `kind` (the kind's name, default `predict`), `manifest` (a description of the kind, for a model
without an OpenAPI schema).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import orjson
from aiohttp import web

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.cog_schema import kind_of_schema
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.http_engine import HttpEngine
from wakestream.adapters.engines.manifest import read_manifest
from wakestream.adapters.engines.program_output import percent_in
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Work
from wakestream.operators.model.errors import TaskFailed, WakestreamError

DEFAULT_URL: Final = "http://127.0.0.1:5000"
DEFAULT_LISTEN: Final = "127.0.0.1:8394"

AGAIN: Final = 1.0
"""Seconds until a server whose slots are all busy is asked again, and between two looks at a server that is silent."""

LOST_AFTER: Final = 5
"""So many looks may find the server idle before the prediction is sent again.

While it runs, that changes nothing; after its end it runs again, because a webhook that was lost is lost for good."""

_ENDS: Final = ("succeeded", "failed", "canceled")
_PREFIX: Final = "Prediction failed: "


def create(config: EngineConfig) -> Cog:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("cog", ("url", "listen", "kind", "manifest"))
    host, _, port = (options.get("listen") or DEFAULT_LISTEN).rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(
            f"--engine-option listen={options.get('listen')}: write HOST:PORT, such as {DEFAULT_LISTEN}"
        )
    name, kind = options.get("kind") or "predict", None
    if manifest := options.get("manifest"):
        entries = read_manifest(Path(manifest).expanduser(), own=(), needed=())
        if len(entries) != 1:
            raise SettingsError(f"the manifest {manifest} describes {len(entries)} kinds; a Cog model is one kind")
        kind, name = entries[0].kind, entries[0].kind.name
    return Cog(options.get("url") or DEFAULT_URL, name, kind, host, int(port))


@dataclass(slots=True)
class _Prediction:
    """One prediction: what the webhooks said, and the files of its work."""

    work: Work
    id: str
    news: asyncio.Queue[Mapping[str, Any]] = field(default_factory=asyncio.Queue)
    uploads: dict[str, Path] = field(default_factory=dict)
    logs: int = 0


class Cog(Engine):
    """One model behind Cog.

    Args:
        url: The server's address.
        name: The name of the kind.
        kind: The kind, for a server without an OpenAPI schema.
        host: The address on which files are served to the server.
        port: The port; 0 for any.
    """

    def __init__(self, url: str, name: str, kind: Kind | None, host: str = "127.0.0.1", port: int = 0) -> None:
        self._http = HttpEngine(url, "Cog")
        self._name, self._kind = name, kind
        self._files = _Files(host, port)

    async def describe(self) -> Sequence[Kind]:
        """The model, by its OpenAPI schema or by the manifest."""
        if self._kind is None:
            _, said = await self._http.json("GET", "/openapi.json")
            self._kind = kind_of_schema(self._name, said if isinstance(said, dict) else {})
            if self._kind is None:
                raise TaskFailed(
                    "the Cog model has no OpenAPI schema; describe its inputs and outputs in a manifest: "
                    "--engine-option manifest=kind.toml"
                )
        return [self._kind]

    async def ready(self) -> Readiness:
        """Whether the model's set-up is complete; the HTTP status is always 200."""
        try:
            await self._files.listen()
            _, said = await self._http.json("GET", "/health-check")
        except WakestreamError as error:
            return Readiness(False, str(error))
        except OSError as error:
            return Readiness(False, f"--engine-option listen: {error.strerror or error}; choose another port")
        status = said.get("status") if isinstance(said, dict) else None
        if status in ("READY", "BUSY"):
            return Readiness(True)
        logs = str(((said or {}).get("setup") or {}).get("logs") or "").strip()[-300:] if isinstance(said, dict) else ""
        return Readiness(False, f"the Cog model is not ready: {status or 'no Cog server'} {logs}".strip())

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Run a prediction, and wait for its webhook."""
        prediction = _Prediction(work, prediction_id(work))
        async with self._files.serving(prediction):
            async for line in self._start(prediction):
                yield line
            idle, end = 0, None
            while end is None:
                try:
                    async with asyncio.timeout(AGAIN):
                        news = await prediction.news.get()
                except TimeoutError:
                    idle = idle + 1 if await self._is_idle() else 0
                    if idle >= LOST_AFTER:  # a restart, a lost webhook, or other slots that are free
                        async for line in self._start(prediction):
                            yield line
                        idle = 0
                    continue
                for item in _progress(prediction, news):
                    yield item
                end = news if news.get("status") in _ENDS else None
            made = _made(prediction, end)
            for name in work.outputs:
                yield Made(name, await self._stored(prediction, name, made))

    async def cancel(self, work: Work) -> None:
        """Cancel the prediction; one that the server does not know has ended."""
        try:
            await self._http.json("POST", f"/predictions/{prediction_id(work)}/cancel")
        except WakestreamError:
            return

    async def close(self) -> None:
        """Close the connections and the file server."""
        await self._http.close()
        await self._files.close()

    async def _start(self, prediction: _Prediction) -> AsyncGenerator[Line, None]:
        work, told = prediction.work, False
        asked = {
            "input": {**work.params, **{name: self._files.url("in", name) for name in work.inputs}},
            "webhook": self._files.url("hook", ""),
            "webhook_events_filter": ["start", "output", "logs", "completed"],
        }
        while True:
            status, said = await self._http.json(
                "PUT", f"/predictions/{prediction.id}", json=asked, headers={"Prefer": "respond-async"}
            )
            if status in (200, 201, 202):
                if isinstance(said, dict) and said.get("status") in _ENDS:
                    prediction.news.put_nowait(said)
                return
            if status != 409:
                raise TaskFailed(f"Cog refused the prediction: HTTP {status} {_detail(said)}")
            if not told:
                told = True
                yield Line("all slots of the Cog server are busy; the work waits")
            await asyncio.sleep(AGAIN)

    async def _is_idle(self) -> bool:
        _, said = await self._http.json("GET", "/health-check")
        return not (isinstance(said, dict) and said.get("status") == "BUSY")

    async def _stored(self, prediction: _Prediction, name: str, made: Mapping[str, Any]) -> Path:
        if name not in made or made[name] is None:
            raise TaskFailed(f"the model made no output {name!r}; it made {', '.join(made) or 'none'}")
        value, folder = made[name], prediction.work.folder
        if isinstance(value, str) and value.startswith("data:"):
            return await asyncio.to_thread(_from_data_url, value, folder, name)
        if isinstance(value, str) and (path := prediction.uploads.get(value.rpartition("/")[2])) is not None:
            return _not_empty(path.rename(folder / f"{name}{path.suffix.lower()}"), name)
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            target = folder / f"{name}{Path(value.partition('?')[0]).suffix.lower()}"
            store = HttpEngine(value, "the model's file store")
            try:
                await store.fetch("", target)
            finally:
                await store.close()
            return _not_empty(target, name)
        target = folder / (f"{name}.txt" if isinstance(value, str) else f"{name}.json")
        target.write_bytes(value.encode() if isinstance(value, str) else orjson.dumps(value))
        return target


def prediction_id(work: Work) -> str:
    """The prediction's id, which depends on the work and the attempt."""
    return f"{work.id}-{work.attempt}"


def _progress(prediction: _Prediction, news: Mapping[str, Any]) -> list[Frame | Line]:
    """The lines of the log that are new; each webhook has the whole log so far, and one may overtake another."""
    logs = str(news.get("logs") or "")
    fresh, prediction.logs = logs[prediction.logs :], max(prediction.logs, len(logs))
    items: list[Frame | Line] = []
    for line in fresh.splitlines():
        percent = percent_in(line)
        items.append(Line(line) if percent is None else Frame(0, 0, percent))
    return items


def _made(prediction: _Prediction, end: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a prediction by name."""
    if end["status"] == "canceled":
        raise TaskFailed("the prediction was cancelled at the Cog server")
    if end["status"] == "failed":
        said = str(end.get("error") or "without a reason")
        while said.startswith(_PREFIX):
            said = said.removeprefix(_PREFIX)
        raise TaskFailed(f"the model failed: {said[:500]}")
    output = end.get("output")
    if isinstance(output, dict):
        return output
    if isinstance(output, list):
        return {"output" if n == 0 else f"output_{n + 1}": value for n, value in enumerate(output)}
    return {"output": output}


def _from_data_url(url: str, folder: Path, name: str) -> Path:
    head, _, data = url.partition(",")
    media = head.removeprefix("data:").partition(";")[0]
    import mimetypes

    target = folder / f"{name}{mimetypes.guess_extension(media) or '.bin'}"
    try:
        target.write_bytes(base64.b64decode(data, validate=True) if ";base64" in head else unquote(data).encode())
    except binascii.Error:
        raise TaskFailed(f"the model's output {name!r} is not a valid data URL") from None
    return _not_empty(target, name)


def _not_empty(path: Path, name: str) -> Path:
    if not path.stat().st_size:
        raise TaskFailed(f"the model made an empty file for the output {name!r}")
    return path


def _detail(said: object) -> str:
    found = (said.get("detail") or said.get("error")) if isinstance(said, dict) else said
    return str(found or "")[:300]


class _Files:
    """The HTTP server for a Cog server: inputs of the present work, uploads of its outputs, webhooks."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._token = secrets.token_urlsafe(16)
        self._runner: web.AppRunner | None = None
        self._now: _Prediction | None = None

    async def listen(self) -> None:
        """Listen, if that has not begun. Raises `OSError`."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=64 * 1024**2)
        app.add_routes([
            web.get(f"/{self._token}/in/{{name}}", self._input),
            web.post(f"/{self._token}/hook/", self._hook),
            web.put("/out/{name}", self._output),
        ])  # fmt: skip
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._port, self._runner = runner.addresses[0][1], runner

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def url(self, part: str, name: str) -> str:
        """The address of a file or of the webhook."""
        ending = Path(self._now.work.inputs[name]).suffix if part == "in" and self._now is not None else ""
        return f"http://{self._host}:{self._port}/{self._token}/{part}/{name}{ending}"

    def serving(self, prediction: _Prediction) -> _Serving:
        """A block in which the files of a prediction are served."""
        return _Serving(self, prediction)

    async def _input(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"].partition(".")[0]
        path = self._now.work.inputs.get(name) if self._now is not None else None
        return web.Response(status=404) if path is None else web.FileResponse(path)

    async def _hook(self, request: web.Request) -> web.Response:
        try:
            news = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return web.Response(status=400)
        if self._now is not None and isinstance(news, dict) and news.get("id") == self._now.id:
            self._now.news.put_nowait(news)
        return web.Response()

    async def _output(self, request: web.Request) -> web.Response:
        now, sender = self._now, request.headers.get("X-Prediction-ID")
        if now is None or sender not in (None, now.id):
            return web.Response(status=404, text="no prediction of this engine runs")
        name = Path(request.match_info["name"]).name
        path = now.work.folder / f"upload-{len(now.uploads)}{Path(name).suffix}"
        try:
            with path.open("xb", buffering=0) as file:
                async for block in request.content.iter_chunked(1024 * 1024):
                    await asyncio.to_thread(file.write, block)
        except OSError as error:
            return web.Response(status=507, text=f"the disk cannot store it: {error.strerror or error}")
        now.uploads[name] = path
        return web.Response(headers={"Location": str(request.url)})


class _Serving:
    def __init__(self, files: _Files, prediction: _Prediction) -> None:
        self._files, self._prediction = files, prediction

    async def __aenter__(self) -> None:
        await self._files.listen()
        self._files._now = self._prediction

    async def __aexit__(self, *_: object) -> None:
        self._files._now = None
