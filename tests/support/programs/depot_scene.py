"""Our own depot, and callers of it with capabilities of its hub."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from blake3 import blake3

from tests.support.programs.capability_scene import Caller
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.engines import Command
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.net.capabilities import of_depot
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker

NAME = "depot"


def config(state: Path, size: int = 1 << 30, port: int = 0, **more: Any) -> WorkerConfig:
    """The configuration of a depot."""
    return WorkerConfig(state, Command(()), "nobody knows it", port=port, gpu=NAME, depot=size, **more)


def named(content: bytes) -> str:
    """The name of a file."""
    return blake3(content).hexdigest()


class DepotScene:
    """A depot that knows the key of its hub."""

    def __init__(self, depot: RunningWorker, signer: Signer, session: aiohttp.ClientSession) -> None:
        self.depot, self.signer, self.session = depot, signer, session

    def token(self, owner: str, gpu: str = of_depot(NAME)) -> str:
        """A capability for any job of a license."""
        return self.signer.mint("j", owner, gpu, (now := time.time()), now + 900)

    def caller(self, owner: str, gpu: str = of_depot(NAME)) -> Caller:
        """A caller with such a capability."""
        return Caller(self.session, self.depot.address, self.token(owner, gpu))

    def hub(self, owner: str) -> Caller:
        """The hub, in the name of a license."""
        return self.caller(owner, of_depot(NAME, hub=True))

    async def announce(self, owner: str, *files: bytes) -> dict[str, Any]:
        """The hub says that these files will come."""
        wanted = [{"hash": named(file), "ext": ".mp4"} for file in files]
        expect = {named(file): len(file) for file in files}
        return await self.hub(owner).data("POST", "look", json={"files": wanted, "expect": expect})

    async def put(self, owner: str, content: bytes) -> int:
        """Announce and send a file; returns the status."""
        await self.announce(owner, content)
        return await put(self.caller(owner), content)


@asynccontextmanager
async def depot_scene(state: Path, size: int = 1 << 30, signer: Signer | None = None) -> AsyncIterator[DepotScene]:
    """A running depot."""
    signer = signer or Signer.fresh()
    async with running_worker(config(state, size)) as depot, aiohttp.ClientSession() as session:
        verifier = depot.server.calls.verifier
        assert verifier is not None
        verifier.pin(signer.public)
        yield DepotScene(depot, signer, session)


@asynccontextmanager
async def depot_of(place: Place, hub: HubServer, size: int = 1 << 30, **more: Any) -> AsyncIterator[RunningWorker]:
    """A depot that the hub knows."""
    if "depot" not in place.keys:
        place.keys["depot"] = place.book.issue("depot", "", time.time())[1]
    settings = replace(config(place.folder / "depot", size, **more), key=place.keys["depot"])
    async with running_worker(settings, lambda register: Link(hub.url, register)) as depot:
        await until(lambda: hub.state.depot_url is not None)
        yield depot


async def put(caller: Caller, content: bytes) -> int:
    """Send a file as one of several small ones; returns the status."""
    listed = f'[{{"hash":"{named(content)}","ext":".mp4","size":{len(content)}}}]\n'.encode()
    status, _ = await caller("POST", "upload_files", data=listed + content)
    return status
