"""Resumable uploads by tus 1.0 (https://tus.io/protocols/resumable-upload).

Core, creation, creation-with-upload, checksum, expiration and termination, under `/files/`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from email.utils import formatdate
from functools import partial
from pathlib import PurePosixPath

from aiohttp import hdrs, web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.net.direct_body import body_blocks
from wakestream.adapters.worker.http import requests
from wakestream.adapters.worker.http.auth import check_everyones, check_open, license_of
from wakestream.adapters.worker.http.replies import bad_request
from wakestream.adapters.worker.http.tus_append import ALGORITHMS, Appends, Checksum
from wakestream.adapters.worker.resumable_uploads import Uploads
from wakestream.adapters.worker.upload_records import Announced, Upload
from wakestream.operators.model.errors import Corrupt, WorkerRefused
from wakestream.operators.model.events import FileRef

AT = "/files/"
VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
BODY = "application/offset+octet-stream"
_MAX_LENGTH = 2**53
_BORROWED = web.RequestKey("borrowed", bool)

Call = Callable[[web.Request], Awaitable[web.Response]]


class TusCalls:
    """The calls of tus, one method for each. `expect` refuses a file that may not come."""

    def __init__(self, uploads: Uploads, expect: Callable[[web.Request, FileRef | None, int], None]) -> None:
        self.uploads, self._expect = uploads, expect
        self._appends = Appends(uploads)

    def routes(self) -> list[web.RouteDef]:
        """The address that creates uploads, and that of one upload; a header may give another method."""
        of_upload: dict[str, Call] = {"HEAD": self.offset, "PATCH": self.append, "DELETE": self.terminate}
        calls: dict[str, dict[str, Call]] = {AT: {"POST": self.create}, f"{AT}{{id}}": of_upload}
        return [web.route("*", path, partial(self._answer, methods)) for path, methods in calls.items()]

    async def _answer(self, calls: dict[str, Call], request: web.Request) -> web.Response:
        method = request.headers.get("X-HTTP-Method-Override", request.method).upper()
        if method == "OPTIONS":
            return await self.options(request)
        if method not in calls:
            raise web.HTTPMethodNotAllowed(method, [*calls, "OPTIONS"])
        if request.headers.get("Tus-Resumable") != VERSION:
            raise WorkerRefused(f"send 'Tus-Resumable: {VERSION}': only that version is supported", code="tus_version")
        try:
            return await calls[method](request)
        except Corrupt as error:
            raise WorkerRefused(str(error), code="hash_mismatch") from error

    async def options(self, _: web.Request) -> web.Response:
        """The features of this server."""
        room = await self.uploads.store.in_thread(self.uploads.room)
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            "Tus-Max-Size": str(room),
        }
        return web.Response(status=204, headers=headers)

    async def create(self, request: web.Request) -> web.Response:
        """Create an upload, or find the one of the same file; `Upload-Offset` is its progress."""
        check_open(request)
        announced = _announced(request)
        self._expect(request, announced.ref, announced.length)
        upload = await self.uploads.create(announced)
        if request.headers.get(hdrs.CONTENT_TYPE) == BODY and not upload.finished:
            await self._appends.take(upload, 0, _blocks(request), _checksum(request), whole=True)
        # Relative to the address of the call, so that it is correct behind any proxy.
        return self._state(upload, 201, {hdrs.LOCATION: upload.id})

    async def offset(self, request: web.Request) -> web.Response:
        """The progress of an upload."""
        upload = await self._found(request)
        headers = {"Upload-Length": str(upload.announced.length), hdrs.CACHE_CONTROL: "no-store"}
        if upload.announced.metadata:
            headers["Upload-Metadata"] = upload.announced.metadata
        return self._state(upload, 200, headers)

    async def append(self, request: web.Request) -> web.Response:
        """Append bytes; received bytes stay even if the connection is lost."""
        check_open(request)
        if request.headers.get(hdrs.CONTENT_TYPE) != BODY:
            raise WorkerRefused(f"send 'Content-Type: {BODY}'", code="unsupported_media")
        upload, offset = await self._found(request), _whole(request, "Upload-Offset")
        left = upload.announced.length - offset
        if offset == upload.offset and (request.content_length or 0) > left:
            raise WorkerRefused(f"the upload needs {left} more bytes, but this call has more", code="too_large")
        await self._appends.take(upload, offset, _blocks(request), _checksum(request))
        return self._state(upload, 204, {})

    async def terminate(self, request: web.Request) -> web.Response:
        """Remove an upload. A finished file stays, since others may use it."""
        check_everyones(request)  # another job may be sending the same file
        await self._appends.end(await self._found(request))
        return web.Response(status=204)

    async def _found(self, request: web.Request) -> Upload:
        return await self.uploads.find(request.match_info["id"], license_of(request))

    def _state(self, upload: Upload, status: int, headers: dict[str, str]) -> web.Response:
        headers["Upload-Offset"] = str(upload.offset)
        if not upload.finished:
            headers["Upload-Expires"] = formatdate(upload.expires, usegmt=True)
        return web.Response(status=status, headers=headers)


async def put_version(request: web.Request, response: web.StreamResponse) -> None:
    """For the application's `on_response_prepare`: put the tus version into every response, refusals too."""
    if request.path.startswith(AT):
        response.headers["Tus-Resumable"] = VERSION
        if request.get(_BORROWED, False):
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"
        if response.status == 412:
            response.headers["Tus-Version"] = VERSION


