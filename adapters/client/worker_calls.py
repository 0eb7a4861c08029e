"""Calls of one worker, authorized by the job's capability if the worker accepts it, else by the secret."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.session import REMEMBERED, Session
from wakestream.adapters.client.wallet import Wallet
from wakestream.adapters.client.worker_errors import worker_errors
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model.errors import WorkerRefused, WorkerUnreachable
from wakestream.operators.model.events import Job
from wakestream.streams.hub.capabilities import LEEWAY


@dataclass(slots=True)
class Known:
    """What is known of a worker: the outputs of each task by job, its answers to callers without a job, the
    outputs that may replace a file, and where the result of a task was put for each output."""

    answers: dict[str, frozenset[str]] = field(default_factory=dict)
    outputs: Recent[str, dict[str, tuple[Path, ...]]] = field(default_factory=lambda: Recent(REMEMBERED))
    put: Recent[tuple[str, Path], Path] = field(default_factory=lambda: Recent(REMEMBERED))
    jobs: Recent[Path, Job] = field(default_factory=lambda: Recent(REMEMBERED))


class WorkerCalls:
    """Calls the worker at `url`.

    Args:
        url: The worker's address.
        session: What all workers share.
        known: What all jobs know of this worker.
        job_id: The job whose capability authorizes the calls.
        wallet: The capabilities of all jobs; None to authorize by the secret only.
        answers: The features that each worker announced to this job, by address. A worker that has just started
            announces less, so the answer to one job says nothing about the calls of another.
    """

    def __init__(
        self,
        url: str,
        session: Session,
        known: Known,
        job_id: str = "",
        wallet: Wallet | None = None,
        answers: dict[str, frozenset[str]] | None = None,
    ) -> None:
        self.url, self.session = url, session
        self._known = known
        self._job_id, self._wallet = job_id, wallet
        self._answers = known.answers if answers is None else answers

    @property
    def features(self) -> frozenset[str]:
        """The features in the worker's last `health` to this job."""
        return self._answers.get(self.url, frozenset())

    @features.setter
    def features(self, announced: frozenset[str]) -> None:
        self._answers[self.url] = announced

    @property
    def authorization(self) -> Mapping[str, str]:
        """The header that authorizes a call.

        Raises:
            WorkerRefused: there is neither a capability nor a secret for this worker, and it is not said to need none;
                its code is `unsupported` if the hub or the worker must be updated first, else `no_secret`.
            WorkerUnreachable: the capability has expired.
        """
        by_secret = self.session.by_secret(self.url)
        if self._wallet is None:
            return by_secret
        token = self._wallet.of(self._job_id)
        # The hub gives a capability only where the worker has registered for it. A worker that has just started
        # announces it only after its own registration, and until then answers that it is not ready.
        if token is not None and ("capability" in self.features or not by_secret):
            return {"Authorization": f"Bearer {token}"}
        if by_secret:
            return by_secret
        if self._wallet.knows(self._job_id):
            # The next submit to the hub brings a new capability.
            raise WorkerUnreachable("the job's capability has expired; the hub is asked for another")
        if self.session.no_secret:
            return {}
        raise self._denied(self._wallet)

    def _denied(self, wallet: Wallet) -> WorkerRefused:
        """Why nothing authorizes the job's calls, and what to do."""
        code = "no_secret"
        if wallet.lacks_format(self._job_id):
            code = "unsupported"
            why = (
                "the hub's capability for the worker has a format that this version does not know; update the hub first"
            )
        elif "cancel" in self.features and "capability" not in self.features:  # a wakestream worker
            code = "unsupported"
            why = (
                f"the worker {self.url} does not accept capabilities, and no secret is set for it; update the worker "  # noqa: S608 - no SQL
                "first, or set HEYGEM_API_SECRET to the one that the worker runs with"
            )
        elif self.session.secret:
            why = (
                f"the hub names the worker {self.url} and gives no capability for it; it is not in your settings, so "
                "it does not receive your secret; if it is yours, set WAKESTREAM_SECRET_HOSTS to its host"
            )
        else:
            why = (
                "this job has no capability for the worker, and no secret is set; set HEYGEM_API_SECRET in the "
                "environment or in .env to the one that the worker runs with"
            )
        return WorkerRefused(why, code=code)

    async def call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        """The `data` of the reply to a call without a file. Raises `WorkerError` for a refusal."""
        async with self.exchange(method, name, **{"timeout": self.session.call_timeout, **options}) as response:
            reply = replies.accepted(response.status, await replies.body(response))
        data = reply.get("data")
        return data if isinstance(data, dict) else replies.wrong(reply, 'an object in "data"')

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        name: str = "",
        *,
        at: str | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        open_to_all: bool = False,
        **options: Any,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Make one request.

        Args:
            method: The HTTP method.
            name: The call: the last part of its address.
            at: The whole address, for requests beyond the common calls.
            json: The body.
            headers: Further headers.
            open_to_all: Whether the request is sent without authorization.
            options: Options of `aiohttp.ClientSession.request`.

        Yields:
            The response. Its connection is closed if the response was not read to its end.

        Raises:
            WorkerError: the call failed, or there is no authorization for it.
        """
        sent = {**({} if open_to_all else self.authorization), **(headers or {})}
        if json is not None:
            options["data"] = orjson.dumps(json)
            sent["Content-Type"] = "application/json"
        address = at or f"{self.url}/api/heygem/{name}"
        with worker_errors(self.url):
            # A redirect could send the secret to another host, and no worker redirects.
            async with self.session.http.request(
                method, address, headers=sent, allow_redirects=False, **options
            ) as response:
                if response.status in (401, 403):
                    self._doubt(sent, response)
                try:
                    yield response
                except WorkerRefused as error:
                    if error.code != "unauthorized" or not self._is_capability(sent):
                        raise
                    why = (
                        f"{self.url} refused the hub's capability; update the worker first, or restart it if it has "
                        "had another hub"
                    )
                    raise WorkerRefused(why, code=error.code) from error
                finally:
                    if not response.content.at_eof():
                        response.close()

    def _is_capability(self, sent: Mapping[str, str]) -> bool:
        secret = self.session.by_secret(self.url).get("Authorization")
        return self._wallet is not None and sent.get("Authorization", secret) != secret

    def _doubt(self, sent: Mapping[str, str], response: aiohttp.ClientResponse) -> None:
        """The worker refused a capability (clocks or hubs differ): the next attempt uses the secret."""
        if self._wallet is None or not self._is_capability(sent):
            return
        secret = self.session.by_secret(self.url).get("Authorization")
        off = self._wallet.ahead_of_hub(response.headers.get("Date")) if response.status == 401 else 0.0
        why = f"{self.url} refused the hub's capability"
        if wrong_clock := abs(off) > LEEWAY:
            side = "ahead of" if off > 0 else "behind"
            why += f"; its clock is {abs(off):.0f} s {side} the hub's; set it right, by NTP"
        if secret is not None:
            self.features -= {"capability"}
            raise WorkerUnreachable(f"{why}; the next attempt uses the secret")
        if wrong_clock:
            raise WorkerUnreachable(why)
