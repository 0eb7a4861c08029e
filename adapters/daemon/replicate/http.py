"""How Replicate says things in HTTP: who calls, refusals, headers, pages and events of a stream."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.api.auth import ApiError, json_answer
from wakestream.adapters.daemon.replicate.tokens import Token, Tokens
from wakestream.adapters.net.silent_callers import let_in
from wakestream.operators.model.errors import WrongInput

BODY_MOST: Final = 32 * 1024 * 1024
"""Bytes of a request's JSON: files in it are data URLs."""

WAIT_MOST: Final = 60.0
"""Seconds that `Prefer: wait` waits, at most and by default."""

TOKEN: Final = web.RequestKey("token", Token)
"""The token of a request."""

CANCEL_MOST: Final = 366 * 86_400.0
"""Seconds of `Cancel-After`, at most."""

_SIGNED = re.compile(r"/v1/(stream/|outputs/|files/[^/]+/stream$)")
_TITLES: Final = {401: "Unauthenticated", 404: "Not found", 422: "Input validation failed", 429: "Too many requests"}


def guard(tokens: Tokens) -> Middleware:
    """Let programs with a token in, and everyone with a signed address; refusals are as Replicate's."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not _SIGNED.match(request.rel_url.raw_path):  # as the router sees it: a `%2F` separates nothing
                request[TOKEN] = _known(tokens, request.headers.get(hdrs.AUTHORIZATION, ""))
                let_in(request)
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
    """The address at which the API was called, also through a proxy with TLS."""
    return f"{request.headers.get('X-Forwarded-Proto', request.scheme)}://{request.host}"


def wait_of(request: web.Request) -> float:
    """Seconds that `Prefer: wait` asks for; 0 if it is not there."""
    found = re.search(r"(?:^|[,;\s])wait(?:=(\d+))?(?:$|[,;\s])", request.headers.get("Prefer", ""))
    return 0.0 if found is None else min(WAIT_MOST, float(found[1] or WAIT_MOST))


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


def event(id_: str, kind: str, data: str) -> bytes:
    """A server-sent event."""
    lines = "".join(f"data: {line}\n" for line in re.split("\r\n|\r|\n", data))  # each ends a line for a reader
    return f"event: {kind}\nid: {id_}\n{lines}\n".encode()


class GrowingText:
    """The text of an output, of which a reader has the first `sent` characters."""

    def __init__(self, sent: int) -> None:
        self.sent, self.text, self._before = sent, "", ""

    @property
    def waits(self) -> bool:
        """Whether there is more for the reader."""
        return len(self.text) > self.sent and self.text.startswith(self._before)

    def more(self) -> str:
        """What the reader has not got. Nothing while the work, begun again, writes another text."""
        if not self.waits:
            return ""
        more, self._before, self.sent = self.text[self.sent :], self.text, len(self.text)
        return more

    def rest(self, whole: str) -> str:
        """The rest of the output `whole`; all of it if the reader has another text."""
        return whole[self.sent :] if whole.startswith(self._before) else whole


def end_of(plain: Mapping[str, Any], grown: GrowingText | None = None) -> bytes:
    """The last events of a stream: the output, or what `grown` lacks of it, or the error, and the end."""
    job, output, status = plain["id"], plain["output"], plain["status"]
    values = [*output.values()] if isinstance(output, dict) else output if isinstance(output, list) else [output]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value]) if each is not None]
    texts = [each if isinstance(each, str) else orjson.dumps(each).decode() for each in flat]
    if grown is not None:
        texts = [rest for each in texts if (rest := grown.rest(each))]
    events = [event(f"{job}:{number}", "output", text) for number, text in enumerate(texts)]
    if plain["error"]:
        events.append(event(f"{job}:error", "error", plain["error"]))
    reasons: dict[str, dict[str, str]] = {"failed": {"reason": "error"}, "canceled": {"reason": "canceled"}}
    return b"".join([*events, event(f"{job}:done", "done", orjson.dumps(reasons.get(status, {})).decode())])
