"""Kills the real programs at random and at chosen moments while jobs go through, and makes accounts at the end.

    python tests/faults/kill_run.py --kills 300 --hub-delay 0.3 --depot --seed 1

Every acknowledged job has to end exactly once, as done, with its own result: none lost, none rendered again while its
first result still stood. With `--depot` jobs that wait for the GPU go through one. With `--disks` some of the killed
programs but the daemon come back without what they had stored.
Without `--seed` each run draws a fresh one, and prints it. After a failure the folder with
all logs is kept.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from secrets import randbelow

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.faults.kill_daemon import DaemonClients
from tests.support.faults.kill_jobs import JobMaker, KillJob
from tests.support.faults.kill_programs import KillHouse, kill_house
from tests.support.programs import fork_server

MOMENTS = ("random", "ack", "upload", "render", "rendered", "named", "download", "commit")
OF_DEPOT = ("stored", "remote", "delivered")
"""When a kill comes: at any time, or right after one of these is seen; the latter with a depot."""

_SEEN = {
    "granted": "ack", "queued": "ack", "uploading": "upload", "running": "render", "downloading": "download",
    "submitted": "render", "storing": "upload", "stored": "stored", "remote": "remote", "delivered": "delivered",
}  # fmt: skip
DISKS = ("hub", "worker", "depot")
"""The programs that may lose their disks."""

AIM_WITHIN = 3.0
"""Seconds that a kill waits for its moment; then it comes anyhow."""

IN_A_ROW = 3
"""Workers that are killed before one has come up: a GPU that fails to start five times in a row ends a job."""

END_WITHIN = 200.0
"""Seconds for the remaining jobs after the last kill."""


@dataclass
class Accounts:
    """What a run came to. `lost`, `doubled`, `wrong`, `unseen`, `fell`, `left_on` and `passed_by` are to be empty.

    `works` are the different pairs of files of the jobs. `unseen` are the jobs that are done though the engine, as it
    says, never began their work: then `doubled` is blind. `stored` are the jobs whose files went through the depot.
    """

    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    moments: dict[str, int] = field(default_factory=dict)
    submitted: int = 0
    acknowledged: int = 0
    done: int = 0
    stored: int = 0
    lost: list[str] = field(default_factory=list)
    ended_twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    works: int = 0
    renders_begun: int = 0
    renders_ended: int = 0
    fell: list[str] = field(default_factory=list)
    left_on: list[str] = field(default_factory=list)
    passed_by: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    @property
    def faults(self) -> list[str]:
        """All that should not be."""
        return [
            *self.lost, *self.ended_twice, *self.wrong, *self.doubled, *self.unseen, *self.fell, *self.left_on,
            *self.passed_by,
        ]  # fmt: skip

    def count_jobs(self, jobs: Sequence[KillJob]) -> None:
        """How the jobs ended, and with which result."""
        self.submitted = len(jobs)
        promised = [job for job in jobs if job.acknowledged]
        self.acknowledged = len(promised)
        self.done = sum(job.ends == ["done"] and job.right for job in promised)
        self.lost = [f"{job.id} is lost: {job.ends} {job.why}" for job in promised if "done" not in job.ends]
        self.ended_twice = [f"{job.id} ended as {job.ends}" for job in promised if len(job.ends) > 1]
        self.wrong = [f"{job.id} has a wrong result" for job in promised if "done" in job.ends and not job.right]

    def count_stored(self, stored: Collection[str]) -> None:
        """How many jobs went through the depot; some must."""
        self.stored = len(stored)
        self.passed_by = [] if stored else ["no job went through the depot"]

    def count_renders(self, lines: Sequence[str], jobs: Sequence[KillJob]) -> None:
        """What the engine noted: the renders of each work, and which of them it began though the result stood."""
        starts = [words for words in map(str.split, lines) if words[0] == "start"]
        begun = Counter(work for _, work, _, _ in starts)
        self.works, self.renders_begun = len({job.work for job in jobs}), begun.total()
        self.renders_ended = len(lines) - len(starts)
        again = Counter(work for _, work, _, stood in starts if stood == "again")
        self.doubled = [f"{work} was rendered {count} times though its result stood" for work, count in again.items()]
        self.unseen = [f"{job.id} is done, and was not rendered" for job in jobs if job.right and job.work not in begun]


class Ears:
    """Hears what the jobs go through, and lets a kill wait for a moment; `killed` workers since one was seen online."""

    def __init__(self) -> None:
        self.killed = 0
        self.stored: set[str] = set()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def hear(self, job: str, word: str) -> None:
        """An event of a job."""
        if word == "stored":
            self.stored.add(job)
        if word == "online":
            self.killed = 0
        for waiter in self._waiting.pop(_SEEN.get(word, ""), ()):
            if not waiter.done():
                waiter.set_result(None)

    async def moment(self, name: str) -> bool:
        """Returns at the next moment of this name; False when none came in time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, []).append(waiter)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AIM_WITHIN):
                await waiter
                return True
        return False


