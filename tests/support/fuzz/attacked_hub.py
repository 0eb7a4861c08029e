"""A hub on its journal that is attacked, and a healthy client who goes on using it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.fuzz.observers import tree, watched
from tests.support.fuzz.raw_websocket import RawWebSocket
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.streams.hub import hub
from wakestream.streams.hub.events import Fact

ANSWERED_WITHIN = 10.0
ROLES = ("", "client", "worker", "monitor")


class Attacked:
    """The hub, its keys, and the client who must not notice anything."""

    def __init__(self, server: HubServer, keys: dict[str, str], stack: AsyncExitStack) -> None:
        self.server, self.keys = server, keys
        self._stack = stack
        self._numbers = itertools.count()
        self.healthy: RawWebSocket | None = None

    async def peer(self, role: str = "") -> RawWebSocket:
        """A connection, registered in this role if it is one."""
        one = await RawWebSocket.upgraded(self.server.port)
        self._stack.push_async_callback(one.close)
        await one.hear_until(type="connected")
        if role:
            one.say(**self.register(role))
            await one.hear_until(type="registered")
        return one

    def register(self, role: str) -> dict[str, Any]:
        """The frame with which a peer of this role registers."""
        key = self.keys[role]
        more = {"client": {"key": key}, "worker": {"role": "worker", "token": key, "gpu": "gpu", "url": "http://w:1"}}
        return {"type": "register", **more.get(role, {"role": "gpu_monitor", "token": key, "gpus": ["gpu"]})}

    async def heard_all(self, peer: RawWebSocket) -> list[dict[str, Any]]:
        """The frames that `peer` gets until the hub has handled all that it sent."""
        marker = f"marker {next(self._numbers)}"
        peer.say(type="no such thing", request_id=marker)
        return await peer.hear_until(request_id=marker, type="error")

    async def is_well(self) -> None:
        """The healthy client's job gets its answer at once."""
        if self.healthy is None:
            self.healthy = await self.peer("client")
        id_ = f"healthy {next(self._numbers)}"
        async with asyncio.timeout(ANSWERED_WITHIN):
            self.healthy.say(type="gpu.job.submit", request_id=id_)
            while (answer := await self.healthy.hear()) is not None:
                if answer.get("request_id") == id_ and answer["type"] in ("ack", "gpu.power.offline"):
                    break
        assert answer is not None, "the healthy client was cut"
        self.healthy.say(type="gpu.job.done", request_id=id_)


@asynccontextmanager
async def attacked(folder: Path, *, clock: Callable[[], float] = time.time, **limits: Any) -> AsyncIterator[Attacked]:
    """A hub whose state is in `folder`/state. At the end: no fault logged, no file elsewhere, and it starts again."""
    state = folder / "state"
    book = LicenseBook(state)
    keys = {role: book.issue(role, "", 0.0)[1] for role in ROLES[1:]}
    before = tree(folder, without=state)
    with watched():
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(open_journal(state / "hub.sqlite", Fact, program="hub"))
            limits = {"per_address": 10_000, **limits}
            server = await stack.enter_async_context(
                open_hub(HubConfig(LicenseBook(state), clock=clock, limits=hub.Limits(**limits)), journal)
            )
            scene = Attacked(server, keys, stack)
            yield scene
            await scene.is_well()
        async with open_journal(state / "hub.sqlite", Fact, program="hub") as journal:
            hub.DECIDER.recover(journal.read())
    assert tree(folder, without=state) == before
