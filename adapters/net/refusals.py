"""Counts what a server of ours refuses over HTTP, whoever says so: the call, aiohttp's parser, or a timer."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from loguru import logger

from wakestream.adapters.net.counters import Refusals
from wakestream.operators.model.errors import WorkerRefused

WORD = web.ResponseKey("error", str)
"""Under which a response keeps the word for why it refuses."""


def noted(stage: str) -> Refusals:
    """A count whose every refusal shows in the log at DEBUG."""
    return Refusals(lambda reason, times: logger.debug("refused: {} ({} times by now)", reason, times, stage=stage))


def counting(refused: Refusals) -> type[AbstractAccessLogger]:
    """For the server, which tells such a logger of every answer; it logs nothing."""

    class Counting(AbstractAccessLogger):
        def __init__(self, logger: logging.Logger, log_format: str) -> None:
            super().__init__(logger, log_format)

        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            word = response.get(WORD)
            if word or response.status >= 400:
                refused.count(word or f"http_{response.status}")

    return Counting


def quiet_logger(program: str) -> logging.Logger:
    """For the server: without the tracebacks of broken requests, with which a port scan would fill the log."""
    quiet = logging.getLogger(f"wakestream.{program}.aiohttp")
    quiet.addFilter(_is_fault)
    return quiet


def _is_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


@web.middleware
async def plain_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses compressed bodies: nobody needs to send any, and a small one may hold what no disk does."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise WorkerRefused("send the body as it is, without Content-Encoding", code="unsupported_media")
    return await handler(request)


@web.middleware
async def no_strangers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Hangs up on those who were not let in: a connection kept is for those who may use it."""
    response = await handler(request)
    if response.status in (401, 403, 429):
        response.force_close()
    return response


def expecting(server: web.Server) -> web.Server:
    """Refuses what a caller expects beyond `100-continue`, and returns the server.

    aiohttp does so too, before any of our code, but repeats the word, and breaks if that is no text.
    """
    handle = server.request_handler

    async def look(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "100-continue").lower() == "100-continue":
            return await handle(request)
        return web.Response(status=417, text="Expect: 100-continue is all that is known here")

    server.request_handler = look
    return server
