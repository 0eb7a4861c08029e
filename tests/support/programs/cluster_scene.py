"""Real hubs on one database, each in a folder of its own, and their peers."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.support.ports import free_port
from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_scene import ONLINE, Peer, Place
from tests.support.programs.mixed_versions import OURS, House
from wakestream.streams.hub import events as f
from wakestream.streams.hub.hub import DECIDER, HubState, Limits
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.facts_json import FactsJson

SUBMIT = {"type": "gpu.job.submit", "task_type": "heygem_submit", "payload": {"video_hash": "a", "video_ext": ".mp4"}}


class Cluster:
    """Hubs in folders of their own, on one database, and the peers of one test."""

    def __init__(self, address: str, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments

        self.address, self.folder, self.stack = address, folder, stack
        self.place = Place(PostgresDocuments(address), stack)
        (folder / "user").mkdir(parents=True)
        self.user = User(folder / "user")

    async def start(self, name: str, *more: str, leads: bool = True) -> tuple[Running, str]:
        """A hub; returns it with its address, when it leads or answers that another one leads."""
        port = free_port()
        flags = ("--listen", f"127.0.0.1:{port}", "--state", str(self.folder / name), "--journal", self.address, *more)
        hub = await self.stack.enter_async_context(self.user.runs("hub", *flags))
        url = f"ws://127.0.0.1:{port}/dsp"
        if leads:
            assert await hub.address() == url
        else:
            await self.standing_by(url)
        return hub, url

    async def standing_by(self, url: str) -> str:
        """What the hub at this address says when it answers 503 and knows who leads."""
        refused: InvalidStatus | None = None
        async with asyncio.timeout(100):
            while refused is None or "Wakestream-Leader" not in refused.response.headers:
                try:
                    self.place.url = url
                    await (await self.place.connect()).closed()
                except InvalidStatus as error:
                    refused = error
                except (OSError, ConnectionClosed, InvalidMessage):
                    await asyncio.sleep(0.05)  # it does not listen yet, or is closing
        assert (refused.response.status_code, refused.response.headers["Retry-After"]) == (503, "1")
        return refused.response.body.decode()

    async def peer(self, url: str, role: str) -> Peer:
        self.place.url = url
        return await getattr(self.place, role)()  # type: ignore[no-any-return]


class HouseOfTwo(House):
    """Programs of a house with two hubs, `hub` and `hub-b`; those of a release know the one name in front of both."""

    def __init__(self, address: str, folder: Path, pythons: Mapping[str, Path]) -> None:
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments

        super().__init__(folder, {"hub-b": OURS, **pythons}, PostgresDocuments(address))
        self._address = address
        self._hubs = {"hub": self._ports["hub"], "hub-b": free_port()}
        self._front = free_port()

    def _words(self, name: str) -> tuple[str, ...]:
        if name in self._hubs:
            state = ("--state", str(self.folder / name))
            return ("hub", "--listen", f"127.0.0.1:{self._hubs[name]}", *state, "--journal", self._address)
        words = list(super()._words(name))
        ours = [f"http://127.0.0.1:{port}" for port in self._hubs.values()]
        words[words.index("--hub") + 1] = (
            ",".join(ours) if self.pythons[name] == OURS else f"http://127.0.0.1:{self._front}"
        )
        return tuple(words)

    async def start(self, name: str) -> None:
        """Start a program; of a hub, return when it leads or says that it stands by."""
        if name not in self._hubs:
            return await super().start(name)
        self.running[name] = await self._spawn(name)
        await self._answers(name, 200, 503)
        return None

    async def leads(self, name: str) -> None:
        """Returns when this hub leads."""
        await self._answers(name, 200)

    async def _answers(self, name: str, *statuses: int) -> None:
        async with asyncio.timeout(100):
            while await self._status(self._hubs[name]) not in statuses:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)

    async def _status(self, port: int) -> int | None:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
                return response.status
        return None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["HouseOfTwo"]:
        """See `House.open`; `hub` leads and `hub-b` stands by."""
        async with await asyncio.start_server(self._carry, "127.0.0.1", self._front), super().open():
            await self.start("hub-b")
            yield self

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection to the hub that leads, as a load balancer does."""
        with contextlib.suppress(OSError, StopAsyncIteration):
            port = await anext(port for port in self._hubs.values() if await self._status(port) == 200)
            there, here = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_copied(reader, here), _copied(there, writer))
        writer.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def has_jobs(cluster: Cluster, url: str, count: int) -> None:
    """The hub gives these jobs to a worker, in their order."""
    worker = await cluster.peer(url, "worker")
    await worker.send(**ONLINE)
    batch = await worker.first("gpu.job.dispatch.batch")
    assert [job["request_id"] for job in batch["data"]["jobs"]] == [f"job-{n}" for n in range(count)]


def queue_jobs(address: str, count: int) -> None:
    """Fill a stopped cluster's journal with waiting jobs of a hundred licenses: a snapshot, and a third as facts."""
    from wakestream.adapters.disk.postgres_store import PostgresStore

    state, now, seq = HubState(Limits(jobs_per_key=count)), time.time(), 0
    snapshot, facts = list[bytes](), list[f.Fact]()

    def happen(event: f.Event) -> None:
        facts.extend(fact for fact in DECIDER.step(state, event, now).facts if fact.DURABLE)

    for fd in range(100):
        happen(f.Opened(fd))
        happen(f.Registering(fd, m.Register(), f"key{fd}", f.License(f"license{fd}", "client")))
    for number in range(count):
        if number == count * 2 // 3:
            snapshot, seq = [*DECIDER.snapshot(state)], len(facts)
            facts.clear()
        happen(f.Received(number % 100, m.Submit(request_id=f"queued-{number}", payload=SUBMIT["payload"])))
    rows = [FactsJson(f.Fact, "").row(fact) for fact in facts]  # type: ignore[arg-type]
    with contextlib.closing(PostgresStore(address, idle=3600.0)) as store:
        assert store.lead()
        store.fill(store.id, seq, snapshot, rows, ())


def queued(address: str) -> Counter[str]:
    """The waiting jobs that the journal has, read as a hub does that stands by."""
    from wakestream.adapters.disk.postgres_store import PostgresStore

    json: FactsJson[f.Fact] = FactsJson(f.Fact, "")  # type: ignore[arg-type]
    with contextlib.closing(PostgresStore(address)) as store:
        store.keep()
        store.follow()
        state = DECIDER.restore(store.restore(), HubState())
        for row in store.read():
            DECIDER.evolve(state, json.fact(row))
        return Counter([*state.queue])
