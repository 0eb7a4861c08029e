"""Files of programs: uploaded by `/v1/files`, or named by the input of a prediction."""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import hashlib
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import unquote_to_bytes

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.copies import Copies, find_source
from wakestream.adapters.daemon.console.storage import UNUSED_FOR, Storage
from wakestream.adapters.daemon.console.upload_validation import Announced, ending_of, shown_name
from wakestream.adapters.daemon.console.uploads import SILENCE, UploadedFile
from wakestream.adapters.daemon.replicate.predictions import iso
from wakestream.adapters.disk.media_types import TYPES, ending_of_content
from wakestream.operators.model.engine import Slot
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.protocol.kinds import ENDING

T = TypeVar("T")

METADATA_MOST: Final = 16 * 1024

SLOWEST: Final = 1000.0
"""Bytes in a second that a sender must reach, after the first `SILENCE` seconds."""

PARTS_MOST: Final = 16
"""Parts of a form, with its end; clients send two."""

ESCAPES_MOST: Final = 2**16
"""Bytes of a data URL that may be written as `%41`; reading one costs much more than one of base64."""

_OWN = re.compile(r"/v1/files/([0-9a-f]{16})")
_ENDINGS: Final = {kind.content.partition(";")[0]: ending for ending, kind in reversed([*TYPES.items()])}


class Files:
    """The files of all programs: those of the page, in the same folder and within the same quota.

    `output` finds the file of an output of a program's predictions by its address.
    """

    def __init__(
        self, holdings: Storage, copies: Copies, output: Callable[[str, str], Path | None] = lambda *_: None
    ) -> None:
        self._holdings, self._copies, self._output = holdings, copies, output

    def of(self, token: str) -> list[UploadedFile]:
        """The uploaded files of a program, the newest first."""
        mine = (upload for upload in self._holdings.uploads.of_programs() if upload.owner == token)
        return sorted((upload for upload in mine if "metadata" in upload.more), key=lambda upload: -upload.at)

    def get(self, token: str, id_: str) -> UploadedFile:
        """A file of a program, also one of a data URL. `ApiError` if it has none with this id."""
        file = next((upload for upload in self._holdings.uploads.of_programs() if upload.id == id_), None)
        if file is None or file.owner != token:
            raise ApiError(404, "unknown_file", f"there is no file {id_[:40]!r}; upload it again")
        return file

    async def receive(self, token: str, request: web.Request) -> UploadedFile:
        """The file of an upload, as its form has it: `content`, and an object as `metadata`."""
        if not request.content_type.startswith("multipart/"):
            raise ApiError(422, "bad_request", "send a form (multipart/form-data) with the file as content")
        if not request.content_length:
            raise ApiError(411, "no_length", "send the length of the form as Content-Length")
        try:
            if (upload := await self._of_form(token, request, request.content_length)) is not None:
                return upload
        except (ValueError, orjson.JSONEncodeError, HttpProcessingError) as error:
            raise ApiError(422, "bad_request", f"the form cannot be read: {str(error)[:200]}") from None
        raise ApiError(422, "bad_request", "the form has no file with the name content")

    async def _of_form(self, token: str, request: web.Request, length: int) -> UploadedFile | None:
        upload: UploadedFile | None = None
        metadata: dict[str, Any] = {}
        said: dict[str, str] = {}
        parts = await request.multipart()
        async with AsyncExitStack() as stack:
            for _ in range(PARTS_MOST):
                part = await _in_time(_now() + SILENCE, parts.next())
                if not isinstance(part, BodyPartReader):
                    stack.pop_all()
                    return upload
                if part.name == "content" and upload is None:
                    content = said.get("type") or part.headers.get("Content-Type", "application/octet-stream")
                    more = {"token": token, "type": content, "metadata": metadata}
                    upload = await self._take(
                        said.get("filename") or part.filename or "file", more, _chunks(part), length
                    )
                    stack.push_async_callback(self._holdings.uploads.discard, upload)
                elif part.name in ("filename", "type"):
                    if upload is not None:
                        raise ValueError(f"{part.name} must come before content")
                    said[part.name] = (await _short(_chunks(part), part.name)).decode()
                elif part.name == "metadata":
                    metadata |= await _object(_chunks(part), first=not metadata)
                    if upload is not None:
                        self._holdings.uploads.keep(upload)
            raise ValueError(f"it may have {PARTS_MOST - 1} parts")

    async def _take(self, name: str, more: dict[str, Any], chunks: AsyncIterator[bytes], most: int) -> UploadedFile:
        """Store a file of at most so many bytes."""
        self._holdings.uploads.check_quota(most)
        digest = hashlib.sha256()
        first = await anext(chunks, b"")
        if not first:
            raise ApiError(422, "empty", "the file is empty (0 bytes); send another one")

        async def hashed() -> AsyncIterator[bytes]:
            chunk = first
            while chunk:
                digest.update(chunk)
                yield chunk
                chunk = await anext(chunks, b"")
            more["sha256"] = digest.hexdigest()

        await self._holdings.free(len(first))
        asked = Announced("file", _named(name, more["type"], first), len(first), (), "")
        upload = self._holdings.uploads.announce(asked, self._holdings.referred(), more=more)
        return await self._holdings.uploads.receive(upload.id, self._holdings.arriving(upload, hashed(), most))

    def address(self, upload: UploadedFile, url: str) -> str:
        """The address of a file for the program that calls the API at `url`."""
        return upload.source or f"{url}/v1/files/{upload.id}"

    async def drop(self, files: Iterable[UploadedFile]) -> None:
        """Remove those files that came with a prediction which was refused."""
        for upload in files:
            if "metadata" not in upload.more:
                await self._copies.stop(upload.id)
                await self._holdings.uploads.discard(upload)

    async def given(self, token: str, origin: str, field: str, slot: Slot, value: Any) -> UploadedFile:
        """The file that the field of an input names.

        Args:
            token: The program.
            origin: The address of the API.
            field: The field.
            slot: What fits there.
            value: A data URL, the address of an uploaded file, or another URL, whose file is copied from now on.

        Raises:
            WrongInput: It is something else.
            ApiError: There is no such file, or no space for it; it names the field.
        """
        text = value if isinstance(value, str) else ""
        try:
            if text.startswith("data:"):
                content, data = _data_of(field, text)
                return await self._take(slot.name, {"token": token, "type": content}, _once(data), len(data))
            if text.startswith(origin) and (own := _OWN.fullmatch(text.removeprefix(origin))) is not None:
                return self.get(token, own[1])
            if (path := self._output(token, text) if "/v1/outputs/" in text else None) is not None:
                with path.open("rb") as file:
                    return await self._take(path.name, {"token": token, "type": ""}, _blocks(file), path.stat().st_size)
            if not re.match(r"https?://", text, re.IGNORECASE):
                why = f"{field} must be a file: give a URL (https:// or data:), not {value!r:.60}"
                why += "; of the JavaScript client's FileOutput, give its url()" if value == {} else ""
                raise WrongInput(f"inputs.{field}", why)
            self._copies.check_room(token)
            name, size = await find_source(text)
            asked = Announced("file", name, size, slot.accepts, "")
            upload = self._holdings.uploads.announce(asked, self._holdings.referred(), text, {"token": token})
        except ApiError as error:
            raise ApiError(error.status, error.code, str(error), field=f"input.{field}") from None
        self._copies.start(upload)
        return upload

    def plain(self, upload: UploadedFile, url: str) -> dict[str, Any]:
        """An uploaded file as JSON, for the API at this address."""
        digest = upload.more.get("sha256")
        return {
            "id": upload.id, "name": upload.name, "content_type": upload.more.get("type"), "size": upload.size,
            "etag": digest, "checksums": {"sha256": digest}, "metadata": upload.more.get("metadata", {}),
            "created_at": iso(upload.at), "expires_at": iso(upload.at + UNUSED_FOR),
            "urls": {"get": self.address(upload, url)},
        }  # fmt: skip


