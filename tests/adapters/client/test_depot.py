"""Files to and from our own depot, with the server that `wakestream depot` runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.programs.depot_scene import DepotScene, depot_scene, named
from wakestream.adapters.client.depot import DepotWallet, HttpDepot
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.operators.model.depot import DepotFile, Place
from wakestream.operators.model.errors import DepotError, LinkExpired, WakestreamError
from wakestream.operators.model.events import Done, Fingerprint, Job
from wakestream.streams.protocol import depot_messages as d

FILM = bytes(range(256)) * 4000


class Desk:
    """A client's depot, and a file of its user."""

    def __init__(self, here: DepotScene, http: HttpWorkers, folder: Path, file: Fingerprint) -> None:
        self.here, self.file, self.wallet = here, file, DepotWallet()
        self.result = folder / "out.mp4"
        job = Job.lipsync("j", file.path, file.path, self.result)
        self.depot = HttpDepot(http, self.wallet, job)
        self.place = Place(DepotFile("video", named(FILM), ".mp4", len(FILM)), "j", depot=here.depot.address)
        self.permit(here.token("one"))

    def permit(self, token: str) -> None:
        """The hub gives a permission."""
        self.wallet.feed(d.DepotPlaces(request_id="j", capability=token, expires=int(time.time()) + 900))

    async def put(self) -> list[object]:
        """Send the file."""
        return [step async for step in self.depot.put(self.file, self.place)]

    async def get(self) -> object:
        """Fetch it; returns the last step."""
        return [step async for step in self.depot.get(self.place, self.result)][-1]


@asynccontextmanager
async def desk(folder: Path, size: int = 1 << 30) -> AsyncIterator[Desk]:
    """A depot, and a client with a permission."""
    (folder / "clip.mp4").write_bytes(FILM)
    http, files = HttpWorkers(), DiskFiles()
    async with depot_scene(folder / "depot", size) as here:
        try:
            file = await files.fingerprint(folder / "clip.mp4", {"blake3"})
            await here.announce("one", FILM)
            yield Desk(here, http, folder, file)
        finally:
            await http.close()
            await files.close()


@pytest.mark.parametrize("ext", [".mp4", ""])
async def test_a_file_goes_there_and_comes_back(tmp_path: Path, ext: str) -> None:
    async with desk(tmp_path) as here:
        here.place = replace(here.place, file=replace(here.place.file, ext=ext))
        assert (await here.put())[-1] == len(FILM)
        assert await here.get() == Done(here.result, len(FILM))
        assert here.result.read_bytes() == FILM
        assert await here.get() == Done(here.result, len(FILM))  # its own file is replaced, and gets no number


async def code_of(call: object) -> str:
    """The code of the error that this raises, or its type if it has the usual one."""
    with pytest.raises(WakestreamError) as caught:
        await call  # type: ignore[misc]
    assert isinstance(caught.value, DepotError)
    return caught.value.code


async def test_what_a_depot_refuses_is_an_error_of_the_depot(tmp_path: Path) -> None:
    async with desk(tmp_path, size=len(FILM) // 2) as here:
        assert await code_of(here.put()) in ("full", "too_large")
        assert await code_of(here.get()) == "lost"
        here.permit(here.here.token("one", "a gpu"))  # for another than the depot
        assert await code_of(here.put()) == await code_of(here.get()) == "link_expired"
        here.permit(here.here.token("one"))
        here.place = replace(here.place, depot=f"http://127.0.0.1:{free_port()}")
        assert await code_of(here.put()) == "down"


async def test_a_depot_that_was_restarted_gets_the_file_once_the_hub_offers_it_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        here.here.depot.server.calls.expected.clear()  # type: ignore[attr-defined]
        assert await code_of(here.put()) == "link_expired"


async def test_without_a_permission_the_hub_is_asked(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        here.wallet = here.depot.wallet = DepotWallet()
        for call in (here.put, here.get):
            with pytest.raises(LinkExpired):
                await call()
        here.permit(here.here.token("one"))
        await here.put()
        async with asyncio.timeout(10):
            assert await here.get() == Done(here.result, len(FILM))
