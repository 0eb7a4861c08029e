"""How Replicate says things in HTTP: who calls, refusals, headers and pages."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.api.auth import ApiError, json_answer
from wakestream.adapters.daemon.replicate.tokens import Token, Tokens
from wakestream.adapters.net.silent_callers import let_in, scheme_of
from wakestream.operators.model.errors import WrongInput

BODY_MOST: Final = 32 * 1024 * 1024
"""Bytes of a request's JSON: files in it are data URLs."""

WAIT_MOST: Final = 60.0
"""Seconds that `Prefer: wait` waits, at most and by default."""

TOKEN: Final = web.RequestKey("token", Token)
"""The token of a request."""

CANCEL_MOST: Final = 366 * 86_400.0
"""Seconds of `Cancel-After`, at most."""

_SIGNED = re.compile(r"/(?:v1/)*(stream/|outputs/|files/[^/]+/stream$)")
_TITLES: Final = {401: "Unauthenticated", 404: "Not found", 422: "Input validation failed", 429: "Too many requests"}


def guard(tokens: Tokens) -> Middleware:
    """Let programs with a token in, and everyone with a signed address; refusals are as Replicate's."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not _SIGNED.match(request.rel_url.raw_path):  # as the router sees it: a `%2F` separates nothing
                request[TOKEN] = _known(tokens, request.headers.get(hdrs.AUTHORIZATION, ""))
                let_in(request, f"token {request[TOKEN].name}")
            return await handler(request)
        except SettingsError as error:
            return _refusal(503, error.code, str(error))
        except WrongInput as error:
            return _refusal(422, error.code, str(error), error.field)
        except ApiError as error:
            status = 422 if error.status in (400, 415) else error.status
            return _refusal(status, error.code, str(error), error.numbers.get("field", ""))
        except web.HTTPRequestEntityTooLarge:
            return _refusal(413, "too_large", "the request is too large; upload its files with /v1/files")
        except web.HTTPException as error:
            return _refusal(error.status, "http", f"{request.method} {request.path[:80]}: {error.reason}")

    return guarded


def _known(tokens: Tokens, authorization: str) -> Token:
    scheme, _, text = authorization.partition(" ")
    token = tokens.of(text.strip()) if scheme.lower() in ("bearer", "token") else None
    if token is None:
        raise ApiError(401, "unauthorized", "send Authorization: Bearer TOKEN; `wakestream token add` makes tokens")
    return token


def _refusal(status: int, code: str, why: str, field: str = "") -> web.Response:
    plain: dict[str, Any] = {"title": _TITLES.get(status, "Error"), "detail": why, "status": status, "code": code}
    if field:
        plain["invalid_fields"] = [{"type": code, "field": field, "description": why}]
    return json_answer(plain, status=status)


def page(results: Sequence[Any], **more: Any) -> web.Response:
    """A page of a list."""
    return json_answer({"previous": None, "next": None, **more, "results": results})


def origin(request: web.Request) -> str:
    """The address at which the API was called, also through a named proxy with TLS."""
    return f"{scheme_of(request)}://{request.host}"


def wait_of(request: web.Request) -> float:
    """Seconds that `Prefer: wait` asks for; 0 if it is not there."""
    preference = re.search(r"(?:^|[,;\s])wait(?:=(\d+))?(?:$|[,;\s])", request.headers.get("Prefer", ""))
    return 0.0 if preference is None else min(WAIT_MOST, float(preference[1] or WAIT_MOST))


def deadline_of(request: web.Request) -> float:
    """When the prediction is to be cancelled, in UNIX seconds; 0: never."""
    said = request.headers.get("Cancel-After", "").strip()
    parts = re.findall(r"\d+(?:\.\d+)?[a-z]*", said)
    later = 0.0
    with suppress(ValueError):
        later = sum(map(seconds, parts)) if "".join(parts) == said else 0.0
    if said and not 0 < later <= CANCEL_MOST:
        raise WrongInput("Cancel-After", "Cancel-After must be a time of at most a year, such as 90s, 5m or 1h30m")
    return time.time() + later if said else 0.0
