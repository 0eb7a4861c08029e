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


async def test_a_pc_that_is_off_from_stored_on_or_killed_in_a_transfer_goes_on_and_has_its_result(home: Home) -> None:
    line = home.house.lines["depot"]
    line.set(up=SLOWLY)
    async with home.pc() as pc:
        await home.submit(pc)
        await pc.until("storing", home.job.id)
        await line.until(lambda line: line.passed["up"] > 20_000)
        await pc.kill()
    line.set(up=Fault())
    with home.held():
        async with home.pc() as pc:
            await pc.until("stored", home.job.id)
    await home.delivered()
    await home.off()
    assert not home.job.output.exists()
    before = line.passed["down"]
    line.set(down=SLOWLY)
    async with home.pc() as pc:
        await pc.until("downloading", home.job.id)
        await line.until(lambda line: line.passed["down"] > before + 10_000)
        await pc.kill()
    line.set(down=Fault())
    await home.finishes()
    home.accounts()
    assert not home.house.worker_pids


# The depot


async def test_a_depot_that_is_killed_at_each_step_loses_nothing(home: Home) -> None:
    await killed(home, "depot", "stored", "fetch", "render", "deliver")
    home.accounts()


async def test_a_depot_that_is_killed_in_the_upload_is_left_out(home: Home) -> None:
    line = home.house.lines["depot"]
    line.set(up=SLOWLY)
    async with home.pc() as pc:
        await home.submit(pc)
        await line.until(lambda line: line.passed["up"] > 20_000)
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


async def test_a_hub_that_is_killed_at_each_step_goes_on_with_the_jobs_in_its_hands(home: Home) -> None:
    await killed(home, "hub", "upload", "stored", "fetch", "render", "deliver")
    home.accounts()


async def test_a_worker_that_is_killed_at_each_step_does_the_job_again_only_without_a_result(home: Home) -> None:
    await killed(home, "worker", "fetch", "render", "deliver")
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


async def killed(home: Home, name: str, *moments: str) -> None:
    """One job through the depot, and a kill at these moments of it; the PC is off from `stored` until `delivered`."""
    line = home.house.lines["depot"]
    line.set(up=SLOWLY if "upload" in moments else None, down=SLOWLY if "fetch" in moments else None)
    with home.held():
        async with home.pc() as pc:
            await home.submit(pc)
            if "upload" in moments:
                await line.until(lambda line: line.passed["up"] > 20_000)
                await home.kill(name)
                line.set(up=Fault())
            await pc.until("stored", home.job.id)
            if "stored" in moments:
                await home.kill(name)
        before = line.passed["down"]
        if "fetch" in moments:
            await line.until(lambda line: line.passed["down"] > before + 10_000)
            await home.kill(name)
            line.set(down=Fault())
        await home.notes("start")
        if "render" in moments:
            await home.kill(name)
        line.set(up=SLOWLY)
        before = line.passed["up"]
    if "deliver" in moments:
        await line.until(lambda line: line.passed["up"] > before + 10_000)
        await home.kill(name)
    line.set(up=Fault())
    await home.delivered()
    await home.finishes()
