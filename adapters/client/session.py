"""What the calls of all workers share: one HTTP session, threads for files, and the secret of the settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from ssl import SSLContext

import aiohttp

from wakestream.adapters.config import addresses
from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef

READ_BUFFER = 1024 * 1024
"""Bytes that are read from a socket at a time."""

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
                connector=aiohttp.TCPConnector(ssl=True if self.ca is None else self.ca),
            )
        return self._http

    async def close(self) -> None:
        """Close all connections and end the threads."""
        if self._http is not None:
            await self._http.close()
            self._http = None
        self.executor.shutdown(wait=False, cancel_futures=True)
