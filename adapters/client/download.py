"""A download on the disk: a part beside the output, which is renamed when it is complete and verified.

A small file describes the part, so that a client that was killed resumes the download.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager
from io import FileIO
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson
from blake3 import blake3

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.upload import Meter
from wakestream.adapters.client.worker_calls import WorkerCalls
from wakestream.adapters.disk.full_disk import is_full
from wakestream.adapters.disk.hashing_writer import HashingWriter, hash_in, hash_of
from wakestream.adapters.disk.media_types import fitted
from wakestream.adapters.disk.part_file import beside, said_of, sync_rename, taken, unlink, write_fresh
from wakestream.adapters.disk.result_names import numbered, place_free
from wakestream.adapters.net.direct_body import body_blocks
from wakestream.adapters.runtime.tasks import finish_despite_cancel, heartbeat
from wakestream.operators.model.errors import DAMAGED, Corrupt, FileError, FileUnusable, NoSpace
from wakestream.operators.model.events import Downloading
from wakestream.operators.model.ports import Output

T = TypeVar("T")

_BLAKE3 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


class Partial:
    """A partial download. `etag` is the strong validator with which it can be resumed.

    `unwanted`: it will not be resumed. `overwrite`: it may replace a file; else `output` gets the
    next free number. `unnamed`: its ending follows its content. `contradiction` says that the two differ.
    `before` is the previous attempt, which may still be closing.
    """

    def __init__(self, task_id: str, output: Path, executor: Executor, before: Partial | None = None) -> None:
        self.output = output
        # The task's id comes from the worker, so only its hash is used in a path.
        self._at(task_id)
        self.etag: str | None = None
        self.expected: str | None = None
        self.unwanted = False
        self.overwrite = self.unnamed = False
        self.contradiction = ""
        self.own: Path | None = None
        self._before = before
        self._closed = asyncio.Event()
        self._executor = executor
        self._hash = blake3()
        self._file: FileIO | None = None
        self._sink: HashingWriter | None = None
        self._kept = 0

    def _at(self, mark: str) -> None:
        self.path = beside(self.output, mark)
        self._said = said_of(self.path)

    @property
    def size(self) -> int:
        """Bytes that were downloaded."""
        return self._kept if self._sink is None else self._sink.size

    async def is_there(self, made: Output) -> bool:
        """Whether a file of this content is at the output or its next numbers."""

        def find() -> bool:
            for path in takewhile(Path.exists, numbered(self.output)):
                with contextlib.suppress(OSError):
                    if path.stat().st_size == made.size and hash_of(path, made.size).hexdigest() == made.blake3:
                        self.output = path
                        return True
            return False

        return await self._in_thread(find)

    async def prepare(self, *, resumable: bool) -> None:
        """Check that the result can be written, and find what an earlier attempt or run has left."""
        folder = self.output.parent
        if not folder.is_dir():
            raise FileUnusable(f"the folder {folder} does not exist; create it or choose another output")
        if self.output.is_dir():
            raise FileUnusable(f"{self.output} is a folder; give the name of a file")
        while self._before is not None:
            await self._before._closed.wait()
            self._before = self._before._before  # the previous attempt may have been cancelled while it waited
        with disk_errors(self.path):
            file = self._file = self._taken()
        if resumable:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                etag, size = orjson.loads(self._said.read_bytes())["etag"], os.fstat(file.fileno()).st_size
                if isinstance(etag, str) and size:
                    self._kept, self.etag = size, etag  # first: a cancel during the next line keeps the part
                    self._hash = await self._in_thread(lambda: hash_in(file, size))
                    return
            self._kept, self.etag = 0, None

    def _taken(self) -> FileIO:
        file = taken(self.path)
        if file is None:  # another program downloads to the same output
            self._at(uuid.uuid4().hex)
            self.unwanted = True  # its name is random, so it cannot be resumed
            file = FileIO(self.path, "x+")
        return file

    def begin(self, *, etag: str | None, verified: bool, resumable: bool) -> None:
        """Start from the first byte."""
        self._kept, self._hash = 0, blake3()
        self._expect(etag, verified=verified)
        self.etag = etag if resumable and etag and not etag.startswith("W/") else None
        with disk_errors(self.path):
            self._said.unlink(missing_ok=True)  # it describes the old bytes
            self._open()
            if self.etag is not None:
                write_fresh(self._said, orjson.dumps({"etag": self.etag}))

    def resume(self, etag: str, *, verified: bool) -> None:
        """Continue after the bytes that are here."""
        self._expect(etag, verified=verified)
        self.etag = etag
        with disk_errors(self.path):
            self._open()

    def _expect(self, etag: str | None, *, verified: bool) -> None:
        match = _BLAKE3.fullmatch(etag) if etag and verified else None
        self.expected = match[1] if match else None

    def _open(self) -> None:
        file = self._file = self._file or self._taken()
        if os.fstat(file.fileno()).st_size > self._kept:
            file.truncate(self._kept)
        file.seek(self._kept)
        self._sink = HashingWriter(file, [self._hash] if self.expected is not None else [], self._executor, self._kept)

    def make_room(self, size: int) -> None:
        """Raise `NoSpace` now, and not at the end, when `size` more bytes do not fit."""
        with disk_errors(self.path):
            free = shutil.disk_usage(self.path.parent).free
        if size > free:
            raise NoSpace(
                f"{self.path.parent} has {free} bytes free, the result needs {size}; make room and run it again"
            )

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append received bytes."""
        with disk_errors(self.path):
            await self._opened().add(chunk)

    async def verify(self, length: int | None, *, cut: bool) -> None:
        """Raise `Corrupt` for a wrong length or hash, or when the connection was `cut` and the length is unknown."""
        with disk_errors(self.path):
            await self._opened().flush()
        if self.size == 0 or (cut if length is None else self.size != length):
            raise Corrupt(f"the download was interrupted after {self.size} of {length or 'unknown'} bytes")
        if self.expected is not None and self._hash.hexdigest() != self.expected:
            self.etag = None  # the bytes cannot be resumed
            why = "the file's BLAKE3 differs from the announced one; the download was discarded"
            raise Corrupt(why, code=DAMAGED)

    async def finish(self) -> None:
        """Write, sync and rename the file to the output. What follows the writing completes even if it is cancelled."""
        with disk_errors(self.path):
            await self._opened().flush()
        await finish_despite_cancel(self._in_thread(self._put))
        self._closed.set()

    def _put(self) -> None:
        with disk_errors(self.path):
            os.fsync(self._opened().file.fileno())
        with disk_errors(self.output):
            self._close_after(self._place)
        with contextlib.suppress(OSError):
            self._said.unlink(missing_ok=True)
        sync_rename(self.output)

    def _place(self) -> None:
        renamed = self.unnamed and not self.overwrite
        self.output, self.contradiction = fitted(self.path, self.output, renamed=renamed)
        self.output = place_free(self.path, self.output, self.own, overwrite=self.overwrite)

    async def leave(self) -> None:
        """The transfer has ended early: keep the bytes if they can be resumed, else remove them."""
        try:
            if self._sink is not None:
                with contextlib.suppress(OSError):
                    await finish_despite_cancel(self._sink.flush())
        finally:
            if self._file is None or (self.etag is not None and self.size and not self.unwanted):
                self.close()
            else:
                self.discard()

    def give_up(self) -> None:
        """Remove the download; during a transfer, when the transfer ends."""
        self.unwanted = True
        if self._sink is None:
            self.discard()

    def close(self) -> None:
        """Close the file, and let the next attempt continue."""
        self._release()
        self._closed.set()

    def _release(self) -> None:
        if self._sink is not None:
            self._kept, self._sink = self._sink.size, None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _close_after(self, last: Callable[[], object]) -> None:
        """Call `last` before the file is closed and unlocked; on Windows after it, as open files cannot be renamed."""
        if os.name == "posix":
            last()
            self._release()
        else:
            self._release()
            last()

    def discard(self) -> None:
        """Remove the part."""
        self._close_after(lambda: unlink(self.path))
        self._kept, self.etag = 0, None
        self._closed.set()

    def _opened(self) -> HashingWriter:
        assert self._sink is not None  # noqa: S101 - begin or resume comes first
        return self._sink

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk into `NoSpace` or `FileUnusable`."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise NoSpace(f"no space left for {path}; make room and run it again") from error
        if os.name == "nt" and isinstance(error, PermissionError):
            reason = f"{path} cannot be written: another program has it open, or this account may not write it"
            raise FileUnusable(f"{reason}; close it there and run it again, or choose another output") from error
        raise FileUnusable(f"{path} cannot be written: {error.strerror or error}; choose another output") from error


