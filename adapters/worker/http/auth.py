"""Check the callers of the worker: the secret permits all calls, a capability of the hub those of one job."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from wakestream.adapters.net.capabilities import Claims, is_token
from wakestream.adapters.net.capability_keys import Verifier
from wakestream.adapters.net.connection_limits import Proxies, Rate
from wakestream.adapters.net.silent_callers import let_in
from wakestream.adapters.worker.http import progress_socket
from wakestream.adapters.worker.http.replies import HEALTH, failure, status_of
from wakestream.operators.model.errors import WakestreamError, WorkerRefused
from wakestream.streams.worker import state as w

TRIES = 20
"""Wrong secrets that one address may send at once; then one more every `AGAIN` seconds."""

AGAIN = 5.0

_BEARER = re.compile("bearer( |$)", re.IGNORECASE)
_CLAIMS = web.RequestKey("capability", Claims)
_VERIFIER = web.RequestKey("verifier", Verifier)

MAX_CALLS = 200
"""The most concurrent calls of a license; as many as it may have connections at the hub."""


class Callers:
    """Accepts calls with the secret, or with a capability that `verifier` accepts. Health needs neither.

    Without a secret, all calls are accepted.
    """

    def __init__(self, secret: str | None, verifier: Verifier | None, proxies: Proxies) -> None:
        self._secret = None if secret is None else _digest(secret)
        self._verifier, self._proxies = verifier, proxies
        self._wrong = Rate(TRIES, AGAIN)
        self._inside: dict[str, set[asyncio.Transport]] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks every call."""
        if request.path in (HEALTH, "/"):
            return await handler(request)
        shown = _shown(request)
        try:
            claims = self._admit(shown)
        except WakestreamError as error:
            return await self._refuse(request, error, guessed=any(shown))  # a call without a secret is not a guess
        let_in(request)
        if claims is None:
            return await handler(request)
        if progress_socket.is_handshake(request):
            return await progress_socket.turn_away(request)  # clients with capabilities poll
        request[_CLAIMS] = claims
        if self._verifier is not None:
            request[_VERIFIER] = self._verifier
        transport = request.transport
        if transport is None:
            raise ConnectionError("the caller has gone")
        inside = self._inside.get(claims.lic, set())
        if len(inside) >= MAX_CALLS:
            return _later(f"this license has {MAX_CALLS} running calls already", "too_many", 429, 1.0)
        self._inside[claims.lic] = inside
        inside.add(transport)
        try:
            return await handler(request)
        finally:
            inside.discard(transport)
            if not inside:
                self._inside.pop(claims.lic, None)

    async def _refuse(self, request: web.Request, error: WakestreamError, *, guessed: bool) -> web.StreamResponse:
        if guessed and error.code == "unauthorized":
            forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
            address = self._proxies.caller(request.remote or "", forwarded)
            if (wait := self._wrong.wait(address)) > 0:
                return _later(f"too many wrong secrets came from {address}", "too_many", 429, wait)
            self._wrong.count(address)
        if progress_socket.is_handshake(request):
            return await progress_socket.turn_away(request)
        if error.code == "not_ready":
            return _later(str(error), error.code, 503, 1.0)
        reply = failure(status_of(error.code), str(error), error.code)
        if reply.status == 401:
            reply.headers["WWW-Authenticate"] = 'Bearer realm="wakestream worker"'
        return reply

    def _admit(self, shown: Sequence[str]) -> Claims | None:
        """The claims of a capability; None for the secret."""
        if self._secret is None:
            return None
        if any(hmac.compare_digest(_digest(secret), self._secret) for secret in shown):
            return None
        if self._verifier is not None and is_token(shown[0]):
            return self._verifier.claims(shown[0])
        raise WorkerRefused(
            "send 'Authorization: Bearer <HEYGEM_API_SECRET>' with the worker's secret", code="unauthorized"
        )

    def revoke(self, owner: str) -> None:
        """Cut the running calls of this license."""
        for transport in tuple(self._inside.get(owner, ())):
            transport.abort()


def _digest(secret: str) -> bytes:
    """A digest of the secret: comparing texts of different lengths would reveal the length."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _shown(request: web.Request) -> Sequence[str]:
    """The secret in the call: in the header, with or without `Bearer`; for the progress socket in the address."""
    if progress_socket.is_handshake(request):
        return progress_socket.tokens(request)
    return (_BEARER.sub("", request.headers.get("Authorization", "")).strip(),)


def license_of(request: web.Request) -> str:
    """The license in the call's capability; `ANONYMOUS` for a call with the secret."""
    claims = request.get(_CLAIMS)
    return w.ANONYMOUS if claims is None else claims.lic


def holder_of(request: web.Request, said: str) -> str:
    """The job of the call, from its body; it must be the one of its capability."""
    claims: Claims | None = request.get(_CLAIMS)
    if claims is None:
        return said
    if said in ("", claims.job):
        return claims.job
    raise _forbidden("another job")


def may_see(request: web.Request, state: w.QueueState, task: w.Task) -> bool:
    """Whether the caller may read the task and its result."""
    claims = request.get(_CLAIMS)
    return claims is None or state.opens(task, claims.job, claims.lic)


def check_task(request: web.Request, state: w.QueueState, task: w.Task) -> None:
    """Check that the caller's job wants the task.

    Raises:
        WorkerRefused: `forbidden`, or `not_found` if a job with the same id wants it that may be another license's.
    """
    if may_see(request, state, task):
        return
    if request[_CLAIMS].job in task.holders:
        raise WorkerRefused("this capability's job has not asked for this task: submit again", code="not_found")
    raise _forbidden("a task that its job does not want")


def check_open(request: web.Request) -> None:
    """Check that the hub has not ended the job of the caller's capability. `WorkerRefused` (`not_ready`).

    The refusal is not final, since the hub may just have given the job a GPU again.
    """
    claims, verifier = request.get(_CLAIMS), request.get(_VERIFIER)
    if claims is not None and verifier is not None and verifier.ended.has(claims.job, claims.lic, claims.iat):
        why = "the hub says that this capability's job is over: submit it there first, then try again"
        raise WorkerRefused(why, code="not_ready")


def is_still_allowed(request: web.Request) -> bool:
    """Whether a call that began with a valid capability could begin now."""
    claims, verifier = request.get(_CLAIMS), request.get(_VERIFIER)
    return claims is None or verifier is None or verifier.is_valid(claims)


def check_hub(request: web.Request) -> None:
    """Check that the hub made the caller's capability for itself. `WorkerRefused` (`forbidden`)."""
    if not (_CLAIMS in request and request[_CLAIMS].gpu.endswith("\nhub")):
        raise WorkerRefused("only the hub may do this; use `wakestream depot` at a client", code="forbidden")


def check_everyones(request: web.Request) -> None:
    """Refuse a call with a capability, because it affects more than one job. `WorkerRefused`."""
    if _CLAIMS in request:
        raise _forbidden("all jobs")


def _forbidden(what: str) -> WorkerRefused:
    return WorkerRefused(f"this capability is for one job, but the call is about {what}", code="forbidden")


def _later(why: str, word: str, status: int, wait: float) -> web.Response:
    seconds = math.ceil(wait)
    reply = failure(status, f"{why}: try again in {seconds} s", word)
    reply.headers["Retry-After"] = str(seconds)
    return reply