class KillRun:
    """One run: jobs are submitted, programs killed, and then all is waited for."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        kills: int,
        hub_delay: float,
        say: Callable[[str], None],
        *,
        depot: bool = False,
        disks: bool = False,
    ) -> None:
        self.folder, self.kills, self.hub_delay, self.say = folder, kills, hub_delay, say
        self.depot, self.disks = depot, disks
        self.random = Random(seed)
        self.accounts = Accounts(seed)
        self.moments: Counter[str] = Counter()
        self.ears = Ears()

    async def run(self) -> Accounts:
        """The accounts, after everything has ended."""
        began = time.monotonic()
        pauses = (0.0, 0.0, 0.3, 1.0)
        async with kill_house(
            self.folder,
            lambda: self.random.choice(pauses),
            hub_delay=self.hub_delay,
            depot="1GB" if self.depot else "",
        ) as house:
            clients = DaemonClients(house, self.ears.hear)
            await clients.start()
            maker = JobMaker(self.folder / "files", Random(self.random.random()))
            stop = asyncio.Event()
            try:
                async with asyncio.TaskGroup() as group:  # a submit that fails ends the run
                    group.create_task(self._submit(clients, maker, stop))
                    await self._kill(house)
                    stop.set()
                await self._settle(house, maker.jobs)
            finally:
                await clients.close()
            clients.read_ends(maker.jobs)
            self._account(house, maker.jobs)
        self.accounts.seconds = round(time.monotonic() - began, 1)
        return self.accounts

    async def _submit(self, clients: DaemonClients, maker: JobMaker, stop: asyncio.Event) -> None:
        random = Random(self.random.random())
        while not stop.is_set():
            await clients.submit(maker.new())
            # Sometimes there is no job for long enough that the GPU is switched off.
            await _pause(6.0 if random.random() < 0.02 else random.uniform(0.0, 0.5), stop)

    async def _kill(self, house: KillHouse) -> None:
        await self.ears.moment("render")
        killed = 0
        while killed < self.kills:
            moment = self.random.choice((*MOMENTS, *OF_DEPOT) if self.depot else MOMENTS)
            names = ("hub", "monitor", "worker", "worker", "daemon", "daemon")
            name = self.random.choice((*names, "depot") if self.depot else names)
            if not await self._aim(moment, house):
                moment = "random"
            await _pause(self.random.choice((0.0, 0.0, self.random.uniform(0.0, 0.05))))
            spared = name == "worker" and self.ears.killed >= IN_A_ROW
            disk = self.disks and name in DISKS and self.random.random() < 0.5
            if spared or not house.kill(name, disk=disk):
                await _pause(0.1)
                continue
            killed += 1
            self.ears.killed += name in ("worker", "monitor")
            self.moments[f"{name}{' and its disk' * disk} in {moment}"] += 1
            if killed % 25 == 0:
                self.say(f"{killed} kills: {dict(house.kills)}")
            await _pause(self.random.uniform(0.0, 2.0))

    async def _aim(self, moment: str, house: KillHouse) -> bool:
        if moment == "random":
            await _pause(self.random.uniform(0.0, 1.0))
            return True
        if moment == "commit":
            return await _growth(self.random.choice(house.journals))
        if moment == "rendered":
            return await _growth(house.counts, b"end ")
        if moment == "named":
            return await _more(lambda: house.results)
        return await self.ears.moment(moment)

    async def _settle(self, house: KillHouse, jobs: list[KillJob]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN):
                await asyncio.gather(*(job.over.wait() for job in jobs))
                # No lease may be left over: the idle GPU goes to sleep.
                while house.worker_pids:
                    await _pause(0.2)

    def _account(self, house: KillHouse, jobs: list[KillJob]) -> None:
        books = self.accounts
        books.kills, books.moments = dict(house.kills), dict(self.moments)
        books.count_jobs(jobs)
        if self.depot:
            books.count_stored(self.ears.stored)
        books.count_renders(house.counts.read_text().splitlines(), jobs)
        books.fell = [*dict.fromkeys(house.fell)]
        if house.worker_pids:
            books.left_on = ["the GPU is still on and no job holds it"]


async def _pause(seconds: float, stop: asyncio.Event | None = None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (stop or asyncio.Event()).wait()


async def _growth(log: Path, line: bytes = b"") -> bool:
    """Returns when something is written to the file: a commit that begins, or a `line` that starts so."""
    before, until = _stamp(log), time.monotonic() + AIM_WITHIN
    while time.monotonic() < until:
        if (now := _stamp(log)) != before:
            if not line or log.read_bytes()[before[1] :].startswith(line):
                return True
            before = now
        await asyncio.sleep(0.001)  # fine enough to hit the sync that follows the write
    return False


async def _more(count: Callable[[], int]) -> bool:
    """Returns when there are more of them: a result has its name, and the worker has not kept yet that it is done."""
    before, until = count(), time.monotonic() + AIM_WITHIN
    while time.monotonic() < until:
        if count() > before:
            return True
        await asyncio.sleep(0.001)
    return False


def _stamp(log: Path) -> tuple[int, int]:
    try:
        stat = log.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, help="of an earlier run, to run it again (default: a fresh one)")
    parser.add_argument("--hub-delay", type=float, default=0.0, help="seconds until the hub gets what it is sent")
    parser.add_argument("--depot", action="store_true", help="jobs that wait go through a depot, which is killed too")
    parser.add_argument("--disks", action="store_true", help="some programs that are killed lose their disks, too")
    parser.add_argument("--folder", type=Path, help="where the programs keep their state (default: a temporary one)")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="wakestream-kill-"))
    seed = randbelow(2**31) if args.seed is None else args.seed
    again = f"tests/faults/kill_run.py --kills {args.kills} --hub-delay {args.hub_delay:g} --seed {seed}"
    again += " --depot" * args.depot + " --disks" * args.disks
    _say(again)
    fork_server.install()
    run = KillRun(folder, seed, args.kills, args.hub_delay, _say, depot=args.depot, disks=args.disks)
    accounts = asyncio.run(run.run())
    fork_server.close()
    _say(json.dumps(asdict(accounts) | {"killed": accounts.killed}, indent=2))
    if accounts.faults:
        _say(f"{len(accounts.faults)} faults; everything is kept in {folder}; to run it again: {again}")
        return 1
    if args.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
