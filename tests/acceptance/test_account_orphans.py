"""`wakestream machines --orphans` with a real hub, and a monitor that says what its machine costs."""

import asyncio
import json
import time

import pytest

from tests.support.power.vast_api import VastWorld
from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.monitor.program import described
from wakestream.adapters.power.config import CannotList, Machine, Provider
from wakestream.adapters.testing.http_stand_in import serving
from wakestream.streams.protocol import messages as m


async def test_a_machine_that_runs_and_that_no_monitor_names_is_listed(user: User, keeper: Keeper) -> None:
    admin = LicenseBook(keeper.folder).issue("admin", "", time.time())[1]
    world = VastWorld()
    user.environment |= world.keys
    async with serving(world) as served, keeper.hub():
        await served.become("running")
        command = ("machines", "--power", "vast", "--power-option", f"base_url={served.url}", "--orphans", "--json")
        async with keeper.peer(monitor(keeper, "another")):
            found = await user.run(*command, WAKESTREAM_KEY=admin)
            as_client = await user.run(*command)
        async with keeper.peer(monitor(keeper, served.machine_id)):
            rest = await user.run(*command, WAKESTREAM_KEY=admin)
            as_client_sees = await keeper.asks()
    assert as_client.code == 2
    assert "use a key of role admin" in as_client.err
    running = {json.loads(line)["id"] for line in found.out.splitlines()}
    assert served.machine_id in running
    others = {json.loads(line)["id"] for line in rest.out.splitlines()}
    assert others == running - {served.machine_id}
    assert "machine" not in as_client_sees.gpus[0]


def monitor(keeper: Keeper, machine: str) -> m.Register:
    return m.Register(role="gpu_monitor", token=keeper.keys["monitor"], gpus=("studio",), machine=machine)


class Account(Provider):
    """An account with two machines."""

    def __init__(self, *, hangs: bool = False, fails: bool = False, broken: bool = False) -> None:
        self.hangs, self.fails, self.broken = hangs, fails, broken

    async def machines(self) -> list[Machine]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise CannotList("no list here")
        if self.broken:
            raise KeyError("a provider in a package of its own may raise anything")
        return [Machine("i-1", "studio", "running", price=1.25, currency="USD"), Machine("i-2", "lab", "stopped")]


@pytest.mark.virtual
async def test_a_monitor_knows_its_machine_by_id_or_name_or_goes_on_without() -> None:
    found = await described(Account(), "studio")
    assert found is not None
    assert (found.id, found.price, found.currency) == ("i-1", 1.25, "USD")
    assert await described(Account(), "i-2") == Machine("i-2", "lab", "stopped")
    assert await described(Account(), "attic") is None
    assert await described(Account(), None) is None
    assert await described(Account(hangs=True), "i-1") is None
    assert await described(Account(fails=True), "i-1") == Machine("i-1", "", "unknown")
    assert await described(Account(broken=True), "i-1") is None
