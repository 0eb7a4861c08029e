"""Copies that the daemon makes by itself, from a path or a URL, while the page shows how far they are."""

from __future__ import annotations

import asyncio
import ipaddress
import mimetypes
import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urljoin, urlsplit
from urllib.request import url2pathname

import aiohttp
from aiohttp import hdrs, web
from loguru import logger

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, plain_error
from wakestream.adapters.daemon.console.results import plain_answer
from wakestream.adapters.daemon.console.storage import Storage
from wakestream.adapters.daemon.console.upload_validation import checked, ending_of, shown_name
from wakestream.adapters.daemon.console.uploads import UploadedFile
from wakestream.adapters.disk.media_types import is_media
from wakestream.adapters.disk.state_folder import holds_state
from wakestream.adapters.net.public_addresses import NotPublic, check_public, public_connector
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.runtime.tasks import background, end, finish_despite_cancel
from wakestream.streams.protocol.kinds import MEDIA

# Files that the daemon copies by itself: from a path on this machine, or from a URL.
#
# A page's session must not read any file of the user, nor reach other machines of the local network through the daemon.
# So a path must be that of a media file, by its ending and by its first bytes, and a URL must lead to public addresses.

SOURCE_MOST: Final = 4096
HOPS: Final = 5
CONNECT_WITHIN: Final = 15.0
SILENCE: Final = 60.0
COPY_WITHIN: Final = 6 * 3600.0
"""Seconds for a whole download."""

_BLOCK: Final = 1024 * 1024
_HEAD: Final = 512
_ENDINGS: Final = frozenset[str]().union(*(MEDIA[media] for media in ("video", "audio", "image")))
_ON_WINDOWS: Final = os.name == "nt"
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was found. `chunks` are its bytes."""

    name: str
    size: int
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def open_source(text: str) -> AsyncIterator[Source]:
    """A file by its path or its URL, open while the block runs.

    Raises:
        ApiError: There is no such file, or it may not be read; the sentence says why.
    """
    text = _checked(text)
    async with _open_url(text) if _is_remote(text) else _open_path(_path_in(text)) as source:
        yield source


def _path_in(text: str) -> str:
    """The path in a text that is a path, or a URL of a file on this machine."""
    if _SCHEME.match(text) is None:
        return text
    parts = _split(text)
    if parts.netloc.lower() not in ("", "localhost"):
        raise _elsewhere(parts.netloc)
    try:
        # Only for Windows: from Python 3.14 on, it refuses a path that begins with // elsewhere.
        path = url2pathname(parts.path) if os.name == "nt" else os.fsdecode(unquote_to_bytes(parts.path))
    except OSError:  # it cannot be one on Windows
        raise _no_url() from None
    if "\0" in path:
        raise _no_url()
    return path


async def find_source(text: str) -> tuple[str, int]:
    """The name and the size of a file by its path. A URL is not opened yet: a likely name, and 0.

    Raises:
        ApiError: There is no such file, or it may not be read; the sentence says why.
    """
    text = _checked(text)
    if _is_remote(text):
        try:
            _check_url(text)
        except NotPublic as error:
            raise _unreachable(text, error) from None
        return shown_name(unquote(urlsplit(text).path.rpartition("/")[2])), 0
    async with open_source(text) as source:
        return source.name, source.size


def _checked(text: str) -> str:
    """A path or a URL without the quotes around it."""
    bare = text.strip().strip('"')
    if not bare or len(text) > SOURCE_MOST or not bare.isprintable():
        raise _refused("source", f"give a path or a URL of at most {SOURCE_MOST} characters")
    return bare


def _is_remote(text: str) -> bool:
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme[1].lower() != "file"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise _no_url() from None


def _no_url() -> ApiError:
    return _refused("url", "give an address that begins with https:// or http://, without a user name")


def _refused(code: str, why: str, **numbers: Any) -> ApiError:
    return ApiError(400, f"source_{code}", why, **numbers)


# Paths


def _elsewhere(host: str) -> ApiError:
    why = f"{host[:80]} is another computer; copy the file to this machine, or choose it in the file dialog"
    return _refused("network", why, host=host[:80])


@asynccontextmanager
async def _open_path(path: str) -> AsyncIterator[Source]:
    files: list[BinaryIO] = []
    try:  # a cancel waits for the thread that opens, since the file is closed then
        await finish_despite_cancel(asyncio.to_thread(lambda: files.append(_media_file(path))))
        yield Source(shown_name(Path(path).name), os.fstat(files[0].fileno()).st_size, _blocks(files[0]))
    finally:  # not in a thread: a cancel would leave it open if none is free
        for file in files:
            file.close()


def _media_file(text: str) -> BinaryIO:
    if text.startswith("\\\\") or (_ON_WINDOWS and re.match(r"[\\/]{2}", text)):
        # Windows sends the user's name and a hash of the password to the host of such a path.
        raise _elsewhere(re.split(r"[\\/]+", text)[1])
    path = Path(text)
    with suppress(RuntimeError):  # `~name` of an unknown user
        path = path.expanduser()
    if not path.is_absolute():
        raise _refused("relative", f"{text[:80]} is no absolute path; copy the whole path of the file", text=text[:80])
    real = Path(os.path.realpath(path))
    try:
        private = any(part.startswith(".") for part in real.parts) or holds_state(real.parent)
        if ending_of(path.name) not in _ENDINGS or ending_of(real.name) not in _ENDINGS or private:
            why = f"{path.name} is no video, audio or image file; choose other files in the form"
            raise _refused("not_media", why, name=path.name)
        file = _opened(real)
    except OSError as error:
        why = f"{path} cannot be read: {error.strerror or error}"
        raise _refused("unreadable", why, text=str(path)[:200]) from None
    head = file.read(_HEAD)
    file.seek(0)
    if not is_media(head):
        file.close()
        raise _refused("not_media", f"{path.name} does not begin as a media file; choose another one", name=path.name)
    return file


def _opened(path: Path) -> BinaryIO:
    """A regular file; `OSError` for a device or a pipe, which is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    blocks: list[bytes] = []
    while True:  # a cancel waits for the thread that reads, since the file is closed then
        await finish_despite_cancel(asyncio.to_thread(lambda: blocks.append(file.read(_BLOCK))))
        if not (block := blocks.pop()):
            return
        yield block


