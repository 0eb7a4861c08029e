"""Calls of one worker, authorized by the job's capability if the worker accepts it, else by the secret."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from ssl import SSLContext
from typing import Any

import aiohttp
import orjson
from aiohttp import AddrInfoType

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.worker_replies import worker_errors
from wakestream.adapters.config import addresses
from wakestream.adapters.config.setting_files import Secret
from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.adapters.net.capabilities import is_well_formed, lifetime
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model.errors import WorkerRefused, WorkerUnreachable
from wakestream.operators.model.events import FileRef, Job
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import LEEWAY

# The capabilities of a client's jobs: see `adapters.net.capabilities`.

CAPABILITIES = 10_000
"""Jobs whose capability a client remembers."""


class Wallet:
    """The latest capability of each job, fed with the hub's messages. `clock` gives UNIX seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ahead = 0.0  # seconds that this clock was ahead of the hub's when the last capability came
        self._held: Recent[str, tuple[Secret, float]] = Recent(CAPABILITIES)
        self._unread: Recent[str, None] = Recent(CAPABILITIES)

    def feed(self, event: object) -> None:
        """One event of the link to the hub."""
        match event:
            case m.Ack(request_id=job, capability=str(token), capability_expires=int(expires)):
                self._hold(job, token, expires)
            case m.Capability(request_id=job, capability=token, expires=expires):
                self._hold(job, token, expires)

    def _hold(self, job: str, token: str, expires: float) -> None:
        if not is_well_formed(token):
            self._unread[job] = None
            return
        now = self._clock()
        # The hub decides how long it is valid. This machine's clock may be wrong, so it only measures that time.
        issued, ends = lifetime(token) or (now, expires)
        self._ahead = now - issued
        self._held[job] = (Secret(token), now + ends - issued)

    def of(self, job: str) -> Secret | None:
        """The job's capability; None without one, or when it has expired."""
        token, expires = self._held.get(job, (None, 0.0))
        return token if token is not None and self._clock() <= expires + LEEWAY else None

    def knows(self, job: str) -> bool:
        """Whether the job has a capability, also an expired one."""
        return job in self._held

    def lacks_format(self, job: str) -> bool:
        """Whether the hub gave the job a capability of another format than this version knows."""
        return job in self._unread

    def ahead_of_hub(self, date: str | None) -> float:
        """Seconds that the clock which gave this HTTP date is ahead of the hub's; 0 when that is unknown."""
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return 0.0
        return theirs - (self._clock() - self._ahead) if self._held else 0.0


# What the calls of all workers share: one HTTP session, threads for files, and the secret of the settings.

READ_BUFFER = 1024 * 1024
"""Bytes that are read from a socket at a time."""

UNSENT = 128 * 1024
"""Bytes of an upload that the system may hold before it sends them. By itself it holds 4 MB for each connection, which
count as sent: at 20 Mbit/s, a machine was woken seconds too early for four files."""

THREADS = 4
"""Threads that read and sync files, for all jobs together."""

REMEMBERED = 1024
"""Workers, tasks and unfinished transfers that are remembered."""

CALL = 60.0
"""Seconds that a call without a file transfer may take."""

WAIT = 10.0
"""Seconds for which a worker with the feature `wait` holds a question for a task's progress, until it has changed."""


@dataclass(eq=False)
class Session:
    """One HTTP session, which belongs to the event loop of its first use.

    Args:
        url: The worker's address, for jobs to which the hub names no worker.
        secret: The workers' secret; only configured hosts receive it.
        no_secret: The workers require no secret.
        secret_hosts: Further hosts that receive the secret.
        idle: Seconds without a byte after which a transfer fails.
        connect: Seconds to connect.
        ca: Verifies workers whose certificate the system does not trust.
        secrets: The values of secret parameters.
    """

    url: str | None = None
    secret: str | None = field(default=None, repr=False)
    _: KW_ONLY
    no_secret: bool = False
    secret_hosts: Collection[str] = ()
    idle: float = 60.0
    connect: float = 10.0
    ca: SSLContext | None = None
    secrets: SecretValues = field(default_factory=SecretValues)

    def __post_init__(self) -> None:
        """Nothing is opened yet: this may run outside of the event loop."""
        self._default = addresses.worker_url(self.url) if self.url else None
        self._authorization = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        self._secret_hosts = (*self.secret_hosts, *((addresses.host_of(self._default),) if self._default else ()))
        self._http: aiohttp.ClientSession | None = None
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.connect, sock_read=self.idle)
        self.call_timeout = aiohttp.ClientTimeout(total=CALL, sock_connect=self.connect, sock_read=self.idle)
        self.wait_timeout = aiohttp.ClientTimeout(CALL + WAIT, sock_connect=self.connect, sock_read=self.idle + WAIT)
        self.executor = ThreadPoolExecutor(THREADS, "wakestream-transfer")
        self.uploads: Recent[tuple[str, FileRef], str] = Recent(REMEMBERED)
        """The addresses of unfinished uploads, by endpoint and file."""

    def resolve(self, url: str | None) -> str:
        """The address from the hub if there is one, else the configured address. Raises `WorkerRefused`."""
        if url is None and self._default is None:
            raise WorkerRefused(
                "neither the hub nor the settings name a worker; set HEYGEM_SERVER_URL or give --worker-url URL",
                code="no_worker",
            )
        try:
            return self._default or "" if url is None else addresses.worker_url(url)
        except ValueError as error:
            raise WorkerRefused(f"the worker's address from the hub {error}", code="bad_url") from None

    def by_secret(self, url: str) -> Mapping[str, str]:
        """The header with the secret for a worker that the user configured; empty for others that the hub names."""
        return self._authorization if addresses.is_among(url, self._secret_hosts) else {}

    @property
    def http(self) -> aiohttp.ClientSession:
        """The session of aiohttp, created at its first use."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                timeout=self.timeout,
                read_bufsize=READ_BUFFER,
                connector=aiohttp.TCPConnector(ssl=True if self.ca is None else self.ca, socket_factory=_socket),
            )
        return self._http

    async def close(self) -> None:
        """Close all connections and end the threads."""
        if self._http is not None:
            await self._http.close()
            self._http = None
        self.executor.shutdown(wait=False, cancel_futures=True)


def _socket(where: AddrInfoType) -> socket.socket:
    """A socket that takes no more bytes than it will soon send, where the system can do that."""
    made = socket.socket(*where[:3])
    if (option := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:
        made.setsockopt(socket.IPPROTO_TCP, option, UNSENT)
    return made


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
