"""The real programs with a depot, a PC that is on or off, and one job whose account is what the engine noted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from random import Random
from types import MappingProxyType

from tests.support.faults.fault_proxy import Fault
from tests.support.faults.kill_jobs import KillJob
from tests.support.faults.kill_programs import KillHouse, kill_house
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from tests.support.programs.machine_scene import died
from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.operators.model.errors import HubRefused, WakestreamError

WITHIN = 45.0
SLOWLY = Fault(rate=20_000)
"""The files of a job then take longer than all that is done meanwhile."""


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

    @contextmanager
    def held(self) -> Iterator[None]:
        """The engine ends no work within the block: however late the PC says `stored`, there is no result yet."""
        hold = Path(f"{self.house.counts}.hold")
        hold.touch()
        yield
        hold.unlink()

    async def stores(self) -> None:
        """The PC takes the job, and is killed when the depot has its files: within `held`, before it has the result."""
        async with self.pc() as pc:
            await self.submit(pc)
            await pc.until("stored", self.job.id)

    async def finishes(self) -> None:
        """The PC is on until it has the result."""
        async with self.pc() as pc:
            assert (await ended(pc, self))["event"] == "done"

    async def notes(self, word: str, times: int = 1) -> None:
        """Returns when the engine has begun (`start`) or ended (`end`) a work so often."""
        await seen(lambda: len(self.noted(word)) >= times)

    async def kill(self, name: str) -> None:
        """Kill a program. Returns when what it takes along is gone, too, and when it (if not the worker) is back."""
        starts = {other: program.starts for other, program in self.house.programs.items()}
        assert self.house.kill(name)
        if name == "worker":
            await self.engine_gone()
            return
        if name == "depot":
            self.house.lines["depot"].break_all()  # the proxy has read ahead
        await seen(lambda: self.house.programs[name].starts > starts[name])

    async def engine_gone(self) -> None:
        """Returns when no engine that has begun is still at work."""
        for _, _, pid, _ in self.noted("start"):
            await died(int(pid))

    def noted(self, word: str) -> list[list[str]]:
        """What the engine noted of its works."""
        return [words for words in map(str.split, self.house.counts.read_text().splitlines()) if words[0] == word]

    async def delivered(self) -> None:
        """Returns when the hub says that the depot has the results."""
        async with asyncio.timeout(WITHIN):
            while not (await self._depot()).get("delivered"):  # noqa: ASYNC110 - it is another program
                await asyncio.sleep(0.1)

    async def refused(self) -> None:
        """Returns when the hub takes the PC's key no more."""
        async with asyncio.timeout(WITHIN):
            with suppress(HubRefused):
                while True:
                    await ask_hub(self.settings)
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


@asynccontextmanager
async def home_with_depot(
    folder: Path, size: str = "50MB", own: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> AsyncIterator[Home]:
    """All programs but the PC's, once monitor and depot have reached the hub.

    `own` is what single programs have in their environment; the worker has that of the monitor.
    """
    own = {**own, "monitor": {"KILL_RUN_SLOWER": "4", **own.get("monitor", {})}}
    async with kill_house(folder / "house", lambda: 0.3, depot=size, own=own) as house:
        (folder / "pc").mkdir()
        here = Home(house, folder / "pc")
        here.user.environment |= own.get("daemon", {})
        for name in ("monitor", "depot"):
            log = house.programs[name].log
            await seen(lambda log=log: log.exists() and b"connected to" in log.read_bytes())
        yield here


async def ended(pc: RunningDaemon, home: Home, job: str = "") -> dict[str, object]:
    """The last event of the job, or of another one."""
    async with asyncio.timeout(WITHIN):
        last: dict[str, object] = {}
        async for _, last in pc.events(f"/api/jobs/{job or home.job.id}/events"):  # noqa: B007
            pass
    return last
