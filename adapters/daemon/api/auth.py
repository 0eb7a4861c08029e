"""Who may speak to the daemon's local API: programs of this user that hold the token, and no web page of elsewhere."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.net.silent_callers import let_in


class ApiError(Exception):
    """An answer that is a refusal: an HTTP status, a word for programs and a sentence for people.

    `numbers` are those of the sentence, so that the page can say it in another language.
    """

    def __init__(self, status: int, code: str, why: str, **numbers: Any) -> None:
        super().__init__(why)
        self.status, self.code, self.numbers = status, code, numbers


def refusal(status: int, code: str, why: str, numbers: Mapping[str, Any] | None = None) -> web.Response:
    """A refusal as JSON."""
    said = {"code": code, "error": why, **(numbers or {})}
    return web.Response(status=status, body=orjson.dumps(said), content_type="application/json")


def hosts(port: int) -> frozenset[str]:
    """What the `Host` header of a caller on this machine may say."""
    names = ("127.0.0.1", "localhost", "[::1]")
    return frozenset({f"{name}:{port}" for name in names} | (set(names) if port == 80 else set()))


@dataclass(frozen=True, slots=True)
class Doors:
    """The ways in: programs show `token`, `is_open` says what needs nothing, `admits` who needs no token."""

    token: str
    is_open: Callable[[web.Request], bool] = lambda _: False
    admits: Callable[[web.Request], bool] = lambda _: False


def guard(doors: Doors, allowed: Collection[str]) -> Middleware:
    """Refuses foreign hosts (a rebound DNS name), foreign origins (a web page elsewhere) and who has no way in.

    `allowed` is checked for each request.
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
        let_in(request)
        return await handler(request)

    return guarded


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is a JSON object with a `code` and a sentence in `error`."""
    try:
        return await handler(request)
    except ApiError as error:
        return refusal(error.status, error.code, str(error), error.numbers)
    except web.HTTPRequestEntityTooLarge:
        return refusal(413, "too_large", "the body of this call is too large; send paths, not files")
    except web.HTTPException as error:
        return refusal(error.status, error.reason.lower().replace(" ", "_"), f"{request.method} here: {error.reason}")
