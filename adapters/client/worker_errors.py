"""Turns errors of aiohttp into `WorkerError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained
from wakestream.operators.model.errors import WakestreamError, WorkerRefused, WorkerUnreachable

SHOWN = 200
"""Characters of a peer's text that an error shows."""


@contextmanager
def worker_errors(url: str) -> Iterator[None]:
    """Wraps a call of the worker at `url`."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        said = (
            f"the connection to the worker at {url} broke: {shortened(str(error)) or type(error).__name__}{hint(url)}"
        )
        fault: WakestreamError = WorkerUnreachable(said)
        match error:
            case aiohttp.InvalidURL():
                fault = WorkerRefused(f"{url} is not an HTTP address; correct HEYGEM_SERVER_URL", code="bad_url")
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                fault = WorkerRefused(f"no secure connection to {url}: {explained(error) or error}", code="tls")
            case aiohttp.ClientConnectorError():
                fault = WorkerUnreachable(f"no connection to {url}: {no_connection(error.os_error)}")
            case aiohttp.ClientResponseError():
                fault = WorkerRefused(f"{url} is not an HTTP server: {shortened(error.message)}", code="bad_reply")
            case TimeoutError():
                fault = WorkerUnreachable(f"the worker at {url} stopped answering during a call")
        raise fault from error


def hint(url: str) -> str:
    """For an http address: a TLS port closes such a connection and gives no reason."""
    return "; if it needs TLS, write https://" if url.startswith("http:") else ""


def shortened(text: str) -> str:
    """A peer's text on one line, shortened."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