def _announced(request: web.Request) -> Announced:
    length = _whole(request, "Upload-Length")
    if not 0 < length <= _MAX_LENGTH:
        raise bad_request("Upload-Length must be the size of the file in bytes, at least 1")
    metadata = request.headers.get("Upload-Metadata", "")
    # `name base64, name base64, …`
    said: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in metadata.split(","))):
        name, _, value = pair.partition(" ")
        try:
            said[name] = base64.b64decode(value, validate=True).decode()
        except ValueError:  # not base64, or not UTF-8 in it
            raise bad_request(
                "Upload-Metadata must be pairs of a name and a base64 text, separated by commas"
            ) from None
    ext = requests.file_ext(PurePosixPath(said.get("filename", "")).suffix, "the ending of filename in Upload-Metadata")
    digest = requests.blake3(said["blake3"], "blake3 in Upload-Metadata") if said.get("blake3") else None
    metadata = metadata if metadata.isascii() else ""  # a header must be ASCII
    return Announced(length, ext, digest, metadata, license_of(request))


def _whole(request: web.Request, name: str) -> int:
    number = whole_number(request.headers.get(name, ""), most=10**18)
    if number is None:
        raise bad_request(f"this call needs {name}: a whole number of bytes")
    return number


def _checksum(request: web.Request) -> Checksum | None:
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, digest = header.partition(" ")
    try:
        checksum = Checksum(ALGORITHMS[algorithm](), base64.b64decode(digest, validate=True))
    except (ValueError, KeyError):
        checksum = None
    if checksum is None or len(checksum.digest) != len(checksum.hasher.digest()):
        raise bad_request(f"Upload-Checksum must be one of {', '.join(ALGORITHMS)} and the hash in base64")
    return checksum


async def _blocks(request: web.Request) -> AsyncGenerator[bytes | memoryview, None]:
    """The body; if it is long, aiohttp cannot use the connection any more afterwards."""

    def borrow() -> None:
        request[_BORROWED] = True

    length = request.content_length or 0
    try:
        async with aclosing(
            body_blocks(request.content, request.transport, length, requests.SILENCE, borrow)
        ) as blocks:
            async for block in blocks:
                yield block
    except TimeoutError:
        raise requests.silent() from None
    if request.get(_BORROWED, False):
        request.content.feed_eof()
