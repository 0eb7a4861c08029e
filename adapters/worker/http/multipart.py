"""Write multipart uploads directly to the disk, so that files are not in memory, in any order of the fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
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


class Form:
    """A form that is being received: short fields as text, and the `expected` files, hashed by `algorithms`.

    By default the field `hash` says how a file is hashed.
    """

    def __init__(
        self,
        store: FileStore,
        stack: AsyncExitStack,
        expected: Collection[str],
        algorithms: Collection[Algorithm] | None,
    ) -> None:
        self.fields: dict[str, str] = {}
        self._files: dict[str, tuple[Incoming, str]] = {}
        self._store, self._stack = store, stack
        self._expected, self._algorithms = expected, algorithms

    async def take(self, part: BodyPartReader) -> None:
        """Receive the next part."""
        name = part.name or ""
        if name in self._files or name in self.fields:
            raise bad_request(f'the form has "{name[:50]}" twice')
        if name not in self._expected:
            self.fields[name] = await _text(part)
            return
        incoming = await self._stack.enter_async_context(self._store.receive(self._algorithms or self._needed()))
        self._files[name] = incoming, part.filename or ""
        while not part.at_eof():
            await incoming.add(await _block(part))

    def _needed(self) -> tuple[Algorithm, ...]:
        # A file that comes before its hash is hashed both ways, since it can be read only once.
        return (_algorithm(self.fields["hash"]),) if "hash" in self.fields else ("blake3", "md5")

    def file(self, name: str) -> tuple[Incoming, str]:
        """The file of a field, and its original name."""
        if name not in self._files:
            raise bad_request(f'the form has no file "{name}"')
        return self._files[name]

    def ext(self, name: str) -> str:
        """The extension of the file's original name, or `.bin`."""
        suffix = PurePosixPath(self.file(name)[1]).suffix
        return requests.file_ext(suffix or ".bin", f"the extension of {name}")


async def receive_one(request: web.Request, store: FileStore) -> FileRef:
    """`upload_file`: receive one file and name it by its hash.

    A BLAKE3, which only wakestream clients send, must be correct. Deployed clients may send a wrong hash, so their file
    is stored by its real MD5.
    """
    async with _form(request, store, ("file",)) as form:
        incoming, _ = form.file("file")
        said = requests.said_hash(form.fields.get("hash"))
        ext = requests.file_ext(form.fields["ext"]) if "ext" in form.fields else form.ext("file")
        if _algorithm(said) == "blake3":
            return await incoming.keep(ext, expected=requests.file_hash(said))
        kept = await incoming.keep(ext, algorithm="md5")
        if kept.hash != said.strip().lower():
            logger.info("a file was sent with the hash {!r}; it is stored by its MD5 {}", said[:64], kept.hash)
        return kept


async def receive_all(request: web.Request, store: FileStore, *names: str) -> list[FileRef]:
    """`upload`: receive the named files. They are stored by their MD5, since only deployed clients call this."""
    async with _form(request, store, names, _MD5) as form:
        parts = [(form.file(name)[0], form.ext(name)) for name in names]
        return [await incoming.keep(ext, algorithm="md5") for incoming, ext in parts]


@asynccontextmanager
async def _form(
    request: web.Request, store: FileStore, expected: Collection[str], algorithms: Collection[Algorithm] | None = None
) -> AsyncIterator[Form]:
    """Receive the whole form; files that were not kept are removed at the end, even if the sender disconnects."""
    reader = await _reader(request, store)
    async with AsyncExitStack() as stack:
        form = Form(store, stack, expected, algorithms)
        for _ in range(_MAX_PARTS):
            if (part := await _next(reader)) is None:
                break
            await form.take(part)
        else:
            raise bad_request(f"a form may have at most {_MAX_PARTS} fields")
        yield form


async def _reader(request: web.Request, store: FileStore) -> MultipartReader:
    if request.content_type != "multipart/form-data":
        raise bad_request("this call needs a form: Content-Type multipart/form-data")
    length = request.content_length or 0
    with disk_errors():
        free = await store.in_thread(store.free)
        if length > free:
            await store.make_room(length)
            free = await store.in_thread(store.free)
        if length > free:
            raise store.refusal(length, free)
    async with _reading():
        return await request.multipart()


@asynccontextmanager
async def _reading() -> AsyncIterator[None]:
    """Wraps a read from the sender, who may stop sending, or send an invalid form."""
    try:
        async with asyncio.timeout(requests.SILENCE):
            yield
    except TimeoutError:
        raise requests.silent() from None
    except (ValueError, AssertionError, RuntimeError) as error:
        raise bad_request(f"the form is not valid: {error}") from error


async def _next(reader: MultipartReader) -> BodyPartReader | None:
    async with _reading():
        part = await reader.next()
    if isinstance(part, MultipartReader):
        raise bad_request("the form contains another form, which is not supported")
    return part


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
    async with _reading():
        return await part.read_chunk(_CHUNK)
