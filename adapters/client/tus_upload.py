"""Resumable uploads with tus 1.0, to our worker or any other tus server.

Our worker returns the same upload for the same file, so nothing needs to be stored. For other servers the address of
the upload is remembered while this program runs.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress

from aiohttp import ClientResponse
from yarl import URL

from wakestream.adapters.client import worker_replies as replies
from wakestream.adapters.client.upload_body import FilePart, Meter, changed
from wakestream.adapters.client.worker_calls import WorkerCalls
from wakestream.adapters.client.worker_replies import shortened
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.operators.model.errors import DAMAGED, Corrupt, WakestreamError, WorkerRefused, WorkerUnreachable
from wakestream.operators.model.events import FileRef, Fingerprint

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
            found = await loop.run_in_executor(calls.session.executor, hash_of, file.path, file.size)
            same = found.hexdigest() == ref.hash
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
