"""Counts what our HTTP servers refuse, also when aiohttp's parser or a timer refuses it."""

from __future__ import annotations

import asyncio
import logging
from traceback import walk_tb

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from loguru import logger

from wakestream.adapters.net.connection_limits import Refusals
from wakestream.operators.model.errors import WorkerRefused

WORD = web.ResponseKey("error", str)
"""The key of a response for the reason of a refusal."""


def noted(stage: str) -> Refusals:
    """Counts refusals and logs each at DEBUG."""
    return Refusals(lambda reason, times: logger.debug("refused: {} ({} times so far)", reason, times, stage=stage))


def counting(refused: Refusals) -> type[AbstractAccessLogger]:
    """A class for aiohttp's access log that counts refusals and logs nothing."""

    class Counting(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            word = response.get(WORD)
            if word or response.status >= 400:
                refused.count(word or f"http_{response.status}")

    return Counting


def quiet_logger(program: str, level: int = logging.NOTSET) -> logging.Logger:
    """A server's logger without tracebacks of malformed requests, and without all below `level`: a port scan would
    fill the log."""
    quiet = logging.getLogger(f"wakestream.{program}")
    quiet.setLevel(level)
    quiet.addFilter(_is_fault)
    return quiet


def _is_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, asyncio.InvalidStateError):  # a handler of aiohttp ended in the moment of its shutdown
        return all(frame.f_code.co_name != "_handle_request" for frame, _ in [*walk_tb(error.__traceback__)][-1:])
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


@web.middleware
async def plain_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse compressed bodies: no client needs them, and a small one may expand to more than the disk holds."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise WorkerRefused("send the body as it is, without Content-Encoding", code="unsupported_media")
    return await handler(request)


@web.middleware
async def no_strangers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Close the connection after a refused authorization, to keep connections for authorized clients."""
    response = await handler(request)
    if response.status in (401, 403, 429):
        response.force_close()
    return response


_HANDSHAKE = ("Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
"""Headers that aiohttp's handshake decodes or quotes, which fails when they are not ASCII."""


def expecting(server: web.Server) -> web.Server:
    """Make the server refuse an `Expect` header other than `100-continue`, and a handshake that is not ASCII.

    aiohttp refuses the former too, but quotes the value, which fails when that is not text. Returns the server.
    """
    handle = server.request_handler

    async def look(request: web.BaseRequest) -> web.StreamResponse:
        if "Upgrade" in request.headers and not all(request.headers.get(name, "").isascii() for name in _HANDSHAKE):
            return web.Response(status=400, text="the headers of a WebSocket handshake must be ASCII")
        if request.headers.get("Expect", "100-continue").lower() == "100-continue":
            return await handle(request)
        return web.Response(status=417, text="only Expect: 100-continue is supported")

    server.request_handler = look
    return server
