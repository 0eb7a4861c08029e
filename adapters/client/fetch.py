"""Fetches a result from a worker into a `Partial`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import aclosing
from typing import Any

import aiohttp

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.download import Partial
from wakestream.adapters.client.progress import Meter
from wakestream.adapters.client.worker_calls import WorkerCalls
from wakestream.adapters.net.direct_body import body_blocks
from wakestream.adapters.runtime.tasks import heartbeat
from wakestream.operators.model.errors import Corrupt, FileError
from wakestream.operators.model.events import Downloading


async def fetch(
    calls: WorkerCalls, task_id: str, name: str | None, partial: Partial
) -> AsyncGenerator[Downloading, None]:
    """Download the result of a task.

    Args:
        calls: Makes requests.
        task_id: The task.
        name: The name of the result; None for the main one.
        partial: The file. What an earlier attempt left in it is continued, if the worker announces ranges.

    Yields:
        The progress, and signs of life while the disk works, which may take longer than the idle timeout.

    Raises what a download raises (`ports.Worker`); the bytes stay in `partial` if they can be resumed.
    """
    resumable = "range" in calls.features
    params = {"task_id": task_id} | ({} if name is None else {"name": name})
    try:
        for part in (
            _kept_alive(lambda: partial.prepare(resumable=resumable), partial, calls.session.idle),
            _receive(calls, params, partial),
            _kept_alive(partial.finish, partial, calls.session.idle),
        ):
            async with aclosing(part) as steps:
                async for step in steps:
                    yield step
    except BaseException as error:
        if isinstance(error, FileError):  # the disk cannot store it, so its bytes are removed
            partial.unwanted = True
        await partial.leave()
        raise


async def _kept_alive(
    work: Callable[[], Coroutine[Any, Any, None]], partial: Partial, idle: float
) -> AsyncGenerator[Downloading, None]:
    async with aclosing(heartbeat(work(), idle / 4)) as waiting:
        async for _ in waiting:
            yield Downloading(partial.size, partial.size or None)


async def _receive(calls: WorkerCalls, params: dict[str, str], partial: Partial) -> AsyncGenerator[Downloading, None]:
    headers = {"Range": f"bytes={partial.size}-", "If-Range": partial.etag} if partial.etag else None
    with replies.task_known():
        async with calls.exchange("GET", "download", params=params, headers=headers) as response:
            try:
                length = await _begin(response, partial, calls.features)
            except Corrupt:
                partial.etag = None  # the bytes on the disk are of another result
                raise
            meter = Meter(partial.size)
            yield Downloading(partial.size, length)
            cut = False
            try:
                if response.status != 416:  # the body of which is an error message
                    transport = response.connection.transport if response.connection is not None else None
                    size = 0 if "Content-Encoding" in response.headers else response.content_length or 0
                    async with aclosing(body_blocks(response.content, transport, size, calls.session.idle)) as blocks:
                        async for block in blocks:
                            await partial.write(block)
                            if meter.add(len(block)):
                                yield Downloading(partial.size, length)
            except (aiohttp.ClientPayloadError, ConnectionError):
                cut = True  # `verify` decides whether the download is complete
            await partial.verify(length, cut=cut)
            yield Downloading(partial.size, length)


async def _begin(response: aiohttp.ClientResponse, partial: Partial, features: Collection[str]) -> int | None:
    """Open the file for the reply; returns the length of the complete result, if the reply has it."""
    begun, verified = partial.etag, "blake3" in features
    if begun is not None and replies.nothing_left(response.status, response.headers, begun, partial.size):
        partial.resume(begun, verified=verified)
        return partial.size
    refused = response.content_type == "application/json" and "ETag" not in response.headers  # else a result in JSON
    if refused or response.status not in ((200,) if begun is None else (200, 206)):
        raise replies.no_result(response.status, await replies.body(response))
    if response.status == 206 and begun is not None:
        length: int | None = replies.continued(response.headers, begun, partial.size)
        partial.resume(begun, verified=verified)
    else:
        length = response.content_length if "Content-Encoding" not in response.headers else None
        partial.begin(etag=response.headers.get("ETag"), verified=verified, resumable="range" in features)
    if length is not None:
        partial.make_room(length - partial.size)
    return length
