"""At the edge: what aiohttp raises, as the errors that jobs know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained
from wakestream.operators.model.errors import WakestreamError, WorkerRefused, WorkerUnreachable

SHOWN = 200
"""Characters of a peer's text that an error repeats."""


@contextmanager
def worker_errors(url: str) -> Iterator[None]:
    """Around every exchange with the worker at `url`."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _ours(url, error) from error


def _ours(url: str, error: Exception) -> WakestreamError:
    match error:
        case aiohttp.InvalidURL():
            return WorkerRefused(
                f"{url} is not an address that can be called; correct HEYGEM_SERVER_URL", code="bad_url"
            )
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return WorkerRefused(f"no safe connection to {url}: {explained(error) or error}", code="tls")
        case aiohttp.ClientConnectorError():
            return WorkerUnreachable(f"nobody answers at {url}: {no_connection(error.os_error)}")
        case aiohttp.ClientResponseError():
            return WorkerRefused(
                f"what answers at {url} does not speak HTTP: {shortened(error.message)}", code="bad_reply"
            )
        case TimeoutError():
            return WorkerUnreachable(f"the worker at {url} fell silent in the middle of a call")
    return WorkerUnreachable(
        f"the connection to the worker at {url} broke: {shortened(str(error)) or type(error).__name__}{hint(url)}"
    )


def hint(url: str) -> str:
    """For one who finds a port of TLS without it, which is closed to him without a word."""
    return "; if TLS is spoken there, write https://" if url.startswith("http:") else ""


def shortened(text: str) -> str:
    """A peer's words on one line, cut to a length that a person still reads."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
