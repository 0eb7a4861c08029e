"""Write multipart uploads directly to the disk, so that files are not in memory, in any order of the fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from aiohttp import BodyPartReader, MultipartReader, web
from loguru import logger

from wakestream.adapters.disk.hashing_writer import algorithm_of
from wakestream.adapters.worker.file_store import FileStore, Incoming, disk_errors
from wakestream.adapters.worker.http import requests
from wakestream.adapters.worker.http.replies import bad_request
from wakestream.operators.model.events import Algorithm, FileRef

_CHUNK = 1024 * 1024
_MAX_FIELD = 1024
_MAX_PARTS = 20
_MD5: tuple[Algorithm, ...] = ("md5",)


@dataclass(slots=True)
class Form:
    """A form: short fields as text, and files that are being received, with their original names."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Incoming] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def file(self, name: str) -> Incoming:
        """The file of a field."""
        if name not in self.files:
            raise bad_request(f'the form has no file "{name}"')
        return self.files[name]

    def ext(self, name: str) -> str:
        """The extension of the file's original name, or `.bin`."""
        suffix = PurePosixPath(self.names.get(name, "")).suffix
        return requests.file_ext(suffix or ".bin", f"the extension of {name}")


async def receive_one(request: web.Request, store: FileStore) -> FileRef:
    """`upload_file`: receive one file and name it by its hash.

    A BLAKE3, which only wakestream clients send, must be correct. Deployed clients may send a wrong hash, so their file
    is stored by its real MD5.
    """
    async with _form(request, store, ("file",)) as form:
        incoming = form.file("file")
        said = requests.said_hash(form.fields.get("hash"))
        ext = requests.file_ext(form.fields["ext"]) if "ext" in form.fields else form.ext("file")
        if _algorithm(said) == "blake3":
            return await incoming.keep(ext, expected=requests.file_hash(said))
        kept = await incoming.keep(ext, algorithm="md5")
        if kept.hash != said.strip().lower():
            logger.info("a file was sent with the hash {!r}; it is stored by its MD5 {}", said[:64], kept.hash)
        return kept


async def receive_pair(request: web.Request, store: FileStore) -> tuple[FileRef, FileRef]:
    """`upload`: receive a video and an audio file, named by their MD5, since only deployed clients call this."""
    async with _form(request, store, ("video", "audio"), _MD5) as form:
        video, audio = form.file("video"), form.file("audio")
        extensions = form.ext("video"), form.ext("audio")
        return await video.keep(extensions[0], algorithm="md5"), await audio.keep(extensions[1], algorithm="md5")


@asynccontextmanager
async def _form(
    request: web.Request, store: FileStore, expected: Collection[str], algorithms: Collection[Algorithm] | None = None
) -> AsyncIterator[Form]:
    """Receive the whole form; files that were not kept are removed at the end, even if the sender disconnects."""
    form = Form()
    reader = await _reader(request, store)
    async with AsyncExitStack() as stack:
        for _ in range(_MAX_PARTS):
            part = await _next(reader)
            if part is None:
                break
            await _take(part, form, stack, store, expected, algorithms)
        else:
            raise bad_request(f"a form may have at most {_MAX_PARTS} fields")
        yield form


async def _reader(request: web.Request, store: FileStore) -> MultipartReader:
    if request.content_type != "multipart/form-data":
        raise bad_request("this call needs a form: Content-Type multipart/form-data")
    await _check_room(store, request.content_length or 0)
    try:
        return await request.multipart()
    except ValueError as error:
        raise bad_request(f"the form is not valid: {error}") from error


async def _check_room(store: FileStore, length: int) -> None:
    with disk_errors():
        free = await store.in_thread(store.free)
        if length > free:
            await store.make_room(length)
            free = await store.in_thread(store.free)
        if length > free:
            raise store.refusal(length, free)


async def _next(reader: MultipartReader) -> BodyPartReader | None:
    try:
        async with asyncio.timeout(requests.SILENCE):
            part = await reader.next()
    except TimeoutError:
        raise requests.silent() from None
    except (ValueError, AssertionError, RuntimeError) as error:
        raise bad_request(f"the form is not valid: {error}") from error
    if isinstance(part, MultipartReader):
        raise bad_request("the form contains another form, which is not supported")
    return part


async def _take(
    part: BodyPartReader,
    form: Form,
    stack: AsyncExitStack,
    store: FileStore,
    expected: Collection[str],
    algorithms: Collection[Algorithm] | None,
) -> None:
    name = part.name or ""
    if name in form.files or name in form.fields:
        raise bad_request(f'the form has "{name[:50]}" twice')
    if name not in expected:
        form.fields[name] = await _text(part)
        return
    incoming = await stack.enter_async_context(store.receive(algorithms or _needed(form.fields)))
    form.files[name], form.names[name] = incoming, part.filename or ""
    while not part.at_eof():
        await incoming.add(await _block(part))


def _needed(fields: Mapping[str, str]) -> tuple[Algorithm, ...]:
    # A file that comes before its hash is hashed both ways, since it can be read only once.
    return (_algorithm(fields["hash"]),) if "hash" in fields else ("blake3", "md5")


def _algorithm(said: str) -> Algorithm:
    return algorithm_of(requests.file_hash(said)) if requests.is_hash(said) else "md5"


async def _text(part: BodyPartReader) -> str:
    text = bytearray()
    while not part.at_eof():
        text += await _block(part)
        if len(text) > _MAX_FIELD:
            raise bad_request(f"the form's field {(part.name or '')[:50]!r} may have at most {_MAX_FIELD} bytes")
    return text.decode(errors="replace")


async def _block(part: BodyPartReader) -> bytes:
    try:
        async with asyncio.timeout(requests.SILENCE):
            return await part.read_chunk(_CHUNK)
    except TimeoutError:
        raise requests.silent() from None
    except ValueError as error:
        raise bad_request(f"the form is not valid: {error}") from error
