"""A hub with GPUs, jobs, costs and licenses, and an operator who calls it as the page does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from tests.support.ports import free_port
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.certificates import make_certificate
from wakestream.adapters.net.connection_limits import Network
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import ServerTls, client_context
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.state import ALL, Budgets, Prices
from wakestream.streams.protocol import messages as m

DAY = 86_400
NOON = 20_000 * DAY + DAY / 2
LIMITS = hub.Limits(
    price=1.2, prices=Prices({"lab": 2.5}), currency="EUR", budgets=Budgets({ALL: (40.0, 600.0), "lab": (None, 250.0)})
)


class Scene:
    """A hub's folder with an admin license, and a clock that the test sets."""

    def __init__(self, folder: Path, now: float = NOON) -> None:
        self.folder, self.now = folder, now
        self.book = LicenseBook(folder)
        self.admin, self.key = self.book.issue("admin", "the operator", now - DAY)
        self.server: HubServer | None = None
        self.port = free_port()  # the same for each run

    def tls(self) -> ServerTls:
        """The hub's own certificate, for this machine."""
        cert, key = self.folder / "hub.pem", self.folder / "hub.key"
        if not cert.exists():
            make_certificate(cert, key, ["hub.example", "localhost", "127.0.0.1"])
        return ServerTls(cert, key)

    @asynccontextmanager
    async def hub(
        self, *, tls: bool = False, days: int = 0, public: str = "", proxies: tuple[Network, ...] = (), **limits: Any
    ) -> AsyncIterator[HubServer]:
        """The hub runs; `days` are those on which its GPUs ran before."""
        journal = FakeJournal[f.Fact]()
        await journal.append([*self._past(days)])
        config = HubConfig(
            LicenseBook(self.folder), port=self.port, limits=replace(LIMITS, **limits), proxies=proxies, public=public,
            tls=self.tls() if tls else None, clock=lambda: self.now,
        )  # fmt: skip
        async with open_hub(config, journal) as server:
            self.server = server
            yield server

    def _past(self, days: int) -> list[f.Fact]:
        today = int(self.now // DAY)
        hours = [(today - ago, 3600.0 * ((7 * ago) % 9)) for ago in range(days, 0, -1)]
        ran = tuple((day, seconds) for day, seconds in hours if seconds)
        if not days:
            return []
        first = float((today - days) * DAY)
        gpus = ("studio", "lab")
        accounts = [f.AccountKept(gpu, first, today * DAY, None, ran, 0.0) for gpu in gpus]
        return [*accounts, *(f.GpuPhase(gpu, "off", self.now - 60) for gpu in gpus)]

    @asynccontextmanager
    async def operator(self, *, first: dict[str, Any] | None = None, **how: Any) -> AsyncIterator["Operator"]:
        """A page that logs in with the admin key, or sends `first` instead."""
        async with self.page(**how) as page:
            await page.send(first if first is not None else {"type": "login", "key": self.key})
            yield page

    @asynccontextmanager
    async def page(self, *, origin: str | None = "", host: str = "", tls: bool = False) -> AsyncIterator["Operator"]:
        """A page that has only connected."""
        host = host or f"127.0.0.1:{self.port}"
        said = origin if origin != "" else f"{'https' if tls else 'http'}://{host}"
        headers = {"Host": host, **({"Origin": said} if said else {})}
        ssl = client_context(self.folder / "hub.pem") if tls else None
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/operator/live"
        async with connect(url, additional_headers=headers, ssl=ssl, proxy=None, max_size=None) as socket:
            yield Operator(socket)

    @asynccontextmanager
    async def work(self) -> AsyncIterator["Work"]:
        """A monitor of two GPUs, a worker, and a client with jobs."""
        assert self.server is not None
        async with AsyncExitStack() as stack:
            yield Work(self, stack)


class Operator:
    """An open page."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []
        self._calls = 0

    async def send(self, message: Any) -> None:
        """Send a message, also one that no page sends."""
        await self.socket.send(orjson.dumps(message).decode())

    async def next(self, *kinds: str, **fields: Any) -> dict[str, Any]:
        """The next message of one of these kinds with these fields."""
        async with asyncio.timeout(100):
            while True:
                message: dict[str, Any] = orjson.loads(await self.socket.recv())
                self.seen.append(message)
                if message["type"] in kinds and all(message.get(name) == value for name, value in fields.items()):
                    return message

    async def call(self, name: str, **given: Any) -> Any:
        """The value of a call, or its refusal as text."""
        self._calls += 1
        await self.send({"type": "call", "id": self._calls, "name": name, "with": given})
        answer = await self.next("answer", "refused")
        assert answer.get("id") == self._calls, answer
        return answer.get("value", answer.get("error"))

    async def until(self, kind: str, fits: Any) -> Any:
        """The latest value of this kind when it `fits`; of `log` all lines so far."""
        while True:
            if (value := self._latest(kind)) is not None and fits(value):
                return value
            await self.next(kind)

    def _latest(self, kind: str) -> Any:
        found = [one["value"] for one in self.seen if one["type"] == kind]
        return [line for lines in found for line in lines] if kind == "log" else found[-1] if found else None


class Work:
    """Programs at the hub."""

    def __init__(self, scene: Scene, stack: AsyncExitStack) -> None:
        self._scene, self._stack = scene, stack

    async def link(self, license_: str, note: str, **register: Any) -> Link:
        """A program with a license of its own is registered."""
        assert self._scene.server is not None
        _, key = self._scene.book.issue(license_, note, self._scene.now - 3600)
        named = {"key": key} if license_ == "client" else {"token": key}
        message = m.Register(**named, **register)
        link = Link(self._scene.server.url, lambda: message)
        self._stack.push_async_callback(link.close)
        up = asyncio.Event()
        link.events.subscribe(lambda event: up.set() if getattr(event, "features", None) is not None else None)
        async with asyncio.timeout(100):
            await up.wait()
        return link

    async def monitor(self, *gpus: str) -> Link:
        """A monitor of these GPUs."""
        return await self.link("monitor", "the monitor", role="gpu_monitor", gpus=gpus, features=("power_state",))

    async def worker(self, gpu: str) -> Link:
        """The worker of a GPU is online."""
        link = await self.link("worker", f"worker of {gpu}", role="worker", gpu=gpu, features=("capability",))
        link.send(m.Online(gpu=gpu, url=f"http://{gpu}.example:8383"))
        return link

    async def client(self, note: str, *jobs: str) -> Link:
        """A client submits jobs."""
        link = await self.link("client", note, device_type="pc", features=("hub_status",))
        for job in jobs:
            link.send(m.Submit(request_id=job))
        return link


async def raw(port: int, request: bytes) -> bytes:
    """What the hub answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(30.0):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(path: str, port: int, *more: str, method: str = "GET", host: str = "") -> bytes:
    """An HTTP request as a browser sends it."""
    lines = (f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", *more)
    return "\r\n".join((*lines, "", "")).encode()


@asynccontextmanager
async def proxied(port: int, header: str) -> AsyncIterator[int]:
    """A reverse proxy before this port that adds a header to each request; yields its own port."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            there, to = await asyncio.open_connection("127.0.0.1", port)
            to.write(head[:-2] + header.encode() + b"\r\n\r\n")
            await asyncio.gather(copy(reader, to), copy(there, writer))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
