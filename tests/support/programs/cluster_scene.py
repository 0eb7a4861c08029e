"""Real hubs on one database, each in a folder of its own, and their peers."""

import asyncio
import contextlib
from pathlib import Path

from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.support.ports import free_port
from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_scene import ONLINE, Peer, Place

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
        """What the hub at this address says when it answers 503."""
        refused: InvalidStatus | None = None
        async with asyncio.timeout(60):
            while refused is None:
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


async def has_jobs(cluster: Cluster, url: str, count: int) -> None:
    """The hub gives these jobs to a worker, in their order."""
    worker = await cluster.peer(url, "worker")
    await worker.send(**ONLINE)
    batch = await worker.first("gpu.job.dispatch.batch")
    assert [job["request_id"] for job in batch["data"]["jobs"]] == [f"job-{n}" for n in range(count)]
