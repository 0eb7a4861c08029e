"""Who calls the worker: with its secret, everyone's equal; with a capability of the hub, one job and no other."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.net.capabilities import Claims, Verifier, looks_like_one
from wakestream.adapters.net.rate_limit import Proxies, Rate
from wakestream.adapters.net.silent_callers import let_in
from wakestream.adapters.worker.http import progress_socket
from wakestream.adapters.worker.http.replies import HEALTH, failure, status_of
from wakestream.operators.model.errors import WakestreamError, WorkerRefused
from wakestream.streams.worker import worker as w

TRIES = 20
"""Wrong secrets that one address may show at once; then one more every `AGAIN` seconds."""

AGAIN = 5.0

_BEARER = re.compile("bearer( |$)", re.IGNORECASE)
_CLAIMS = web.RequestKey("capability", Claims)
_VERIFIER = web.RequestKey("verifier", Verifier)

MAX_CALLS = 200
"""Calls of a license that may go on at once; as many as it may have connections at the hub."""


class Callers:
    """Lets in who knows the secret, or bears a capability that `verifier` accepts; everyone may ask how it is.

    Without a secret it lets everyone in.
    """

    def __init__(
        self,
        secret: str | None,
        verifier: Verifier | None = None,
        wrong: Rate | None = None,
        *,
        proxies: Proxies | None = None,
    ) -> None:
        self._secret = None if secret is None else _digest(secret)
        self._verifier = verifier
        self._wrong = wrong or Rate(TRIES, AGAIN)
        self._proxies = proxies or Proxies()
        self._inside: dict[str, set[asyncio.Transport]] = {}

    def middleware(self) -> Middleware:
        """What stands before every call."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path in (HEALTH, "/"):
                return await handler(request)
            shown = _shown(request)
            try:
                claims = self._admit(shown)
            except WakestreamError as error:
                if error.code == "unauthorized" and any(shown):  # who shows nothing guesses nothing
                    address = self._address(request)
                    wait = self._wrong.wait(address)
                    if wait > 0:
                        return _later(f"too many wrong secrets came from {address}", "too_many", 429, wait)
                    self._wrong.count(address)
                if progress_socket.is_handshake(request):
                    return await progress_socket.turn_away(request)
                return _turned_away(error)
            let_in(request)
            if claims is None:
                return await handler(request)
            return await self._serve(request, claims, handler)

        return check

    def _address(self, request: web.Request) -> str:
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return self._proxies.caller(request.remote or "", forwarded)

    def _admit(self, shown: Sequence[str]) -> Claims | None:
        """None for the secret, which opens all."""
        if self._secret is None:
            return None
        if any(hmac.compare_digest(_digest(one), self._secret) for one in shown):
            return None
        if self._verifier is not None and looks_like_one(shown[0]):
            return self._verifier.claims(shown[0])
        raise WorkerRefused(
            "send 'Authorization: Bearer <HEYGEM_API_SECRET>' with the worker's secret", code="unauthorized"
        )

    async def _serve(self, request: web.Request, claims: Claims, handler: Handler) -> web.StreamResponse:
        if progress_socket.is_handshake(request):
            return await progress_socket.turn_away(request)  # clients that have capabilities poll, each its own tasks
        request[_CLAIMS] = claims
        if self._verifier is not None:
            request[_VERIFIER] = self._verifier
        transport = request.transport
        if transport is None:
            raise ConnectionError("the caller has gone")
        inside = self._inside.get(claims.lic, set())
        if len(inside) >= MAX_CALLS:
            return _later(f"{MAX_CALLS} calls of this license go on already", "too_many", 429, 1.0)
        self._inside[claims.lic] = inside
        inside.add(transport)
        try:
            return await handler(request)
        finally:
            inside.discard(transport)
            if not inside:
                self._inside.pop(claims.lic, None)

    def revoke(self, owner: str) -> None:
        """Cut what goes on in the name of this license."""
        for transport in tuple(self._inside.get(owner, ())):
            transport.abort()


def _digest(secret: str) -> bytes:
    """What is compared in its place: comparing what is of different lengths tells the length."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _shown(request: web.Request) -> Sequence[str]:
    """What the call bears as its secret: in the header, with or without `Bearer`; for the socket in its address."""
    if progress_socket.is_handshake(request):
        return progress_socket.tokens(request)
    return (_BEARER.sub("", request.headers.get("Authorization", "")).strip(),)


def license_of(request: web.Request) -> str:
    """The license of the job that the call's capability is for; `ANONYMOUS` where the secret opened the door."""
    claims = request.get(_CLAIMS)
    return w.ANONYMOUS if claims is None else claims.lic


def holder_of(request: web.Request, said: str) -> str:
    """The job that the call is for: what its body said, which must be what its capability says."""
    claims: Claims | None = request.get(_CLAIMS)
    if claims is None:
        return said
    if said in ("", claims.job):
        return claims.job
    raise _forbidden("another job")


def may_see(request: web.Request, state: w.State, task: w.Task) -> bool:
    """Whether the caller may know of the task and have its result."""
    claims = request.get(_CLAIMS)
    return claims is None or state.opens(task, claims.job, claims.lic)


def check_task(request: web.Request, state: w.State, task: w.Task) -> None:
    """`WorkerRefused`: `forbidden` when the task is none that the caller's job asked for.

    `not_found` when a job of this id did, and it is not known for certain that it is the caller's: it asks again then.
    """
    if may_see(request, state, task):
        return
    if request[_CLAIMS].job in task.holders:
        raise WorkerRefused("this capability's job has not asked for this task: submit again", code="not_found")
    raise _forbidden("a task that its job does not hold")


def check_open(request: web.Request) -> None:
    """`WorkerRefused` (`not_ready`) when the hub has said that the job of the caller's capability is over.

    The hub may have given the job a GPU again a moment ago, and the worker not heard of it yet: hence no final word.
    """
    claims, verifier = request.get(_CLAIMS), request.get(_VERIFIER)
    if claims is not None and verifier is not None and verifier.ended.has(claims.job, claims.lic, claims.iat):
        why = "the hub says that this capability's job is over: submit it there first, then try again"
        raise WorkerRefused(why, code="not_ready")


def check_everyones(request: web.Request) -> None:
    """`WorkerRefused` when the call concerns more than one job."""
    if _CLAIMS in request:
        raise _forbidden("what concerns all jobs")


def _forbidden(what: str) -> WorkerRefused:
    return WorkerRefused(f"this capability is good for one job, and the call is about {what}", code="forbidden")


def _turned_away(error: WakestreamError) -> web.Response:
    if error.code == "not_ready":
        return _later(str(error), error.code, 503, 1.0)
    reply = failure(status_of(error.code), str(error), error.code)
    if reply.status == 401:
        reply.headers["WWW-Authenticate"] = 'Bearer realm="wakestream worker"'
    return reply


def _later(why: str, word: str, status: int, wait: float) -> web.Response:
    seconds = math.ceil(wait)
    reply = failure(status, f"{why}: try again in {seconds} s", word)
    reply.headers["Retry-After"] = str(seconds)
    return reply