# Fetches a result from a worker into a `Partial`.


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
    params = {"task_id": task_id} | ({} if name is None else {"name": name})
    body = received(calls, "download", params, partial)
    with replies.task_known():
        async with aclosing(kept(partial, body, calls.session.idle, resumable="range" in calls.features)) as steps:
            async for step in steps:
                yield step


async def kept(
    partial: Partial, received: AsyncGenerator[Downloading, None], idle: float, *, resumable: bool
) -> AsyncGenerator[Downloading, None]:
    """Prepare `partial`, fill it by `received`, and put it at its output; after an error, keep what can be resumed."""
    try:
        for part in (
            _kept_alive(lambda: partial.prepare(resumable=resumable), partial, idle),
            received,
            _kept_alive(partial.finish, partial, idle),
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


async def received(
    calls: WorkerCalls, call: str, params: dict[str, str], partial: Partial
) -> AsyncGenerator[Downloading, None]:
    """Append what this call answers to a `partial` that is prepared, and verify it."""
    headers = {"Range": f"bytes={partial.size}-", "If-Range": partial.etag} if partial.etag else None
    async with calls.exchange("GET", call, params=params, headers=headers) as response:
        try:
            length = await _begin(response, partial, calls.features)
        except Corrupt:
            partial.etag = None  # the bytes on the disk are of another result
            raise
        async with aclosing(body_into(partial, response, length, calls.session.idle)) as steps:
            async for step in steps:
                yield step


async def body_into(
    partial: Partial, response: aiohttp.ClientResponse, length: int | None, idle: float
) -> AsyncGenerator[Downloading, None]:
    """Append the body of the reply to `partial`, which then has `length` bytes, and verify it."""
    meter = Meter(partial.size)
    yield Downloading(partial.size, length)
    cut = False
    try:
        if response.status != 416:  # the body of which is an error message
            transport = response.connection.transport if response.connection is not None else None
            size = 0 if "Content-Encoding" in response.headers else response.content_length or 0
            async with aclosing(body_blocks(response.content, transport, size, idle)) as blocks:
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
