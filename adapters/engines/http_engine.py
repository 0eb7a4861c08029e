"""What the engines behind HTTP share: the session, the errors, and results that are fetched to the disk."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from shutil import disk_usage
from typing import Any

import aiohttp
import orjson
from aiohttp import hdrs
from yarl import URL

from wakestream.adapters.client.upload import FilePart
from wakestream.adapters.disk.hashing_writer import HashingWriter
from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.direct_body import body_blocks
from wakestream.adapters.net.public_addresses import NotPublic, public_connector
from wakestream.operators.model.engine import Kind, Line, Made, Slot, Waits, Work
from wakestream.operators.model.errors import EngineUnreachable, NoSpace, TaskFailed, WorkerUnreachable
from wakestream.operators.model.events import Fingerprint
from wakestream.streams.protocol.kinds import with_numbers

ANSWER = 60.0
"""Seconds that an engine has to answer a call."""

KEPT = 4.0
"""Seconds that an idle connection is kept: less than the 5 s of uvicorn, which Gradio runs on."""

MAX_JSON = 64 * 1024 * 1024
"""The most bytes of a JSON answer."""

KEPT_FREE = 64 * 1024 * 1024
"""Bytes of the disk that no result takes: the worker's journal needs them."""

_BLOCK = 1024 * 1024
"""Bytes of one read of JSON."""


class _NotTaken(aiohttp.ClientError):
    """The answer is a redirect or compressed."""


async def _as_it_is(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Take an answer only from where it was asked for, and only as it is.

    A person who controls an engine could otherwise lead the worker to services of its machine, or fill its memory.
    """
    response = await handler(request)
    where, encoding = response.headers.get(hdrs.LOCATION), response.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if where is not None and 300 <= response.status < 400:
        response.close()
        raise _NotTaken(f"redirects to {where[:200]!r}; give its own address")
    if encoding.strip().lower() not in ("", "identity"):
        response.close()
        raise _NotTaken(f"compresses its answer ({encoding[:20]!r}); switch compression off there")
    return response


class HttpEngine:
    """The connection to one engine.

    Args:
        url: The engine's address.
        name: What people call it, for messages.
        public: Whether only addresses of the internet may be connected to: the address came from an engine.
    """

    def __init__(self, url: str, name: str, *, public: bool = False) -> None:
        self.url, self.name, self._public = url.rstrip("/"), name, public
        self._session: aiohttp.ClientSession | None = None
        self._pool: ThreadPoolExecutor | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, which is opened at the first use."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=ANSWER)
            connector = public_connector() if self._public else aiohttp.TCPConnector(keepalive_timeout=KEPT)
            self._session = aiohttp.ClientSession(
                timeout=timeout, trust_env=False, connector=connector, auto_decompress=False,
                headers={hdrs.ACCEPT_ENCODING: "identity"}, middlewares=(_as_it_is,),
                cookie_jar=aiohttp.CookieJar(unsafe=not self._public),  # a login's cookie, also of a bare address
            )  # fmt: skip
        return self._session

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that read and write files, which are started at the first use."""
        self._pool = self._pool or ThreadPoolExecutor(2, thread_name_prefix=self.name)
        return self._pool

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of aiohttp into `EngineUnreachable`, and an answer that is not taken into `TaskFailed`."""
        try:
            yield
        except (_NotTaken, NotPublic) as error:
            raise TaskFailed(f"{self.name} at {self.url} {error}") from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
            why = no_connection(cause) if cause is not None else str(error) or type(error).__name__
            raise EngineUnreachable(f"{self.name} at {self.url} does not answer: {why}") from None

    @asynccontextmanager
    async def exchange(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call. Raises `EngineUnreachable`."""
        with self.errors():
            async with self.session.request(method, f"{self.url}{path}", **options) as response:
                yield response

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Make a call; returns the status and the JSON of the answer, None for another answer."""
        async with self.exchange(method, path, **options) as response:
            raw = await self.body(response)
        try:
            return response.status, orjson.loads(raw)
        except orjson.JSONDecodeError:
            return response.status, None

    async def object(self, path: str, otherwise: str) -> dict[str, Any]:
        """The JSON object at a path. Raises `EngineUnreachable` for another answer, which begins with `otherwise`."""
        status, said = await self.json("GET", path)
        if status != 200 or not isinstance(said, dict):
            raise EngineUnreachable(f"{otherwise}: HTTP {status} for {path}")
        return said

    async def body(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body of an answer. Raises `TaskFailed` if it is too large."""
        raw = await response.content.read(MAX_JSON) if response.content_length != 0 else b""
        while not response.content.at_eof():
            raw += await response.content.read(_BLOCK)
            if len(raw) > MAX_JSON:
                raise TaskFailed(f"{self.name}: the answer to {response.url.path} has more than {MAX_JSON} bytes")
        return raw

    async def fetch(self, path: str, target: Path, **options: Any) -> None:
        """Store the answer in `target`. Raises `TaskFailed` for another status than 200, `NoSpace`."""
        async with self.exchange("GET", path, **options) as response:
            if response.status != 200:
                raise TaskFailed(f"{self.name} does not hand out the result: HTTP {response.status} for {path}")
            await self.store(response, target)

    async def store(self, response: aiohttp.ClientResponse, target: Path) -> None:
        """Store the body of an answer in `target`. Raises `NoSpace`, or `EngineUnreachable` if it breaks off."""
        transport = response.connection.transport if response.connection is not None else None
        length = response.content_length or 0
        try:
            await write_body(response.content, transport, length, target, self.pool)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):  # `OSError`s, but not of the disk
            raise EngineUnreachable(f"{self.name} broke off while it sent the result") from None
        except OSError as error:
            raise NoSpace(f"the result cannot be stored: {error.strerror or error}") from None
        if length and length != target.stat().st_size:
            raise EngineUnreachable(f"{self.name} broke off while it sent the result")

    @contextmanager
    def sending(self, path: Path) -> Iterator[FilePart]:
        """A file as a part of a request, whose own errors the block raises. Raises `EngineUnreachable`."""
        status = path.stat()
        file = Fingerprint(path, status.st_size, status.st_mtime_ns, {})
        part = FilePart(file, self.pool, ANSWER, lambda _: None)
        try:
            with part.own_errors():
                yield part
        except WorkerUnreachable:
            raise EngineUnreachable(f"{self.name} at {self.url} accepted no byte for {ANSWER:g} s") from None


