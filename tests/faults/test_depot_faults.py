"""Jobs whose files go through the depot, with the real programs, of which each is killed at each step.

What the depot has acknowledged is done once, whatever is killed: the account is what the engine noted.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support.faults.fault_proxy import Fault
from tests.support.faults.kill_jobs import KillJob
from tests.support.faults.kill_programs import KillHouse, kill_house
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.operators.model.errors import WakestreamError

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="the worker is found in /proc")]

WITHIN = 45.0
SLOWLY = Fault(rate=150_000)
"""The files of a job then take some seconds."""


class Home:
    """The programs, a PC with a daemon that is on or off, and one job."""

    def __init__(self, house: KillHouse, folder: Path) -> None:
        self.house, self.user = house, User(folder, **house.env)
        key = (house.folder / "client.key").read_text()
        self.user.environment |= {
            "API_SERVER_URL": house.hub_url,
            "WAKESTREAM_KEY": key,
            "WAKESTREAM_DAEMON": str(folder / "daemon"),
        }
        self.settings = Settings(hub_url=f"ws{house.hub_url.removeprefix('http')}/dsp", key=Secret(key))
        files, random = folder / "files", Random(1)
        files.mkdir()
        self.job = KillJob("job", files / "video.mp4", files / "audio.wav", files / "out.mp4")
        self.job.video.write_bytes(random.randbytes(400_000))
        self.job.audio.write_bytes(random.randbytes(20_000))

    @asynccontextmanager
    async def pc(self) -> AsyncIterator[RunningDaemon]:
        """The PC, which is killed at the end of the block."""
        async with daemon(self.user) as pc:
            yield pc

    async def submit(self, pc: RunningDaemon) -> None:
        """The PC takes the job."""
        files = {"video": str(self.job.video), "audio": str(self.job.audio), "output": str(self.job.output)}
        status, answer = await pc.ask("POST", "/api/jobs", {"id": self.job.id, **files})
        assert status == 201, answer

    async def notes(self, word: str, times: int = 1) -> None:
        """Returns when the engine has begun (`start`) or ended (`end`) a work so often."""
        await seen(lambda: len(self.noted(word)) >= times)

    def noted(self, word: str) -> list[list[str]]:
        """What the engine noted of its works."""
        return [words for words in map(str.split, self.house.counts.read_text().splitlines()) if words[0] == word]

    async def delivered(self) -> None:
        """Returns when the hub says that the depot has the results."""
        async with asyncio.timeout(WITHIN):
            while not (await self._depot()).get("delivered"):  # noqa: ASYNC110 - it is another program
                await asyncio.sleep(0.1)

    async def _depot(self) -> dict[str, int]:
        try:
            status = await ask_hub(self.settings)
        except WakestreamError:
            return {}
        return dict(status.depot or {})

    async def off(self) -> None:
        """Returns when the GPU is off."""
        await seen(lambda: not self.house.worker_pids)

    def accounts(self, *, renders: int = 1) -> None:
        """The result is the job's own, and nothing was rendered though its result stood."""
        assert self.job.right
        assert len(self.noted("end")) == 1
        assert len(self.noted("start")) <= renders
        assert not [words for words in self.noted("start") if words[3] == "again"]
        assert not self.house.fell


async def seen(holds: Callable[[], bool]) -> None:
    """Returns when that is so; other programs do it."""
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110 - they say nothing of it
            await asyncio.sleep(0.005)


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    size = getattr(request, "param", "50MB")
    async with kill_house(tmp_path / "house", lambda: 0.3, depot=size, more={"KILL_RUN_SLOWER": "4"}) as house:
        (tmp_path / "pc").mkdir()
        here = Home(house, tmp_path / "pc")
        for name in ("monitor", "depot"):
            log = house.programs[name].log
            await seen(lambda log=log: log.exists() and b"connected to" in log.read_bytes())
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
    async with home.pc() as pc:
        assert (await ended(pc, home))["event"] == "done"
    home.accounts()


async def test_a_pc_that_is_off_from_stored_on_finds_its_result_when_it_is_back(home: Home) -> None:
    async with home.pc() as pc:
        await home.submit(pc)
        await pc.until("stored", home.job.id)
        await pc.kill()
    await home.delivered()
    await home.off()
    assert not home.job.output.exists()
    async with home.pc() as pc:
        assert (await ended(pc, home))["event"] == "done"
    home.accounts()
    assert not home.house.worker_pids


async def test_a_pc_that_is_killed_while_it_fetches_the_result_goes_on_with_it(home: Home) -> None:
    line = home.house.lines["depot"]
    async with home.pc() as pc:
        await home.submit(pc)
        await pc.until("stored", home.job.id)
        await home.notes("end")
        before = line.passed["down"]
        line.set(down=SLOWLY)
        await pc.until("downloading", home.job.id)
        await line.until(lambda line: line.passed["down"] > before + 20_000)
        await pc.kill()
    line.set(down=Fault())
    async with home.pc() as pc:
        assert (await ended(pc, home))["event"] == "done"
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
    async with home.pc() as pc:
        await home.submit(pc)
        await pc.until("stored", home.job.id)
        line.refuse()
        line.break_all()
        await pc.kill()
    tried = line.accepted
    await line.until(lambda line: line.accepted >= tried + 3)
    line.heal()
    await home.delivered()
    async with home.pc() as pc:
        assert (await ended(pc, home))["event"] == "done"
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
    async with home.pc() as pc:
        await home.submit(pc)
        await pc.until("stored", home.job.id)
        line.set(down=Fault(stall=True))
        book = LicenseBook(home.house.folder / "hub")
        book.revoke(next(one.id for one in book.all() if one.role == "client"), 1.0)
        await pc.kill()
    line.set(down=Fault())
    await home.off()
    assert home.noted("end") == []


async def at(home: Home, name: str, moment: str) -> None:
    """One job through the depot, and a kill at a moment of it; the PC is off from `stored` until `delivered`."""
    line = home.house.lines["depot"]
    async with home.pc() as pc:
        if moment == "upload":
            line.set(up=SLOWLY)
        await home.submit(pc)
        if moment == "upload":
            await line.until(lambda line: line.passed["up"] > 100_000)
            assert home.house.kill(name)
            line.set(up=Fault())
        if moment == "fetch":
            line.set(down=SLOWLY)
        before = line.passed["down"]
        await pc.until("stored", home.job.id)
        if moment == "stored":
            assert home.house.kill(name)
        await pc.kill()
    if moment == "fetch":
        await line.until(lambda line: line.passed["down"] > before + 50_000)
        assert home.house.kill(name)
        line.set(down=Fault())
    elif moment == "render":
        await home.notes("start")
        assert home.house.kill(name)
    elif moment == "deliver":
        line.set(up=SLOWLY)
        await home.notes("end")
        before = line.passed["up"]
        await line.until(lambda line: line.passed["up"] > before + 20_000)
        assert home.house.kill(name)
        line.set(up=Fault())
    await home.delivered()
    async with home.pc() as pc:
        assert (await ended(pc, home))["event"] == "done"


async def ended(pc: RunningDaemon, home: Home) -> dict[str, object]:
    """The job's last event."""
    async with asyncio.timeout(WITHIN):
        last: dict[str, object] = {}
        async for _, last in pc.events(f"/api/jobs/{home.job.id}/events"):  # noqa: B007
            pass
    return last
