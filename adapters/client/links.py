"""Files to and from a depot in a bucket: plain HTTP by signed links, without credentials of the bucket.

A link is a permission for everyone who reads it, so errors and logs never show one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from random import Random
from typing import Any, Final

import aiohttp
from yarl import URL

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.download import Partial, body_into, kept
from wakestream.adapters.client.upload import FilePart, Meter, reported
from wakestream.adapters.client.worker_calls import Session
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.depot import Place
from wakestream.operators.model.errors import DAMAGED, Corrupt, DepotError, LinkExpired, WorkerUnreachable
from wakestream.operators.model.events import Downloading, Fingerprint
from wakestream.operators.model.ports import Resumed

AT_ONCE: Final = 3
"""Parts that are sent at the same time."""

WHOLE: Final = 3600.0
"""Seconds that one PUT may take: a whole file of at most 64 MiB, or one part."""

ATTEMPTS: Final = 5
"""How often a file or a part is sent; then the hub is asked for other links."""

AGAIN: Final = Backoff(initial=0.5, max_delay=20.0)
"""The pauses in between."""

LONGEST_PAUSE: Final = 60.0
"""Seconds that a depot may ask to wait."""


def put(session: Session, file: Fingerprint, place: Place) -> AsyncGenerator[int | Resumed, None]:
    """Send a file, or those of its parts for which there are links. Implements `Depot.put` for buckets.

    Args:
        session: Makes the requests.
        file: The file.
        place: Where it is put.

    Yields:
        How many bytes the depot has; `Resumed` if it had some before, or if a part is sent again.

    Raises:
        LinkExpired: The depot does not accept the link: ask for a new one.
        FileChanged: The file changed after it was hashed.
        DepotError: Its `code` is `down`, `full`, `too_large` or `lost` (the upload was removed).
    """
    meter = Meter()
    if parted := place.parted:
        meter.resume(min(parted * place.part_size, file.size))
    return reported(meter, lambda meter: _send(session, file, place, meter), f"put {place.file.blake3}")


async def _send(session: Session, file: Fingerprint, place: Place, meter: Meter) -> None:
    parts, size = ({1: place.url}, file.size) if place.url else (place.parts, place.part_size)
    numbers = iter(sorted(parts))

    async def sender() -> None:
        for number in numbers:
            await _put(session, parts[number], file, meter, (number - 1) * size, size)

    async with tasks_of_block() as start:
        await asyncio.wait([start(sender()) for _ in range(AT_ONCE)])


async def _put(session: Session, link: str, file: Fingerprint, meter: Meter, start: int, most: int) -> None:
    """Put a whole file or one part, again after a temporary error."""
    random, length = Random(), min(most, file.size - start)
    timeout = aiohttp.ClientTimeout(total=WHOLE, sock_connect=session.connect, sock_read=session.idle)
    for attempt in range(1, ATTEMPTS + 1):
        sent = 0

        def add(count: int) -> None:
            nonlocal sent
            count = min(count, length - sent)  # aiohttp repeats a PUT whose connection was just closed
            sent += count
            meter.add(count)

        part = FilePart(file, session.executor, session.idle, add, start, most)
        try:
            with _errors(link), part.own_errors():
                async with _exchange(session, "PUT", link, (200, 201, 204), data=part, timeout=timeout):
                    return
        except DepotError as error:
            meter.resume(meter.total - sent)
            if error.code != "down" or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(max(min(error.retry_after, LONGEST_PAUSE), AGAIN.delay(attempt, random)))


def get(session: Session, place: Place, partial: Partial) -> AsyncGenerator[Downloading, None]:
    """Fetch a file; what an earlier attempt or run left of it in `partial` is continued.

    Args:
        session: Makes the request.
        place: Where the file is.
        partial: Receives it; its output appears when it is complete and its BLAKE3 is right.

    Yields:
        The progress.

    Raises:
        LinkExpired: The depot does not accept the link: ask for a new one.
        DepotError: Its `code` is `down` or `lost`.
        Corrupt: The file was cut, or is damaged.
        FileError: The disk cannot store it.
    """
    return kept(partial, _receive(session, place, partial), session.idle, resumable=True)


async def _receive(session: Session, place: Place, partial: Partial) -> AsyncGenerator[Downloading, None]:
    # The content is known before its first byte, so a part of it needs no validator of the depot (stores ignore
    # If-Range, and the ETag of parts is no hash).
    etag, size = f'"{place.file.blake3}"', place.file.size
    if partial.etag not in (None, etag) or partial.size > size:
        partial.begin(etag=etag, verified=True, resumable=True)
    if partial.size == size:
        partial.resume(etag, verified=True)
        await partial.verify(size, cut=False)
        return
    headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
    with _errors(place.url):
        async with _exchange(session, "GET", place.url, (200, 206), headers=headers) as response:
            if response.status == 206:
                length: int | None = replies.continued(response.headers, response.headers.get("ETag"), partial.size)
                partial.resume(etag, verified=True)
            else:
                length = response.content_length if "Content-Encoding" not in response.headers else None
                partial.begin(etag=etag, verified=True, resumable=True)
            if length not in (None, size):
                partial.etag = None
                raise Corrupt(f"the depot has {length} bytes of a file of {size} bytes", code=DAMAGED)
            partial.make_room(size - partial.size)
            async with aclosing(body_into(partial, response, size, session.idle)) as steps:
                async for step in steps:
                    yield step


@asynccontextmanager
async def _exchange(
    session: Session, method: str, link: str, expected: Collection[int], **options: Any
) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    url = URL(link, encoded=True)  # quoted again, its signature would be wrong
    async with session.http.request(method, url, allow_redirects=False, **options) as response:
        try:
            if response.status not in expected:
                raise await _refused(response)
            yield response
        finally:
            if not response.content.at_eof():
                response.close()


@contextmanager
def _errors(link: str) -> Iterator[None]:
    """Turns errors of the connection into `DepotError`, without the link, which the texts of aiohttp may show."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, WorkerUnreachable) as error:
        why = f"the connection broke ({type(error).__name__})"
        match error:
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                why = f"no secure connection: {explained(error) or type(error).__name__}"
            case aiohttp.ClientConnectorError():
                why = f"no connection: {no_connection(error.os_error)}"
            case aiohttp.InvalidURL():
                why = "the link from the hub is no address"
            case TimeoutError() | WorkerUnreachable():
                why = "it accepted or sent no byte for too long"
        raise DepotError(f"the depot{_host(link)}: {why}", code="down") from None


