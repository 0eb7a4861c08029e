"""`wakestream daemon` as a process, its local API as another program uses it, and a user beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.support.programs.client_scene import QUICK, Running, User
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.daemon.discovery import Address

OUTCOMES = ("done", "failed", "timed_out", "cancelled")


class Api:
    """The local API of one run of the daemon."""

    def __init__(self, address: Address, session: aiohttp.ClientSession) -> None:
        self.address = address
        self.session = session

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One call: its status and its JSON."""
        data = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        sent = {"Authorization": f"Bearer {self.address.token}"} | dict(headers or {})
        async with self.session.request(method, self.address.url + path, data=data, headers=sent) as response:
            return response.status, orjson.loads(await response.read())

    async def submit(self, user: User, job: str = "job-1", **fields: Any) -> tuple[int, dict[str, Any]]:
        """Hand the user's two files in."""
        files = {"video": str(user.video), "audio": str(user.audio), "output": str(user.out)}
        return await self.ask("POST", "/api/jobs", {"id": job, **files, **fields})

    async def job(self, job: str = "job-1") -> dict[str, Any]:
        """What it says of a job."""
        status, plain = await self.ask("GET", f"/api/jobs/{job}")
        assert status == 200, plain
        return plain

    async def events(
        self, path: str = "/api/jobs/job-1/events", last_id: str | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Server-sent events, each with its id."""
        headers = {"Authorization": f"Bearer {self.address.token}"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        async with self.session.get(self.address.url + path, headers=headers) as response:
            assert response.status == 200, await response.read()
            number = ""
            async for line in response.content:
                if line.startswith(b"id: "):
                    number = line[4:].decode().strip()
                elif line.startswith(b"data: "):
                    yield number, orjson.loads(line[6:])

    async def until(self, kind: str, job: str = "job-1", **wanted: Any) -> dict[str, Any]:
        """The first event of this kind with these fields, including earlier ones."""
        seen = []
        async with asyncio.timeout(100):
            async for _, event in self.events(f"/api/jobs/{job}/events"):
                seen.append(event)
                if event["event"] == kind and wanted.items() <= event.items():
                    return event
        raise AssertionError(f"no {kind} {wanted} in {seen}")

    async def kinds(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """What it says of the kinds as soon as this holds."""
        async with asyncio.timeout(100):
            while True:
                status, plain = await self.ask("GET", "/api/kinds")
                assert status == 200, plain
                if holds(plain):
                    return plain

    async def outcome(self, job: str = "job-1") -> dict[str, Any]:
        """The job's last event."""
        last: dict[str, Any] = {}
        async with asyncio.timeout(100):
            async for _, last in self.events(f"/api/jobs/{job}/events"):  # noqa: B007
                pass
        assert last["event"] in OUTCOMES, last
        return last


class RunningDaemon(Api):
    """A daemon's process with its API."""

    def __init__(self, running: Running, address: Address, session: aiohttp.ClientSession) -> None:
        super().__init__(address, session)
        self.running = running

    async def kill(self) -> None:
        """kill -9."""
        self.running.process.kill()
        await self.running.process.wait()


def state_of(user: User) -> Path:
    """The folder of the user's daemon."""
    return Path(user.environment["WAKESTREAM_DAEMON"])


@asynccontextmanager
async def daemon(user: User, *arguments: str, **environment: str) -> AsyncIterator[RunningDaemon]:
    """The user's daemon while it runs; killed if it still does at the end of the block."""
    user.environment.setdefault("WAKESTREAM_DAEMON", str(user.folder.parent / "daemon"))
    async with (
        aiohttp.ClientSession() as session,
        user.runs("daemon", *QUICK, *arguments, **environment) as running,
    ):
        url = await running.address()
        address = daemon_address.read(state_of(user))
        assert address is not None
        assert address.url == url
        yield RunningDaemon(running, address, session)
