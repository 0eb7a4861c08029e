"""Uploads: their bodies, and resumable ones with tus 1.0, to our worker or any other tus server.

Our worker returns the same upload for the same file, so nothing needs to be stored. For other servers the address of
the upload is remembered while this program runs.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientError, ClientResponse, MultipartWriter
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload, StringPayload
from yarl import URL

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.worker_calls import WorkerCalls
from wakestream.adapters.client.worker_replies import shortened
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.runtime.tasks import end
from wakestream.operators.model.errors import (
    DAMAGED,
    Corrupt,
    FileChanged,
    FileUnusable,
    WakestreamError,
    WorkerRefused,
    WorkerUnreachable,
)
from wakestream.operators.model.events import FileRef, Fingerprint
from wakestream.operators.model.ports import Resumed

# A file, or the rest of it, as a request body of known length. The next block is read while one is sent.

LEAST = 256 * 1024
MOST = 2 * 1024 * 1024
"""Bytes of a block. Slow connections get small blocks, since each must be sent within `idle` seconds; fast ones get
large blocks, since each costs a thread switch."""

QUICK, SLOW = 0.05, 0.5
"""Seconds for one block, below or above which the block size is doubled or halved."""


class FilePart(Payload):
    """The bytes of a file from `start` on, at most `most`; fails when the file has changed since it was hashed."""

    def __init__(
        self,
        file: Fingerprint,
        executor: Executor,
        idle: float,
        sent: Callable[[int], object],
        start: int = 0,
        most: int | None = None,
    ) -> None:
        super().__init__(file.path, content_type="application/octet-stream")
        self._size = self._length = min(file.size - start, file.size if most is None else most)
        self._start = start
        self._file = file
        self._executor = executor
        self._idle = idle
        self._sent = sent
        self._block = LEAST
        self._clock = asyncio.get_running_loop().time
        self._fault: WakestreamError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Not supported: the file is never in memory as a whole."""
        raise TypeError("a file is sent in blocks and has no text")

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Wraps a request with this body: raises the body's own error, not what aiohttp makes of it."""
        try:
            yield
        except (WakestreamError, ClientError):
            if self._fault is not None:
                raise self._fault from None
            raise

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the file; it is checked for changes before its last block is sent."""
        try:
            opened = _open(self._file, self._start)
            left = self._length
            ahead = self._executor.submit(_read, opened, self._file, left, self._block)
            try:
                while left:
                    block = await asyncio.shield(asyncio.wrap_future(ahead))
                    left -= len(block)
                    if left:
                        ahead = self._executor.submit(_read, opened, self._file, left, self._block)
                    await self._send(writer, block)
            finally:
                # A read may still run in its thread: close the file after it.
                ahead.add_done_callback(lambda _: opened.close())
        except WakestreamError as fault:
            self._fault = fault  # aiohttp wraps it in an error of the connection
            raise

    async def _send(self, writer: AbstractStreamWriter, block: bytes) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(self._idle):
                await writer.write(block)
        except TimeoutError:
            raise WorkerUnreachable(f"the server accepted no byte for {self._idle:g} s during an upload") from None
        self._sent(len(block))
        took = self._clock() - began
        if took <= QUICK:
            self._block = min(MOST, self._block * 2)
        elif took >= SLOW:
            self._block = max(LEAST, self._block // 2)


def small_files(files: Mapping[FileRef, Fingerprint]) -> bytes:
    """The body of `upload_files`: a line of JSON that lists the files, then their bytes. It reads the disk."""
    listed = [{"hash": ref.hash, "ext": ref.ext, "size": file.size} for ref, file in files.items()]
    parts = [orjson.dumps(listed), b"\n"]
    return b"".join((*parts, *map(_content, files.values())))


def _content(file: Fingerprint) -> bytes:
    """The content of a small file. A job may have many, and `pathlib` takes twice as long."""
    with read_errors(file.path), FileIO(file.path) as opened:
        content = opened.read(file.size + 1)
        check_unchanged(file, opened.fileno())
    if len(content) != file.size:
        raise changed(file.path)
    return content


def form(part: FilePart, ref: FileRef) -> MultipartWriter:
    """A form with hash and extension before the file, so that the server knows them when the file arrives."""
    writer = MultipartWriter("form-data")
    for name, value in (("hash", ref.hash), ("ext", ref.ext)):
        field = StringPayload(value)
        field.set_content_disposition("form-data", name=name)
        writer.append_payload(field)
    # Named by its hash; the user's file name is private.
    part.set_content_disposition("form-data", name="file", filename=f"{ref.hash}{ref.ext}")
    writer.append_payload(part)
    return writer


def _open(file: Fingerprint, start: int) -> FileIO:
    with read_errors(file.path):
        try:
            opened = file.path.open("rb", buffering=0)
        except FileNotFoundError:
            raise changed(file.path) from None
        opened.seek(start)
    try:
        check_unchanged(file, opened.fileno())
    except FileChanged:
        opened.close()
        raise
    return opened


def _read(opened: FileIO, file: Fingerprint, left: int, most: int) -> bytes:
    with read_errors(file.path):
        block = opened.read(min(most, left))
    if not block:
        raise changed(file.path)
    if len(block) >= left:
        check_unchanged(file, opened.fileno())
    return block


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk while `path` is read into `FileUnusable`."""
    try:
        yield
    except OSError as error:
        raise FileUnusable(f"{path} cannot be read any more: {error.strerror or error}") from None


