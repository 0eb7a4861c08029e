"""Jobs whose files go through the depot, with the real programs, of which each is killed at each step.

What the depot has acknowledged is done once, whatever is killed: the account is what the engine noted.
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.faults.depot_home import SLOWLY, Home, ended, home_with_depot
from tests.support.faults.fault_proxy import Fault
from wakestream.adapters.hub.licenses import LicenseBook

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="the worker is found in /proc")]


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    async with home_with_depot(tmp_path, getattr(request, "param", "50MB")) as here:
        yield here


# The PC


async def test_a_pc_that_is_killed_while_it_uploads_goes_on_with_the_upload_and_has_its_result(home: Home) -> None:
    line = home.house.lines["depot"]
    line.set(up=SLOWLY)
    async with home.pc() as pc:
        await home.submit(pc)
        await pc.until("storing", home.job.id)
        await line.until(lambda line: line.passed["up"] > 100_000)
        await pc.kill()
    line.set(up=Fault())
    await home.finishes()
    home.accounts()


async def test_a_pc_that_is_off_from_stored_on_finds_its_result_when_it_is_back(home: Home) -> None:
    with home.held():
        await home.stores()
    await home.delivered()
    await home.off()
    assert not home.job.output.exists()
    await home.finishes()
    home.accounts()
    assert not home.house.worker_pids


async def test_a_pc_that_is_killed_while_it_fetches_the_result_goes_on_with_it(home: Home) -> None:
    line = home.house.lines["depot"]
    async with home.pc() as pc:
        with home.held():
            await home.submit(pc)
            await home.notes("start")
            before = line.passed["down"]
            line.set(down=SLOWLY)
        await pc.until("downloading", home.job.id)
        await line.until(lambda line: line.passed["down"] > before + 20_000)
        await pc.kill()
    line.set(down=Fault())
    await home.finishes()
    home.accounts()


# The depot


@pytest.mark.parametrize("moment", ["stored", "fetch", "render", "deliver"])
async def test_a_depot_that_is_killed_loses_nothing(home: Home, moment: str) -> None:
    await at(home, "depot", moment)
    home.accounts()


async def test_a_depot_that_is_killed_in_the_upload_is_left_out(home: Home) -> None:
    line = home.house.lines["depot"]
    line.set(up=SLOWLY)
    async with home.pc() as pc:
        await home.submit(pc)
        await line.until(lambda line: line.passed["up"] > 100_000)
        assert home.house.kill("depot")
        assert (await ended(pc, home))["event"] == "done"
    home.accounts()


@pytest.mark.parametrize("home", ["30KB"], indirect=True)
async def test_a_depot_that_is_full_is_left_out(home: Home) -> None:
    async with home.pc() as pc:
        await home.submit(pc)
        assert (await ended(pc, home))["event"] == "done"
        said = await pc.until("note", home.job.id)
    assert "the depot is not used" in said["text"]
    home.accounts()


async def test_a_depot_that_takes_no_connections_is_left_out(home: Home) -> None:
    home.house.lines["depot"].refuse()
    async with home.pc() as pc:
        await home.submit(pc)
        assert (await ended(pc, home))["event"] == "done"
    home.accounts()


async def test_a_depot_that_is_unreachable_once_all_is_stored_is_waited_for(home: Home) -> None:
    line = home.house.lines["depot"]
    with home.held():
        await home.stores()
        line.refuse()
        line.break_all()
    tried = line.accepted
    await line.until(lambda line: line.accepted >= tried + 3)
    line.heal()
    await home.delivered()
    await home.finishes()
    home.accounts()


# Hub and worker


@pytest.mark.parametrize("moment", ["upload", "stored", "fetch", "render", "deliver"])
async def test_a_hub_that_is_killed_goes_on_with_the_jobs_in_its_hands(home: Home, moment: str) -> None:
    await at(home, "hub", moment)
    home.accounts()


@pytest.mark.parametrize("moment", ["fetch", "render", "deliver"])
async def test_a_worker_that_is_killed_does_the_job_again_only_without_a_result(home: Home, moment: str) -> None:
    await at(home, "worker", moment)
    home.accounts(renders=2)


async def test_a_license_that_is_revoked_when_its_files_are_stored_has_nothing_done(home: Home) -> None:
    line = home.house.lines["depot"]
    with home.held():
        await home.stores()
        line.set(down=Fault(stall=True))
        book = LicenseBook(home.house.folder / "hub")
        book.revoke(next(one.id for one in book.all() if one.role == "client"), 1.0)
        await home.refused()
        line.set(down=Fault())
        await home.engine_gone()
    await home.off()
    assert home.noted("end") == []


async def at(home: Home, name: str, moment: str) -> None:
    """One job through the depot, and a kill at a moment of it; the PC is off from `stored` until `delivered`."""
    line = home.house.lines["depot"]
    if moment == "upload":
        line.set(up=SLOWLY)
    elif moment == "fetch":
        line.set(down=SLOWLY)
    before = line.passed["down"]
    with home.held():
        async with home.pc() as pc:
            await home.submit(pc)
            if moment == "upload":
                await line.until(lambda line: line.passed["up"] > 100_000)
                await home.kill(name)
                line.set(up=Fault())
            await pc.until("stored", home.job.id)
            if moment == "stored":
                await home.kill(name)
        if moment == "fetch":
            await line.until(lambda line: line.passed["down"] > before + 50_000)
            await home.kill(name)
            line.set(down=Fault())
        elif moment == "render":
            await home.notes("start")
            await home.kill(name)
        elif moment == "deliver":
            await home.notes("start")
            line.set(up=SLOWLY)
            before = line.passed["up"]
    if moment == "deliver":
        await line.until(lambda line: line.passed["up"] > before + 20_000)
        await home.kill(name)
        line.set(up=Fault())
    await home.delivered()
    await home.finishes()
