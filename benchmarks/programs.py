"""The API for programs: what it adds to a job whose result is there already, against the same job by the local API.

Hub, worker and daemon run in this process, the callers too. The result is made once; then each call gets it again.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
from timing import row

from wakestream.adapters.config import settings
from wakestream.adapters.daemon import discovery
from wakestream.adapters.daemon.program import ApiConfig, DaemonConfig, RunningDaemon, running_daemon
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.engine import Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.streams.hub.events import Fact

SECRET = "a secret of this benchmark"  # noqa: S105 - the worker ends with it
ROUNDS = 40
WITHIN = 0.030
INPUT = b"picture" * 1000


class Copies:
    """An engine that copies its file."""

    async def describe(self) -> Sequence[Kind]:
        """See `Engine`."""
        return (Kind("copy", (Slot("file"),), (Slot("made", (".bin",)),)),)

    async def ready(self) -> Readiness:
        """See `Engine`."""
        return Readiness(ready=True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """See `Engine`."""
        path = work.folder / "made.bin"
        path.write_bytes(work.inputs["file"].read_bytes())
        yield Made("made", path)

    async def cancel(self, work: Work) -> None:
        """See `Engine`."""

    async def close(self) -> None:
        """See `Engine`."""


class Callers:
    """One caller of each API."""

    def __init__(self, session: aiohttp.ClientSession, daemon: RunningDaemon, folder: Path) -> None:
        self._session, self._folder = session, folder
        self._url, self._programs = daemon.url, daemon.api_url
        address = discovery.read(folder / "daemon")
        assert address is not None
        self._headers = {"Authorization": f"Bearer {address.token}"}
        token = Tokens(folder / "daemon").add("benchmark")
        self._program = {"Authorization": f"Bearer {token}", "Prefer": "wait"}
        self._file = ""
        (folder / "input.bin").write_bytes(INPUT)

    async def by_program(self) -> None:
        """A prediction with `Prefer: wait`, of an uploaded file."""
        if not self._file:
            form = aiohttp.FormData()
            form.add_field("content", INPUT, filename="input.bin")
            headers = {"Authorization": self._program["Authorization"]}
            async with self._session.post(f"{self._programs}/v1/files", data=form, headers=headers) as response:
                self._file = (await response.json())["urls"]["get"]
        body = {"version": "copy", "input": {"file": self._file}}
        url = f"{self._programs}/v1/predictions"
        async with self._session.post(url, json=body, headers=self._program) as response:
            assert (await response.json())["status"] == "succeeded"

    async def by_local_api(self) -> None:
        """The same by `/api/jobs`, and its events up to the end."""
        body = {
            "kind": "copy", "inputs": {"file": str(self._folder / "input.bin")},
            "outputs": {"made": str(self._folder / f"made-{time.time_ns()}.bin")},
        }  # fmt: skip
        async with self._session.post(f"{self._url}/api/jobs", json=body, headers=self._headers) as response:
            job = (await response.json())["id"]
        async with self._session.get(f"{self._url}/api/jobs/{job}/events", headers=self._headers) as events:
            assert b"event: done" in await events.read()


async def taken(call: Callable[[], Awaitable[None]]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    await call()
    return time.perf_counter() - begin


async def measured(folder: Path) -> tuple[float, float]:
    """The median seconds of a prediction, and of the same job by the local API, taken in turns."""
    book = LicenseBook(folder / "hub")
    keys = {role: book.issue(role, "", time.time())[1] for role in ("client", "worker")}
    async with open_hub(HubConfig(book, port=0), FakeJournal[Fact]()) as hub:
        config = WorkerConfig(folder / "worker", Copies(), SECRET, port=0, gpu="gpu", key=keys["worker"])
        said = {"API_SERVER_URL": hub.url, "WAKESTREAM_KEY": keys["client"], "HEYGEM_API_SECRET": SECRET}
        found = settings.load({}, environment=said, folder=folder)
        api = ApiConfig("127.0.0.1", 0, str)
        async with (
            running_worker(config, lambda register: Link(hub.url, register)),
            running_daemon(DaemonConfig(folder / "daemon", api=api), found) as daemon,
            aiohttp.ClientSession() as session,
        ):
            while not any(gpu.online and gpu.kinds for gpu in hub.state.gpus.values()):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
            callers = Callers(session, daemon, folder)
            await callers.by_program()  # makes the result
            await callers.by_local_api()
            rounds = [(await taken(callers.by_program), await taken(callers.by_local_api)) for _ in range(ROUNDS)]
    program, local = map(statistics.median, zip(*rounds, strict=True))
    return program, local


async def main() -> bool:
    """Print what the API adds; returns whether it is within the budget."""
    print("the API for programs, a result that is there already")
    with tempfile.TemporaryDirectory() as name:
        program, local = await measured(Path(name))
    added = max(0.0, program - local)
    what = f"added to a job by the local API: {added * 1000:.1f} ms ({program * 1000:.1f} and {local * 1000:.1f} ms)"
    return row(f"{what}, of {WITHIN * 1000:.0f} ms", added, WITHIN, 1.0)
