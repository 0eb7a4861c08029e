"""The HTTP server for a Cog server: it hands out the inputs of the present work, and takes its outputs and webhooks."""

from __future__ import annotations

import asyncio
import mimetypes
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.engines.http_engine import ending, write_body
from wakestream.adapters.net.http_server import listening
from wakestream.operators.model.engine import Work
from wakestream.operators.model.errors import NoSpace, TaskFailed, WakestreamError

MAX_HOOK = 256 * 1024 * 1024
"""The most bytes of a webhook; without `--upload-url`, the output files are in it."""

_ENDINGS: Final = {
    "audio/wav": ".wav", "audio/ogg": ".ogg", "audio/m4a": ".m4a", "video/x-matroska": ".mkv",
    "application/x-subrip": ".srt", "image/x-exr": ".exr",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """An uploaded file, and the name that the model gave it."""

    name: str
    path: Path


@dataclass(slots=True)
class Prediction:
    """One prediction: its webhooks, and the files that were uploaded.

    Attributes:
        work: The work.
        id: Its id at the Cog server.
        news: What the webhooks said.
        uploads: The uploaded files by the end of the address in the answer to Cog: the model's own names may be equal.
        fault: Why an upload or a webhook could not be taken.
        logs: So many characters of the log were reported.
        health: What the server said of itself when the prediction was sent.
        pieces: So many pieces of a text were shown.
        ran_already: It ran already, for example because the worker was restarted.
        nonce: Part of its webhook's address: Cog repeats the last webhook of an earlier run for minutes.
        end: The last webhook, when it came.
    """

    work: Work
    id: str
    news: asyncio.Queue[Mapping[str, Any]] = field(default_factory=asyncio.Queue)
    uploads: dict[str, ModelOutput] = field(default_factory=dict)
    fault: WakestreamError | None = None
    logs: int = 0
    pieces: int = 0
    health: asyncio.Future[Mapping[str, Any]] = field(default_factory=asyncio.Future)
    ran_already: bool = False
    nonce: str = field(default_factory=lambda: secrets.token_hex(4))
    end: Mapping[str, Any] | None = None


class CogFiles:
    """The server.

    Args:
        host: The address to listen on.
        port: The port; 0 for any.
        address: The server's address for Cog, such as `http://host.docker.internal:8394`; empty: host and port.
        folder: Where the secret part of addresses is kept, so that it stays after a restart; None: nowhere.
    """

    def __init__(self, host: str, port: int, address: str = "", folder: Path | None = None) -> None:
        self._host, self._port, self._address = host, port, address.rstrip("/")
        self._folder, self._token = folder, ""
        self._server: AsyncExitStack | None = None
        self._now: Prediction | None = None
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="cog")

    @property
    def address(self) -> str:
        """Where Cog reaches this server."""
        return self._address or f"http://{self._host}:{self._port}"

    @property
    def upload_url(self) -> str:
        """What belongs into Cog's `--upload-url`."""
        return f"{self.address}/out/"

    async def listen(self) -> None:
        """Listen, if that has not begun. Raises `OSError`."""
        if self._server is not None:
            return
        self._token = _token(self._folder)
        app = web.Application(middlewares=[_not_compressed])
        app.add_routes([
            web.get(f"/{self._token}/in/{{name}}", self._input),
            web.post(f"/{self._token}/hook/{{nonce}}", self._hook),
            web.put("/out/{name:.*}", self._output),
        ])  # fmt: skip
        async with AsyncExitStack() as stack:
            server = listening(app, "cog", None, self._host.strip("[]"), self._port)
            self._port = await stack.enter_async_context(server)
            self._server = stack.pop_all()

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.aclose()
            self._server = None
        self._pool.shutdown(wait=False)

    @contextmanager
    def serving(self, prediction: Prediction) -> Iterator[None]:
        """A block in which the files of a prediction are served."""
        self._now = prediction
        try:
            yield
        finally:
            self._now = None

    def hook(self, prediction: Prediction) -> str:
        """The address of the webhook."""
        return f"{self.address}/{self._token}/hook/{prediction.nonce}"

    def inputs(self, work: Work) -> dict[str, str]:
        """The addresses of the input files by name."""
        base = f"{self.address}/{self._token}/in"
        return {name: f"{base}/{name}{quote(path.suffix)}" for name, path in work.inputs.items()}

    async def _input(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"].partition(".")[0]
        path = self._now.work.inputs.get(name) if self._now is not None else None
        return web.Response(status=404) if path is None else web.FileResponse(path)

    async def _hook(self, request: web.Request) -> web.Response:
        now, body, size = self._now, bytearray(), 0
        if now is not None and now.nonce != request.match_info["nonce"] and not now.ran_already:
            now = None
        async for block in request.content.iter_any():
            size += len(block)
            if size <= MAX_HOOK:
                body += block
        if size > MAX_HOOK:  # taken as delivered: Cog gives up on a refusal, and nothing is ever told
            if now is not None:
                now.fault = TaskFailed(
                    f"the model's output has {size} bytes as JSON, {MAX_HOOK} are allowed; start the Cog server with "
                    f"--upload-url {self.upload_url} and return large files alone or in a list, not in an object"
                )
                now.news.put_nowait({})
            return web.Response()
        try:
            news = orjson.loads(body)
        except orjson.JSONDecodeError:
            return web.Response(status=400)
        if now is not None and isinstance(news, dict) and news.get("id") == now.id:
            now.news.put_nowait(news)
        return web.Response()

    async def _output(self, request: web.Request) -> web.Response:
        now, sender = self._now, request.headers.get("X-Prediction-ID")
        if now is None or sender not in (None, now.id):
            return web.Response(status=404, text="no prediction of this engine runs")
        name = request.match_info["name"]  # Cog puts it into the address as it is, so that `#` and `?` cut it off
        path = now.work.folder / f"upload-{secrets.token_hex(8)}{ending(name) or ending_of(request.content_type)}"
        try:
            length = request.content_length or 0
            await write_body(request.content, request.transport, length, path, self._pool)
            request.content.feed_eof()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):  # `OSError`s, but not of the disk
            return web.Response(status=400, text="the upload broke off")
        except OSError as error:  # Cog reports an output without the file then
            now.fault = NoSpace(f"the output {name[:80]} cannot be stored: {error.strerror or error}")
            return web.Response(status=507, text=str(now.fault))
        now.uploads[path.stem] = ModelOutput(name, path)
        headers = {"Location": f"{request.url.origin()}/out/{path.stem}", "Connection": "close"}
        answer = web.Response(status=201, headers=headers)
        answer.force_close()
        return answer


@web.middleware
async def _not_compressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        return web.Response(status=415, text="send the body without Content-Encoding")
    return await handler(request)


def _token(folder: Path | None) -> str:
    if folder is None:
        return secrets.token_urlsafe(16)
    path = folder / "cog-token"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, secrets.token_urlsafe(16).encode())
    return path.read_text("ascii")


def ending_of(media: str) -> str:
    """The ending of a media type, with those that Cog's `mime_guess` gives and Python does not know."""
    return _ENDINGS.get(media) or mimetypes.guess_extension(media) or ".bin"
