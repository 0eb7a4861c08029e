"""What the engines behind HTTP share: the session, the errors, and results that are fetched to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from wakestream.operators.model.errors import EngineUnreachable, NoSpace, TaskFailed

ANSWER = 60.0
"""Seconds that an engine has to answer a call."""

MAX_JSON = 64 * 1024 * 1024
"""The most bytes of a JSON answer."""

_BLOCK = 1024 * 1024


class HttpEngine:
    """The connection to one engine.

    Args:
        url: The engine's address.
        name: What people call it, for messages.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url.rstrip("/"), name
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, which is opened at the first use."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=ANSWER)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of aiohttp into `EngineUnreachable`."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            said = str(error) or type(error).__name__
            raise EngineUnreachable(f"{self.name} at {self.url} does not answer: {said}") from None

    @asynccontextmanager
    async def exchange(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call. Raises `EngineUnreachable`."""
        with self.errors():
            async with self.session.request(method, f"{self.url}{path}", **options) as response:
                yield response

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Make a call; returns the status and the JSON of the answer, None for another answer."""
        async with self.exchange(method, path, **options) as response:
            raw = await response.content.read(MAX_JSON) if response.content_length != 0 else b""
            while not response.content.at_eof():
                raw += await response.content.read(_BLOCK)
                if len(raw) > MAX_JSON:
                    raise TaskFailed(f"{self.name}: the answer to {path} has more than {MAX_JSON} bytes")
        try:
            return response.status, orjson.loads(raw)
        except orjson.JSONDecodeError:
            return response.status, None

    async def fetch(self, path: str, target: Path, **options: Any) -> None:
        """Store the answer in `target`. Raises `TaskFailed` for another status than 200, `NoSpace`."""
        async with self.exchange("GET", path, **options) as response:
            if response.status != 200:
                raise TaskFailed(f"{self.name} does not hand out the result: HTTP {response.status} for {path}")
            try:
                with target.open("xb", buffering=0) as file:
                    async for block in response.content.iter_chunked(_BLOCK):
                        await asyncio.to_thread(file.write, block)
            except OSError as error:
                raise NoSpace(f"the result cannot be stored: {error.strerror or error}") from None
            if response.content_length not in (None, target.stat().st_size):
                raise EngineUnreachable(f"{self.name} broke off while it sent the result")
