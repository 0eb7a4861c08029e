"""Authorization of the local API: programs of this user that have the token, and no pages of other web sites."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wakestream.operators.model.errors import WrongInput

json_answer = partial(web.json_bytes_response, dumps=orjson.dumps)
"""An answer in JSON."""


class ApiError(Exception):
    """A refusal: an HTTP status, a word for programs and a sentence for people.

    `numbers` are the values in the sentence, so that the page can show it in another language.
    """

    def __init__(self, status: int, code: str, why: str, **numbers: Any) -> None:
        super().__init__(why)
        self.status, self.code, self.numbers = status, code, numbers


def plain_error(error: ApiError | WrongInput) -> dict[str, Any]:
    """A refusal as an object, with a word in `code` and a sentence in `error`."""
    more = {"field": error.field} if isinstance(error, WrongInput) else error.numbers
    return {"code": error.code, "error": str(error), **more}


def bad_request(why: str) -> ApiError:
    """The error for a wrong request; `why` says what to send instead."""
    return ApiError(400, "bad_request", why)


def hosts(port: int) -> frozenset[str]:
    """The valid `Host` headers of a request from this machine."""
    names = ("127.0.0.1", "localhost", "[::1]")
    return frozenset({f"{name}:{port}" for name in names} | (set(names) if port == 80 else set()))


@dataclass(frozen=True, slots=True)
class Doors:
    """How requests are authorized: programs send `token`; `is_open` requests need nothing, `admits` others."""

    token: str
    is_open: Callable[[web.Request], bool] = lambda _: False
    admits: Callable[[web.Request], bool] = lambda _: False


def guard(doors: Doors, allowed: Collection[str]) -> Middleware:
    """Refuses unknown hosts (DNS rebinding), origins of other web sites, and requests without authorization.

    `allowed` are the hosts; it is read at each request.
    """
    expected = f"Bearer {doors.token}".encode()

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get(hdrs.HOST, "").lower() not in allowed:
            raise ApiError(421, "foreign_host", "this address answers to 127.0.0.1, localhost and [::1] only")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin.lower() not in {f"http://{host}" for host in allowed}:
            raise ApiError(403, "foreign_origin", "a web page of another origin may not use this address")
        if doors.is_open(request):
            return await handler(request)
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode(errors="surrogateescape")
        if not doors.admits(request) and not hmac.compare_digest(given, expected):
            raise ApiError(401, "unauthorized", "send Authorization: Bearer TOKEN; the token is in daemon.json")
        return await handler(request)

    return guarded


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return all errors as a JSON object with a word in `code` and a sentence in `error`."""
    try:
        return await handler(request)
    except ApiError as refused:
        error = refused
    except WrongInput as wrong:
        error = ApiError(400, wrong.code, str(wrong), field=wrong.field)
    except web.HTTPRequestEntityTooLarge:
        error = ApiError(413, "too_large", "the body of this call is too large; send paths, not files")
    except web.HTTPException as raised:
        code = raised.reason.lower().replace(" ", "_")
        error = ApiError(raised.status, code, f"{request.method} here: {raised.reason}")
    return json_answer({"code": error.code, "error": str(error), **error.numbers}, status=error.status)
