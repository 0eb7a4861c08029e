"""Receive several small files in one request: a line of JSON that lists them, then their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Any, Final

import msgspec
from aiohttp import web

from wakestream.adapters.worker.file_store import SMALL, FileStore
from wakestream.adapters.worker.http import requests
from wakestream.adapters.worker.http.replies import bad_request
from wakestream.operators.model.engine import MAX_FILES
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef

MOST: Final = 16 * 1024 * 1024
"""Bytes of the files of one request."""

HELD: Final = 256 * 1024
"""Bytes of a request that are in memory while it arrives. The others wait on the disk: a sender may stall."""

_LIST: Final = 64 * 1024
_SHORT: Final = "send a line of JSON, a list of {hash, ext, size}, and then the bytes of these files in that order"


async def receive(request: web.Request, store: FileStore) -> list[FileRef]:
    """Receive the files. Raises `Corrupt` if one has not its BLAKE3; then none is kept."""
    with SpooledTemporaryFile(HELD, dir=str(store.partials)) as spool:
        await _arrive(request, store, spool)
        async with store.in_memory:
            return await _keep(store, await store.on_disk(lambda: _all(spool)))


async def _keep(store: FileStore, body: bytes) -> list[FileRef]:
    newline = body.find(b"\n")
    content = memoryview(body)[newline + 1 :]
    try:
        listed = msgspec.json.decode(body[: max(0, newline)], type=list[dict[str, Any]])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise bad_request(f"the list of the files does not parse; {_SHORT}") from None
    if not 0 < len(listed) <= MAX_FILES:
        raise bad_request(f"the request has {len(listed)} files; send 1 to {MAX_FILES}")
    files: dict[FileRef, memoryview] = {}
    start = 0
    for one in listed:
        ref, size = FileRef(requests.blake3(one.get("hash"), "hash"), requests.file_ext(one.get("ext"))), _size(one)
        files[ref] = content[start : start + size]
        start += size
    if start != len(content):
        raise bad_request(f"the files have {start} bytes in the list, but {len(content)} came; {_SHORT}")
    await store.keep_all(files)
    return list(files)


def _all(spool: SpooledTemporaryFile[bytes]) -> bytes:
    spool.seek(0)
    return spool.read()


async def _arrive(request: web.Request, store: FileStore, spool: SpooledTemporaryFile[bytes]) -> None:
    size = 0
    while True:
        try:
            async with asyncio.timeout(requests.SILENCE):
                block = await request.content.readany()
        except TimeoutError:
            raise requests.silent() from None
        if not block:
            return
        size += len(block)
        if size > MOST + _LIST:
            raise WorkerRefused(f"one request may have {MOST} bytes of files; send large ones alone", code="too_large")
        if size > HELD:
            await store.on_disk(partial(spool.write, block))
        else:
            spool.write(block)


def _size(one: Mapping[str, Any]) -> int:
    size = one.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= SMALL:
        raise bad_request(f'"size" must be the bytes of a file, 1 to {SMALL}; send larger ones alone')
    return size
