"""Count file transfers. They are a use of the GPU, so that its machine is not stopped during one."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler

from wakestream.adapters.worker.file_store import SMALL, FileStore
from wakestream.adapters.worker.http import auth, requests, tus
from wakestream.adapters.worker.http.replies import bad_request
from wakestream.operators.model.engine import MAX_FILES
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef

_CALLS = frozenset(f"/api/heygem/{call}" for call in ("upload_file", "upload_files", "upload", "download", "file"))


LEAST = 1024
"""Bytes that an upload must get further between two looks at it to count as moving."""

DOWNLOAD = 3600.0
"""Seconds for which a download counts as moving: how many bytes the system has sent is not known here."""


class Transfers:
    """Counts running transfers (`open`); `on_first` is called when the first one begins.

    `moved` are the bytes that were `fetched` from the depot and `delivered` to it.
    """

    def __init__(self) -> None:
        self.moved: Counter[str] = Counter()
        self._moving: list[Callable[[], bool]] = []
        self.on_first: Callable[[], object] = lambda: None

    @property
    def open(self) -> int:
        """The number of running transfers."""
        return len(self._moving)

    def moving(self) -> bool:
        """Whether a transfer that is allowed now got further since the last look."""
        return sum(moves() for moves in self._moving) > 0  # not `any`: each of them notes how far it is

    @contextmanager
    def running(self, moves: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Wraps a transfer; `moves` is asked at each look whether it got further."""
        self._moving.append(moves)
        if self.open == 1:
            self.on_first()
        try:
            yield
        finally:
            self._moving.remove(moves)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts transfers; comes after the check of the secret."""
        if request.path not in _CALLS and not request.path.startswith(tus.AT):
            return await handler(request)
        with self.running(Progress(request)):
            return await handler(request)


class Progress:
    """Whether a transfer moves, for the dead-man switch: a sender without a valid permission cannot hold it off."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._clock = asyncio.get_running_loop().time
        self._began, self._seen = self._clock(), 0

    def __call__(self) -> bool:
        """Look at the transfer."""
        if not auth.is_still_allowed(self._request):
            return False
        if self._request.method == "GET":
            return self._clock() - self._began < DOWNLOAD
        before, self._seen = self._seen, self._request.content.total_bytes
        return self._seen - before >= LEAST


# Receive several small files in one request: a line of JSON that lists them, then their bytes.

MOST: Final = 16 * 1024 * 1024
"""Bytes of the files of one request."""

HELD: Final = 256 * 1024
"""Bytes of a request that are in memory while it arrives. The others wait on the disk: a sender may stall."""

_LIST: Final = 64 * 1024
_SHORT: Final = "send a line of JSON, a list of {hash, ext, size}, and then the bytes of these files in that order"


async def receive(request: web.Request, store: FileStore, expect: Callable[[FileRef, int], None]) -> list[FileRef]:
    """Receive the files; `expect` refuses one. Raises `Corrupt` if one has not its BLAKE3; then none is kept."""
    with SpooledTemporaryFile(HELD, dir=str(store.partials)) as spool:
        await _arrive(request, store, spool)
        async with store.in_memory:
            return await _keep(store, await store.on_disk(lambda: _all(spool)), expect)


async def _keep(store: FileStore, body: bytes, expect: Callable[[FileRef, int], None]) -> list[FileRef]:
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
    for entry in listed:
        ref = FileRef(requests.blake3(entry.get("hash"), "hash"), requests.file_ext(entry.get("ext")))
        size = _size(entry)
        expect(ref, size)
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


def _size(entry: Mapping[str, Any]) -> int:
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= SMALL:
        raise bad_request(f'"size" must be the bytes of a file, 1 to {SMALL}; send larger ones alone')
    return size


# Send a result: `FileResponse` for speed and ranges, with the result's BLAKE3 as its ETag.

_CONDITIONS = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_RANGE,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.ACCEPT_ENCODING,
)

_ONE_PART = re.compile(r"bytes=(\d+-\d*|-\d+)", re.ASCII | re.IGNORECASE)


class ResultFile(web.FileResponse):
    """The file at `path` whose BLAKE3 is `digest`.

    aiohttp only has ETags of size and date, so the conditions of the request are handled here: with `If-Range` of
    another result, the response is the whole file (RFC 9110, 13.1.5), and so it is for several ranges and for units
    other than bytes (14.2), which aiohttp would refuse.
    """

    def __init__(self, path: Path, digest: str) -> None:
        named = f"inline; filename={path.name}"
        super().__init__(path, headers={hdrs.CONTENT_TYPE: _media_type(path), hdrs.CONTENT_DISPOSITION: named})
        self.tag = f'"{digest}"'

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        headers = request.headers.copy()
        one_part = _ONE_PART.fullmatch(headers.get(hdrs.RANGE, ""))
        if one_part is None or headers.get(hdrs.IF_RANGE, self.tag) != self.tag:
            headers.popall(hdrs.RANGE, None)
        for condition in _CONDITIONS:
            headers.popall(condition, None)
        return await super().prepare(request.clone(headers=headers))


def _media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name, strict=False)[0] or "application/octet-stream"


async def put_etag(_: web.Request, response: web.StreamResponse) -> None:
    """For the application's `on_response_prepare`, which runs after aiohttp has set its own ETag."""
    if isinstance(response, ResultFile):
        response.headers[hdrs.ETAG] = response.tag


def result_response(request: web.Request, path: Path, digest: str) -> web.StreamResponse:
    """The file, the requested part, 304 if the caller has it, or 412 if it wants a part of another result."""
    wanted, held = request.headers.get(hdrs.IF_MATCH, "*"), request.headers.get(hdrs.IF_NONE_MATCH, "")
    if f'"{digest}"' not in wanted and wanted.strip() != "*":
        return web.Response(status=412, headers={hdrs.ETAG: f'"{digest}"'})
    if digest in held or held.strip() == "*":
        return web.Response(status=304, headers={hdrs.ETAG: f'"{digest}"'})
    return ResultFile(path, digest)