# URLs


@asynccontextmanager
async def _open_url(url: str) -> AsyncIterator[Source]:
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(SILENCE):
                source = await _answered(stack, url)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, NotPublic) as error:
            raise _unreachable(url, error) from None
        yield source


async def _answered(stack: AsyncExitStack, url: str) -> Source:
    """The file at an address; what is open for it is closed with the stack."""
    timeout = aiohttp.ClientTimeout(COPY_WITHIN, sock_connect=CONNECT_WITHIN, sock_read=SILENCE)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=public_connector(),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
    )
    for _ in range(HOPS):
        _check_url(url)
        asked = session.get(url, allow_redirects=False, headers={hdrs.ACCEPT_ENCODING: "identity"})
        response = await stack.enter_async_context(asked)
        where = response.headers.get(hdrs.LOCATION)
        if response.status not in (301, 302, 303, 307, 308) or where is None:
            return _source_of(url, response)
        url = urljoin(url, where)
    raise _refused("redirects", f"the address redirects more than {HOPS} times; give the address of the file itself")


def _check_url(url: str) -> None:
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise _no_url()
    with suppress(ValueError):  # a name, which the resolver checks
        ipaddress.ip_address(parts.hostname.partition("%")[0])
        check_public(parts.hostname, parts.hostname)


def _source_of(url: str, response: aiohttp.ClientResponse) -> Source:
    if response.status != 200:
        why = f"the server answered {response.status} {response.reason or ''}".rstrip()
        raise _refused("status", f"{why}; open the address in a browser to see why", number=response.status)
    if response.content_type == "text/html":
        raise _refused("page", "the address is that of a web page, not of a file; give the address of the file itself")
    if response.content_length is None:
        raise _refused("length", "the server does not say how large the file is; download it and choose it here")

    given = response.content_disposition.filename if response.content_disposition else None
    name = shown_name(given or unquote(urlsplit(url).path.rpartition("/")[2]))
    ending = "" if ending_of(name) else mimetypes.guess_extension(response.content_type) or ""
    return Source(f"{name}{ending}", response.content_length, _received(response))