def _named(name: str, content: str, head: bytes) -> str:
    """The name of a file with an ending: its own, that of its content, or of its type."""
    name = shown_name(Path(name).name)
    if ENDING.fullmatch(ending_of(name)):
        return name
    content = content.partition(";")[0].strip().lower()
    guesses = ending_of_content(head), _ENDINGS.get(content), mimetypes.guess_extension(content), _ending_of_text(head)
    return f"{name}{next((ending for ending in guesses if ending and ending != '.bin'), '.bin')}"


def _ending_of_text(head: bytes) -> str:
    """The ending of a file that begins as a text does; empty for any other one."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return ""
    plain = not any(char < " " and char not in "\t\n\r\f" for char in text)
    return "" if not plain else ".json" if text.lstrip()[:1] in ("{", "[") else ".txt"


def _data_of(field: str, url: str) -> tuple[str, bytes]:
    """The content type and the bytes of a data URL."""
    head, comma, rest = url.removeprefix("data:").partition(",")
    if not head.endswith(";base64") and rest.count("%") > ESCAPES_MOST:
        why = f"{field} has more than {ESCAPES_MOST} bytes that are written as %41; write data:TYPE;base64,DATA"
        raise WrongInput(f"inputs.{field}", why)
    try:
        data = base64.b64decode(rest, validate=True) if head.endswith(";base64") else unquote_to_bytes(rest)
    except binascii.Error:
        comma = ""
    if not comma:
        raise WrongInput(f"inputs.{field}", f"{field} is no complete data URL; write data:TYPE;base64,DATA")
    return head.partition(";")[0] or "text/plain", data


async def _object(chunks: AsyncIterator[bytes], *, first: bool) -> dict[str, Any]:
    """The metadata of a file. `ValueError` if they are too long or no object, or not the `first` one."""
    said = orjson.loads(await _short(chunks, "metadata"))
    orjson.dumps(said)  # a value that is too deep for it would break each list of files
    if not isinstance(said, dict) or not first:
        raise ValueError("metadata must be one JSON object")
    return said


async def _short(chunks: AsyncIterator[bytes], name: str) -> bytearray:
    """A part of a form that is no file. `ValueError` if it is too long."""
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > METADATA_MOST:
            raise ValueError(f"{name} may have {METADATA_MOST} bytes")
    return data


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    ends = _now() + SILENCE
    while chunk := await _in_time(ends, part.read_chunk(1 << 18)):
        ends += len(chunk) / SLOWEST
        yield chunk


async def _in_time(ends: float, reading: Awaitable[T]) -> T:
    """What is read of a form until then; `ApiError` if it comes too slowly."""
    try:
        async with asyncio.timeout_at(ends):
            return await reading
    except TimeoutError:
        raise ApiError(408, "timeout", "the form came too slowly; send it again") from None


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, 1 << 20):
        yield chunk


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
