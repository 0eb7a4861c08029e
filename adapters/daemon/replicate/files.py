"""Files of programs: uploaded by `/v1/files`, or named by the input of a prediction."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson
from aiohttp import BodyPartReader, web

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.copies import Copies, find_source
from wakestream.adapters.daemon.console.storage import UNUSED_FOR, Storage
from wakestream.adapters.daemon.console.upload_validation import Announced, ending_of, shown_name
from wakestream.adapters.daemon.console.uploads import Upload
from wakestream.adapters.daemon.replicate.predictions import iso
from wakestream.adapters.disk.media_types import TYPES, ending_of_content
from wakestream.operators.model.engine import Slot
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.protocol.kinds import ENDING

METADATA_MOST: Final = 16 * 1024
_OWN = re.compile(r"/v1/files/([0-9a-f]{16})")
_ENDINGS: Final = {kind.content.partition(";")[0]: ending for ending, kind in reversed([*TYPES.items()])}


class Files:
    """The files of all programs: those of the page, in the same folder and within the same quota."""

    def __init__(self, holdings: Storage, copies: Copies) -> None:
        self._holdings, self._copies = holdings, copies

    def of(self, token: str) -> list[Upload]:
        """The uploaded files of a program, the newest first."""
        mine = (one for one in self._holdings.uploads.of_programs() if one.more["token"] == token)
        return sorted((one for one in mine if "type" in one.more), key=lambda one: one.at, reverse=True)

    def get(self, token: str, id_: str) -> Upload:
        """An uploaded file of a program. `ApiError` if it has none with this id."""
        found = next((one for one in self.of(token) if one.id == id_), None)
        if found is None:
            raise ApiError(404, "unknown_file", f"there is no file {id_[:40]!r}; upload it again")
        return found

    async def receive(self, token: str, request: web.Request) -> Upload:
        """The file of an upload, as its form has it: `content`, and an object as `metadata`."""
        if not request.content_type.startswith("multipart/"):
            raise ApiError(422, "bad_request", "send a form (multipart/form-data) with the file as content")
        if not request.content_length:
            raise ApiError(411, "no_length", "send the length of the form as Content-Length")
        upload, metadata = None, {}
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == "content" and upload is None:
                content = part.headers.get("Content-Type", "application/octet-stream")
                chunks = _chunks(part)
                more = {"token": token, "type": content}
                upload = await self._take(part.filename or "file", more, request.content_length, chunks, exact=False)
            elif isinstance(part, BodyPartReader) and part.name == "metadata":
                try:
                    metadata = orjson.loads((await part.read())[:METADATA_MOST])
                except orjson.JSONDecodeError:
                    raise ApiError(422, "bad_request", "metadata must be a small JSON object") from None
        if upload is None:
            raise ApiError(422, "bad_request", "the form has no file with the name content")
        upload.more["metadata"] = metadata
        return upload

    async def _take(
        self, name: str, more: dict[str, Any], size: int, chunks: AsyncIterator[bytes], *, exact: bool = True
    ) -> Upload:
        """Store a file of at most, or `exact`, so many bytes."""
        first, digest = await anext(chunks, b""), hashlib.sha256()
        if not first:
            raise ApiError(422, "empty", "the file is empty (0 bytes); send another one")

        async def hashed() -> AsyncIterator[bytes]:
            digest.update(first)
            yield first
            async for chunk in chunks:
                digest.update(chunk)
                yield chunk
            more["sha256"] = digest.hexdigest()

        uploads = self._holdings.uploads
        asked = Announced("file", _named(name, more.get("type", ""), first), size, (), "")
        upload = uploads.announce(asked, self._holdings.referred(), more=more)
        return await uploads.receive(upload.id, hashed(), exact=exact)

    async def discard(self, upload: Upload) -> None:
        """Remove a file that no job uses. `ApiError` if one does."""
        if str(upload.path) in self._holdings.referred():
            raise ApiError(409, "in_use", "a prediction uses this file")
        await self._holdings.uploads.discard(upload)

    async def given(self, token: str, origin: str, field: str, slot: Slot, value: Any) -> tuple[Upload, str]:
        """The file that the field of an input names, and the address that is shown for it.

        Args:
            token: The program.
            origin: The address of the API.
            field: The field.
            slot: What fits there.
            value: A data URL, the address of an uploaded file, or another URL, whose file is copied from now on.

        Raises:
            WrongInput: It is none of these.
            ApiError: There is no such file, or no space for it.
        """
        text = value if isinstance(value, str) else ""
        if text.startswith("data:"):
            content, data = _data_of(field, text)
            more = {"token": token, "type": content}
            upload = await self._take(slot.name, more, len(data), _once(data))
            return upload, f"{origin}/v1/files/{upload.id}"
        if text.startswith(origin) and (own := _OWN.fullmatch(text.removeprefix(origin))) is not None:
            return self.get(token, own[1]), text
        if not re.match(r"https?://", text, re.IGNORECASE):
            raise WrongInput(
                f"inputs.{field}", f"{field} must be a file: give a URL (https:// or data:), not {value!r:.60}"
            )
        self._copies.check_room()
        name, size = await find_source(text)
        asked = Announced("file", name, size, slot.accepts, "")
        upload = self._holdings.uploads.announce(asked, self._holdings.referred(), text, {"token": token})
        self._copies.start(upload)
        return upload, text

    def plain(self, upload: Upload, url: str) -> dict[str, Any]:
        """An uploaded file as JSON, for the API at this address."""
        digest = upload.more["sha256"]
        return {
            "id": upload.id, "name": upload.name, "content_type": upload.more["type"], "size": upload.size,
            "etag": digest, "checksums": {"sha256": digest}, "metadata": upload.more.get("metadata", {}),
            "created_at": iso(upload.at), "expires_at": iso(upload.at + UNUSED_FOR),
            "urls": {"get": f"{url}/v1/files/{upload.id}"},
        }  # fmt: skip


def _named(name: str, content: str, head: bytes) -> str:
    """The name of a file with an ending: its own, that of its content, or of its type."""
    name = shown_name(Path(name).name)
    if ENDING.fullmatch(ending_of(name)):
        return name
    content = content.partition(";")[0].strip().lower()
    guessed = ending_of_content(head) or _ENDINGS.get(content) or mimetypes.guess_extension(content) or ".bin"
    return f"{name}{guessed}"


def _data_of(field: str, url: str) -> tuple[str, bytes]:
    """The content type and the bytes of a data URL."""
    head, comma, rest = url.removeprefix("data:").partition(",")
    try:
        data = base64.b64decode(rest, validate=True) if head.endswith(";base64") else unquote_to_bytes(rest)
    except binascii.Error:
        comma = ""
    if not comma:
        raise WrongInput(f"inputs.{field}", f"{field} is no complete data URL; write data:TYPE;base64,DATA")
    return head.partition(";")[0] or "text/plain", data


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(1 << 18):
        yield chunk


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
