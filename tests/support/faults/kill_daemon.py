"""Those who submit jobs in a kill run: one daemon for all of them, killed and started again like the other programs."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import apsw
import orjson

from tests.support.faults.kill_jobs import KillJob
from tests.support.faults.kill_programs import WAKESTREAM, KillHouse, Program
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, DaemonUnreachable, open_daemon_client
from wakestream.operators.model.events import Job

Hear = Callable[[str, str], None]
"""Called with every event of a job: its id, the event's word."""

LOOK_EVERY = 0.5
MOST_OPEN = 12
ENDS = ("done", "failed", "timed_out", "cancelled")


class DaemonClients:
    """Hands jobs to the daemon; a job counts as acknowledged when the daemon has answered that it took it."""

    def __init__(self, house: KillHouse, hear: Hear) -> None:
        self.hear = hear
        folder = house.folder
        self.state = folder / "daemon"
        argv = (
            *WAKESTREAM, "daemon", "--state", str(self.state), "--hub", house.hub_url,
            "--key-file", str(folder / "client.key"),
        )  # fmt: skip
        self.program = Program("daemon", argv, house.env, folder / "daemon.log", house.programs["hub"].again)
        house.programs["daemon"] = self.program
        self._open: dict[str, KillJob] = {}
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[object]] = []
        self._stack = contextlib.AsyncExitStack()
        self._client: DaemonClient | None = None

    async def start(self) -> None:
        """Start the daemon, and follow what it says."""
        self._client = await self._stack.enter_async_context(open_daemon_client(self.state))
        self._client.patience = 3600.0
        runs = (self.program.run(), self._follow(), self._look())
        self._tasks = [asyncio.ensure_future(each) for each in runs]

    async def submit(self, job: KillJob) -> None:
        """Returns when the daemon has taken the job, however often it has to be asked."""
        while len(self._open) >= MOST_OPEN:
            self._room.clear()
            await self._room.wait()
        assert self._client is not None
        while not job.acknowledged:
            try:
                await self._client.submit(Job.lipsync(job.id, job.video, job.audio, job.output))
                job.acknowledged = True
            except (DaemonUnreachable, DaemonRefused) as error:
                job.why = str(error)
                await asyncio.sleep(0.1)
                await self._client.look()
        self._open[job.id] = job

    async def _follow(self) -> None:
        """Tell of every event that the daemon tells of."""
        assert self._client is not None
        while True:
            with contextlib.suppress(DaemonUnreachable, DaemonRefused):
                if await self._client.look() is not None:
                    async for event in self._client.events():
                        self.hear(str(event.get("job", "")), str(event.get("event", "")))
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        """Read the ends from the journal, including those without a listener."""
        assert self._client is not None
        while True:
            for job in tuple(self._open.values()):
                with contextlib.suppress(DaemonUnreachable, DaemonRefused):
                    known = await self._client.job(job.id)
                    if known.get("state") in ENDS:
                        del self._open[job.id]
                        job.over.set()
                        self._room.set()
            await asyncio.sleep(LOOK_EVERY)

    async def close(self) -> None:
        """End the daemon and everything else."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def read_ends(self, jobs: list[KillJob]) -> None:
        """What the daemon's own journal says of each job's end; the daemon no longer runs."""
        by_id = {job.id: job for job in jobs}
        for job in jobs:
            job.ends.clear()
        for plain in _facts(self.state, "JobEnded"):
            job = by_id[plain["job"]]
            job.ends.append(plain["outcome"])
            job.why = plain.get("why", "")


def _facts(state: Path, kind: str) -> list[dict[str, str]]:
    database = apsw.Connection(str(state / "outbox.sqlite3"))
    try:
        rows = list(database.execute("SELECT data FROM facts WHERE kind = ? ORDER BY seq", (kind,)))
    finally:
        database.close()
    return [orjson.loads(row[0]) for row in rows]