async def _received(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except aiohttp.ClientError as error:
        raise ConnectionError(str(error)) from error


def _unreachable(url: str, error: Exception) -> ApiError:
    host = urlsplit(url).hostname or url[:80]
    if isinstance(error, NotPublic):
        return _refused("not_public", f"{error}; download the file and choose it here", host=host)
    said = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return _refused("unreachable", f"{host} cannot be reached: {said[:200]}", host=host)


AT_ONCE: Final = 3
"""Copies of one owner, which is a program or the user, at a time."""

MOST: Final = 200
"""Copies of one owner that run or wait for their turn."""

SHOWN_EVERY: Final = 1.0
"""Seconds between two reports of a copy to the pages."""


@dataclass(slots=True)
class Copies:
    """The copies that have not ended, by the id of their upload. A source is opened when it is its turn.

    Attributes:
        holdings: The files.
        arrived: Called when a file is there.
        lost: Called when a copy failed, with the reason; None if it was stopped.
        tell: Sends an event to all pages.
        changed: Reports a change of files.
    """

    holdings: Storage
    arrived: Callable[[UploadedFile], Awaitable[object]]
    lost: Callable[[UploadedFile, dict[str, Any] | None], Awaitable[object]]
    tell: Callable[[str, object], None]
    changed: Callable[[], None]
    _tasks: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)
    _failed: Recent[str, dict[str, Any]] = field(default_factory=lambda: Recent(MOST))
    _turns: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
    )

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.post("/console/copies", self.ask),
            web.get("/console/copies/{id}", self.progress),
            web.delete("/console/copies/{id}", self.cancel),
        ]

    async def ask(self, request: web.Request) -> web.Response:
        """Copy the file at `source`, a path or a URL: 201 with its upload; the other fields are as in `announce`."""
        body = await requests.json_object(request)
        asked = checked({**body, "name": "file", "size": 1})
        source = str(body.get("source", "")).strip()
        self.check_room()
        name, size = await find_source(source)
        self.check_room()  # others may have come meanwhile
        asked = replace(asked, name=name, size=size)
        upload = self.holdings.uploads.announce(asked, self.holdings.referred(), source)
        self.start(upload)
        return plain_answer(upload.plain(), status=201)

    async def progress(self, request: web.Request) -> web.Response:
        """The upload that the daemon copies, with the bytes `sent` so far; the refusal if the copy failed."""
        id_ = request.match_info["id"]
        if (failed := self._failed.get(id_)) is not None:
            return plain_answer({"failed": failed})
        try:
            upload = self.holdings.uploads.get(id_, complete=False)
        except ApiError:
            if id_ not in self._tasks:
                raise
            return plain_answer({"id": id_, "sent": 0, "complete": False})  # it has failed, and says why in a moment
        return plain_answer({**upload.plain(), "sent": upload.sent})

    async def cancel(self, request: web.Request) -> web.Response:
        """End a copy that the daemon makes."""
        if not await self.stop(request.match_info["id"]):
            raise ApiError(404, "unknown_upload", "this copy has ended")
        self.changed()
        return plain_answer({})

    def check_room(self, owner: str = "") -> None:
        """`ApiError` if too many copies of a program, or of the user, wait already."""
        if sum(of == owner for of, _ in self._tasks.values()) >= MOST:
            why = f"{MOST} files wait to be copied; add this one when some of them are there"
            raise ApiError(429, "many_copies", why, count=MOST)

    def start(self, upload: UploadedFile) -> None:
        """Copy an announced file in the background, when it is its turn."""
        if upload.id in self._tasks:
            return
        upload.busy = True  # until its turn it must not be removed
        task = background("a copy", self._copy(upload))
        self._tasks[upload.id] = upload.owner, task
        task.add_done_callback(lambda _: self._tasks.pop(upload.id, None))

    async def _copy(self, upload: UploadedFile) -> None:
        try:
            async with self._turns[upload.owner], open_source(upload.source) as source:
                size, chunks = source.size, self._shown(upload, source.chunks)
                if upload.more:
                    self.holdings.uploads.check_quota(size)
                    await self.holdings.free(1)
                    upload.whole = size
                    size, chunks = min(size, 1), self.holdings.arriving(upload, chunks, size)
                self.holdings.uploads.measure(upload, source.name, size, self.holdings.referred())
                upload.busy = False
                self._show(upload)
                await self.holdings.uploads.receive(upload.id, chunks)
        except BaseException as error:
            await asyncio.shield(self.holdings.uploads.discard(upload))
            if isinstance(error, ApiError):
                why = plain_error(error)
            else:
                why = {"code": "broken", "error": "the copy was interrupted; try again"}
                if not isinstance(error, asyncio.CancelledError):
                    logger.opt(exception=error).error("a copy is broken")
            self._failed[upload.id] = why
            await self.lost(upload, None if isinstance(error, asyncio.CancelledError) else why)
            if not isinstance(error, Exception):
                raise
        else:
            await self.arrived(upload)

    async def _shown(self, upload: UploadedFile, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks; meanwhile the pages are shown how far the copy is."""
        shown = time.monotonic()
        async for chunk in chunks:
            yield chunk
            if time.monotonic() - shown >= SHOWN_EVERY:
                shown = time.monotonic()
                self._show(upload)

    def _show(self, upload: UploadedFile) -> None:
        self.tell("copy", {"id": upload.id, "name": upload.name, "size": upload.shown_size, "sent": upload.sent})

    async def stop(self, id_: str) -> bool:
        """End a copy, whose file is removed; False if there is none."""
        _, task = self._tasks.get(id_, ("", None))
        if task is not None:
            await end(task)
        return task is not None

    async def close(self) -> None:
        """End all copies."""
        await end(*(task for _, task in self._tasks.values()))