def check_unchanged(file: Fingerprint, descriptor: int | None = None) -> None:
    """Raise `FileChanged` when the file (or the open one) has changed since it was hashed."""
    try:
        status = os.stat(file.path if descriptor is None else descriptor)  # noqa: PTH116 - a path or a descriptor
    except OSError:
        raise changed(file.path) from None
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise changed(file.path)


def changed(path: Path) -> FileChanged:
    """The error for a file that has changed since it was hashed."""
    return FileChanged(f"{path} was changed or moved after it was read; submit it again when it is complete")


# Counts transferred bytes, and reports the count about ten times a second.

INTERVAL = 0.1
"""Least seconds between two reports."""


class Meter:
    """A counter of bytes: the transfer adds to it, `follow` yields the totals."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._due = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() - INTERVAL
        self._resumed: int | None = None

    def add(self, count: int) -> bool:
        """Add bytes; True when it is time to report the total."""
        self.total += count
        now = self._clock()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        self._due.set()
        return True

    def resume(self, at: int) -> None:
        """Set the total: the transfer continues from there."""
        if self._resumed is not None or at != self.total:
            self._resumed = at
            self._due.set()
        self.total = at

    async def follow(self, work: asyncio.Task[None]) -> AsyncGenerator[int | Resumed, None]:
        """Yield the totals until `work` is done, and `Resumed` after a jump. Raises the error of `work`."""
        work.add_done_callback(lambda _: self._due.set())
        while not work.done():
            await self._due.wait()
            self._due.clear()
            if self._resumed is not None:
                at, self._resumed = self._resumed, None
                yield Resumed(at)
            elif not work.done():
                yield self.total
        work.result()


async def reported(
    meter: Meter, send: Callable[[Meter], Coroutine[Any, Any, None]], name: str
) -> AsyncGenerator[int | Resumed, None]:
    """Run an upload that adds to `meter`, and yield its totals."""
    sending = asyncio.create_task(send(meter), name=name)
    try:
        async with aclosing(meter.follow(sending)) as totals:
            async for total in totals:
                yield total
        yield meter.total
    finally:
        await end(sending)


VERSION = {"Tus-Resumable": "1.0.0"}
BODY = {"Content-Type": "application/offset+octet-stream"}

LOOK_AGAIN = 1.0
"""Seconds between two checks of an upload that another connection sends."""

MAX_CORRECTIONS = 8
"""Consecutive answers without progress after which the upload fails."""

_GONE = (404, 410)
_LOCKED, _CONFLICT, _MISMATCH = 423, 409, 460


async def tus_upload(calls: WorkerCalls, endpoint: str, ref: FileRef, file: Fingerprint, meter: Meter) -> None:
    """Upload the bytes of a file that the server lacks. After an error, the next call resumes the upload.

    Args:
        calls: Makes requests.
        endpoint: The server's address for new uploads, with a slash at its end.
        ref: Hash and extension of the file.
        file: The file.
        meter: Counts the bytes that the server has.

    Raises what an upload raises (`ports.Worker`).
    """
    try:
        await _TusUpload(calls, endpoint, ref, file, meter).run()
    except Corrupt:
        # The file may have changed since it was hashed; then every new upload would fail too.
        same, loop = False, asyncio.get_running_loop()
        with suppress(OSError):
            hasher = await loop.run_in_executor(calls.session.executor, hash_of, file.path, file.size)
            same = hasher.hexdigest() == ref.hash
        if not same:
            raise changed(file.path) from None
        raise


class _TusUpload:
    """One upload."""

    def __init__(self, calls: WorkerCalls, endpoint: str, ref: FileRef, file: Fingerprint, meter: Meter) -> None:
        self._calls, self._endpoint, self._ref, self._file, self._meter = calls, endpoint, ref, file, meter
        self._known = calls.session.uploads
        self._url = self._known.get((endpoint, ref), "")
        self._locked = False
        self._clock = asyncio.get_running_loop().time
        self._moved = self._clock()
        self._corrections = 0

    async def run(self) -> None:
        """Send what the server lacks, until the connection breaks or there are too many answers without progress."""
        offset = await self._begin()
        self._meter.resume(offset)
        while offset < self._file.size:
            reached = await self._send(offset)
            if reached > offset:
                self._moved, self._corrections = self._clock(), 0
            elif not self._locked:
                self._corrections += 1
            if self._corrections > MAX_CORRECTIONS:
                raise WorkerRefused(f"{self._endpoint} accepts no more bytes and gives no reason", code="bad_reply")
            if self._locked and self._clock() - self._moved > self._calls.session.idle:
                raise WorkerUnreachable(f"another connection holds the upload at {self._endpoint} and sends nothing")
            self._locked, offset = False, reached
        self._known.pop((self._endpoint, self._ref), None)

    async def _begin(self) -> int:
        """The offset to continue at."""
        if self._url:
            async with self._calls.exchange("HEAD", at=self._url, headers=VERSION) as response:
                if response.status in (200, 204):
                    return _offset(response)
                if response.status not in _GONE:
                    raise await _refused(response)
        # Named by its hash; the user's file name is private.
        said = {"filename": f"{self._ref.hash}{self._ref.ext}", "blake3": self._ref.hash}
        metadata = ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in said.items())
        headers = {**VERSION, "Upload-Length": str(self._file.size), "Upload-Metadata": metadata}
        async with self._calls.exchange("POST", at=self._endpoint, headers=headers) as response:
            if response.status != 201:
                raise await _refused(response)
            location, url = response.headers.get("Location", ""), None
            with suppress(ValueError):
                url = URL(self._endpoint).join(URL(location)) if location else None
            if url is None or url.origin() != URL(self._endpoint).origin():  # another host must not get our secret
                why = f"{self._endpoint} redirects the upload to {shortened(location)!r}"
                raise WorkerRefused(why, code="bad_reply")
            self._url = self._known[self._endpoint, self._ref] = str(url)
            return _offset(response, default=0)

    async def _send(self, offset: int) -> int:
        """Send from `offset` on; returns the server's offset."""
        session = self._calls.session
        part = FilePart(self._file, session.executor, session.idle, self._meter.add, offset)
        headers = {**VERSION, **BODY, "Upload-Offset": str(offset)}
        with part.own_errors():
            async with self._calls.exchange("PATCH", at=self._url, headers=headers, data=part) as response:
                status = response.status
                if status == 204:
                    return _offset(response)
                if status not in (_CONFLICT, _LOCKED, *_GONE):
                    raise await _refused(response)
        self._locked = status == _LOCKED
        reached = await (self._follow(offset) if self._locked else self._begin())
        self._meter.resume(reached)
        return reached

    async def _follow(self, offset: int) -> int:
        """Another connection uploads the same file: wait until it is complete or makes no progress."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            reached = await self._begin()
            if reached in (offset, self._file.size):
                return reached  # the lock may be free now
            self._meter.resume(reached)
            offset = reached


def _offset(response: ClientResponse, default: int | None = None) -> int:
    text = response.headers.get("Upload-Offset")
    if text is None and default is not None:
        return default
    offset = whole_number(text or "", most=10**18)
    if offset is None:
        raise WorkerRefused(f"the worker's reply lacks Upload-Offset: {shortened(str(text))}", code="bad_reply")
    return offset


async def _refused(response: ClientResponse) -> WakestreamError:
    raw = await replies.body(response)
    if response.status != _MISMATCH:
        return replies.failure(response.status, raw)
    reply = replies.parsed(raw)
    said = shortened(str(reply.get("msg"))) if reply else "its hash differs"
    return Corrupt(f"the worker received a damaged file: {said}", code=DAMAGED)
