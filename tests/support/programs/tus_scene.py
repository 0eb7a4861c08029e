"""A caller that speaks tus word for word, for what no client would do."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from blake3 import blake3

BODY = "application/offset+octet-stream"


def metadata(content: bytes, *, filename: str = "film.mp4", digest: str | None = None) -> str:
    """`Upload-Metadata` for this content."""
    said = {"filename": filename, "blake3": digest or blake3(content).hexdigest()}
    return ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in said.items())


class Tus:
    """One caller of the worker at `url`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def ask(self, method: str, path: str = "/files/", data: Any = None, **headers: str) -> aiohttp.ClientResponse:
        """One request; underscores in the names of headers stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, f"{self.url}{path}", data=data, headers=named) as response:
            await response.read()
            return response

    async def create(self, content: bytes, **headers: str) -> aiohttp.ClientResponse:
        """Begin an upload of this content."""
        announced = {"Upload_Length": str(len(content)), "Upload_Metadata": metadata(content)}
        return await self.ask("POST", **{**announced, **headers})

    async def created(self, content: bytes, **headers: str) -> str:
        """The path of a new upload."""
        response = await self.create(content, **headers)
        assert response.status == 201, response
        return f"/files/{response.headers['Location']}"

    async def patch(self, path: str, offset: int, data: Any, **headers: str) -> aiohttp.ClientResponse:
        """Send these bytes."""
        return await self.ask("PATCH", path, data, Content_Type=BODY, Upload_Offset=str(offset), **headers)

    async def offset(self, path: str) -> int:
        """Where the upload stands."""
        response = await self.ask("HEAD", path)
        assert response.status == 200, response
        return int(response.headers["Upload-Offset"])

    async def until_at(self, path: str, offset: int) -> None:
        """Returns when so much has come."""
        async with asyncio.timeout(100):
            while await self.offset(path) < offset:
                pass

    async def has(self, content: bytes) -> bool:
        """Whether the worker has this file."""
        digest = blake3(content).hexdigest()
        asked = {"files": [{"hash": digest, "ext": ".mp4"}]}
        async with self.session.post(f"{self.url}/api/heygem/check_files", json=asked) as response:
            return bool((await response.json())["data"][digest])


@asynccontextmanager
async def tus(url: str, secret: str) -> AsyncIterator[Tus]:
    """A caller who knows the secret."""
    headers = {"Authorization": f"Bearer {secret}", "Tus-Resumable": "1.0.0"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Tus(session, url)


async def then_silent(blocks: Iterable[bytes], until: asyncio.Event) -> AsyncIterator[bytes]:
    """These blocks, and then nothing until the event."""
    for block in blocks:
        yield block
    await until.wait()