async def write_body(
    content: aiohttp.StreamReader, transport: asyncio.Transport | None, length: int, path: Path, pool: Executor
) -> None:
    """Write the body of a message to a new file. If it is long, aiohttp cannot use the connection afterwards.

    Args:
        content: The body.
        transport: Its connection.
        length: Its bytes; 0 if unknown.
        path: The file.
        pool: Writes it.

    Raises:
        OSError: The disk cannot store it, or (`ConnectionError`, `TimeoutError`) the connection was lost.
    """
    room = max(0, disk_usage(path.parent).free - KEPT_FREE)
    _check_room(length, room)
    with path.open("xb", buffering=0) as file:
        writer, size = HashingWriter(file, (), pool), 0
        try:
            async with aclosing(body_blocks(content, transport, length, ANSWER)) as blocks:
                async for block in blocks:
                    size += len(block)
                    _check_room(size, room)
                    await writer.add(block)
        finally:  # the file stays open while the thread writes
            await writer.flush()


def _check_room(size: int, room: int) -> None:
    if size > room:
        why = f"it has {size} bytes or more, and the worker's disk has room for {room}; free some space there"
        raise OSError(errno.ENOSPC, why)


# Server-sent events, and files at an address that an engine names.


async def lines_of(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """The lines of a stream; one may be large. Raises `TaskFailed` for one of more than `MAX_JSON` bytes."""
    parts, size = [], 0
    async for block in content.iter_any():
        first, *rest = block.split(b"\n")
        parts.append(first)
        size += len(first)
        for part in rest:
            yield b"".join(parts)
            parts, size = [part], len(part)
        if size > MAX_JSON:
            raise TaskFailed(f"the engine sent an event of more than {MAX_JSON} bytes; let it return a file")
    if size:
        yield b"".join(parts)


def event_of(line: bytes, name: str) -> Any:
    """The JSON of an event's line, or None. Raises `EngineUnreachable` if it is not JSON."""
    try:
        return orjson.loads(line[5:]) if line.startswith(b"data:") else None
    except orjson.JSONDecodeError:
        raise EngineUnreachable(f"{name} sent an event that is not JSON: {line[:80]!r}") from None


async def fetch_url(url: str, target: Path, name: str, own: Iterable[str]) -> Path:
    """Store the file at an address that an engine named; it gets the ending of the address.

    Args:
        url: The address. Only the `own` addresses may be of this machine or of a local network.
        target: The file, without its ending.
        name: What holds the file, for messages.
        own: The addresses of servers that the user named.

    Raises:
        TaskFailed: The address is unusable, or the server does not hand out the file.
    """
    if (origin := _origin(url)) is None:
        raise TaskFailed(f"{name} has an unusable address: {url[:200]!r}")
    path = target.with_name(f"{target.name}{ending(URL(url).path)}")
    store = HttpEngine(url, name, public=origin not in map(_origin, own))
    try:
        await store.fetch("", path)
    finally:
        await store.close()
    return path


def _origin(url: str) -> str | None:
    """Scheme, host and port of an address; None if it has none of them, or a user's name."""
    try:
        parts = URL(url)
        return str(parts.origin()) if parts.user is None and parts.password is None else None
    except ValueError:
        return None


# Says at times that a work waits at an engine, so that neither people nor the watchdog take the wait for a hang.

SAY_AGAIN = 60.0
"""Seconds between two lines about the same wait."""


class Waiting:
    """The wait of one work.

    Example:
        >>> waiting = Waiting()
        >>> waiting.line("2 works are before it")
        Waits(text='the work waits for 0 s: 2 works are before it')
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._began = self._said_at = self._clock()
        self._said = ""

    def line(self, why: str, before: int = 0) -> Waits | None:
        """The line to show, with the number of works before this one; None if the same was said lately."""
        now = self._clock()
        if self._said == why and now - self._said_at < SAY_AGAIN:
            return None
        self._said, self._said_at = why, now
        return Waits(f"the work waits for {now - self._began:.0f} s: {why}", before)

    def over(self) -> Line | None:
        """The line for the end of the wait; None if there was none."""
        waited, self._said = bool(self._said), ""
        return Line("the wait is over; the engine works on it") if waited else None


# Names of another program's fields as names that jobs may have.

_MOST = 32
_ENDING = re.compile(r"\.[a-z0-9]{1,10}")


def ending(name: str) -> str:
    """The ending of a file's name, if results can have it; else an empty text."""
    suffix = Path(name).suffix.lower()
    return suffix if _ENDING.fullmatch(suffix) else ""


def slot_name(text: str, taken: Collection[str] = (), *, many: bool = False) -> str:
    """A text as the name of a file, in lower case; one that is in `taken` gets a number.

    `many`: as the name of a list, so that the names of its further files are free, too.
    """
    names = _names(text[: _MOST - 3].lower() if many else text.lower(), taken)
    return next(name for name in names if not many or taken_by([Slot(name, many=True)]).isdisjoint(taken))


def taken_by(slots: Iterable[Slot]) -> set[str]:
    """The names of these slots, and of the further files of lists."""
    return {slot.name for slot in with_numbers(slots)}


def param_name(text: str, taken: Collection[str]) -> str:
    """A text as the name of a parameter; one that is in `taken` gets a number."""
    return next(_names(text, taken))


def _names(text: str, taken: Collection[str]) -> Iterator[str]:
    word = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
    word = (word if word[:1].isalpha() else f"f_{word}")[:_MOST].rstrip("_")
    names = (word if n == 1 else f"{word[: _MOST - 3]}_{n}" for n in range(1, 99))
    return (name for name in names if name not in taken)


def seed_of(params: Collection[str]) -> str:
    """The parameter that is a seed by its name, if there is one; else an empty text."""
    return next((name for name in ("seed", "noise_seed", "Seed") if name in params), "")


# What an engine made of the outputs of a work: those that it did not make do not fail the others.


class NotMade(TaskFailed):
    """The engine succeeded, and did not make this output."""


async def outputs_of(
    work: Work, kind: Kind, files_of: Callable[[Slot], AsyncGenerator[Made, None]]
) -> AsyncIterator[Line | Made]:
    """Yield the files of all outputs of a work.

    Args:
        work: The work.
        kind: Its kind.
        files_of: Yields the files of one output; may raise `NotMade`.

    Yields:
        The files, and a line for each output that was not made.

    Raises:
        NotMade: None was.
    """
    faults: list[NotMade] = []
    slots = [slot for slot in kind.outputs if slot.name in work.outputs]
    for slot in slots:
        try:
            async with aclosing(files_of(slot)) as files:
                async for made in files:
                    yield made
        except NotMade as fault:
            faults.append(fault)
            yield Line(str(fault))
    if len(faults) == len(slots):
        raise faults[0]