def _host(link: str) -> str:
    with suppress(ValueError):
        return f" at {URL(link, encoded=True).host}"
    return ""


_CODE: Final = re.compile(rb"<Code>(\w{1,60})</Code>")

_FULL: Final = frozenset(
    {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}
)
_DOWN: Final = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "OperationAborted"})
_EXPIRED: Final = frozenset({"ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed"})


async def _refused(response: aiohttp.ClientResponse) -> DepotError:
    """The error for an answer that is no success."""
    match = _CODE.search((await response.content.read(65536))[:65536])
    word, status = match[1].decode() if match else "", response.status
    said = f"the depot{_host(str(response.url))} answered HTTP {status}{word and f' {word}'}"
    if status in (413, 507) or word in _FULL:
        return DepotError(f"{said}: it is full, or accepts no file of this size", code="full")
    if word == "EntityTooLarge":
        return DepotError(f"{said}: the file is too large for it", code="too_large")
    if status in (429, 500, 502, 503, 504) or word in _DOWN:
        pause = whole_number(response.headers.get("Retry-After", ""), most=86400) or 0
        return DepotError(f"{said}: it is overloaded or has a fault", code="down", retry_after=pause)
    if status in (401, 403) or word in _EXPIRED:
        why = "the link has expired, or a clock is wrong by more than 15 minutes; a new link is needed"
        return LinkExpired(f"{said}: {why}")
    if status == 404:
        return DepotError(f"{said}: it has no such file or upload any more", code="lost")
    return DepotError(f"{said}, which is unexpected; run `wakestream depot check` at the hub", code=f"http_{status}")
