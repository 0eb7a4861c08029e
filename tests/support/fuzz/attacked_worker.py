"""A worker that is attacked, and a healthy client who goes on using it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from tests.support.fuzz.observers import tree, watched
from tests.support.fuzz.raw_http import RawHttp, Reply, request
from tests.support.programs.our_peers import Joining
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.http.server import WorkerServer
from wakestream.adapters.worker.program import RunningWorker, running_worker

ANSWERED_WITHIN = 10.0
SECRET = "worker-secret-0123456789"
BEARER = f"Authorization: Bearer {SECRET}"


class Attacked:
    """The worker, and how it is spoken to."""

    def __init__(self, worker: RunningWorker) -> None:
        self.port = int(worker.address.rpartition(":")[2])
        self.server: WorkerServer = worker.server
        self.refused = worker.server.refused
        self.state = worker.store.root

    async def connect(self) -> RawHttp:
        """A connection that has said nothing yet."""
        return await RawHttp.connect(self.port)

    async def ask(self, data: bytes) -> Reply:
        """The answer to these bytes on a connection of their own."""
        caller = await self.connect()
        caller.write(data)
        reply = await caller.reply(bodiless=data.startswith(b"HEAD "))
        await caller.close()
        return reply

    async def is_well(self) -> None:
        """A healthy client is answered at once."""
        check = request("POST", "/api/heygem/check_files", BEARER, body=b'{"files":[]}')
        async with asyncio.timeout(ANSWERED_WITHIN):
            assert (await self.ask(check)).status == 200
            assert (await self.ask(request("GET", "/api/heygem/health"))).status == 200


def is_fit(reply: Reply) -> bool:
    """A refusal that is meant: the caller's mistake in our form, or in the words of the library's parser."""
    if reply.status < 400:
        return True
    if reply.headers.get("content-type", "").startswith("application/json") and reply.body:
        return bool(orjson.loads(reply.body)["code"] == reply.status and reply.status not in (500, 502))
    return reply.status < 500


@asynccontextmanager
async def attacked(folder: Path) -> AsyncIterator[Attacked]:
    """A worker whose state is in `folder`/a/b/state. At the end: no fault logged, no file elsewhere, nothing half."""
    state = folder / "a" / "b" / "state"
    state.mkdir(parents=True)
    before = tree(folder, without=state)
    with watched():
        async with running_worker(WorkerConfig(state, Joining(), SECRET, port=0)) as worker:
            scene = Attacked(worker)
            await scene.is_well()
            yield scene
            await scene.is_well()
        assert list((state / "partial").iterdir()) == []
    assert tree(folder, without=state) == before
