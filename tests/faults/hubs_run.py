"""Two real hubs on a real PostgreSQL, with faults at random while jobs go through, and accounts at the end.

    python tests/faults/hubs_run.py --faults 40 --seed 1

Hubs are killed, ended by SIGTERM, stopped and continued, cut off from the database by a proxy that passes no bytes, and
the database crashes and restarts. Meanwhile a daemon submits, and `submit --foreground` runs. No acknowledged job may
be lost, none rendered again while its result stood, each command has an end, never two hubs answer as the leader, and
at the end no job has a slot. Without `--seed` each run draws a fresh one, and prints it. After a failure the folder
with all logs is kept.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from secrets import randbelow

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.kill_run import END_WITHIN, Accounts, _pause
from tests.support.faults.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.faults.kill_daemon import DaemonClients
from tests.support.faults.kill_jobs import JobMaker
from tests.support.faults.kill_programs import WAKESTREAM, KillHouse, kill_house
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.programs.client_scene import UNPROBED
from wakestream.streams.hub import events as f
from wakestream.streams.hub.hub import DECIDER, HubState
from wakestream.streams.recording.facts_json import FactsJson

FAULTS = ("kill", "term", "stop", "up", "down", "both", "crash", "restart")
FREE_WITHIN = 90.0
"""Seconds within which the last slots are freed: the hub asks the worker, or waits for a job that never came there."""


@dataclass
class HubAccounts(Accounts):
    """As of a kill run. `led_twice`, `held` and `endless` are to be empty, too."""

    answers: dict[str, int] = field(default_factory=dict)
    terms: int = 0
    commands: int = 0
    led_twice: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that should not be."""
        return [*super().faults, *self.led_twice, *self.held, *self.endless]


@dataclass
class Row:
    """Answers of one hub as the leader, with none between them that it stands by: when each was asked for and came."""

    hub: str
    answers: list[tuple[float, float]]


class Watch:
    """Asks each hub all the time whether it leads, and finds two that did at one moment.

    That is proven when a hub that had answered as the leader does so again, without having said meanwhile that it
    stands by, and another one was asked and answered as the leader in between.
    """

    def __init__(self, cluster: str = "") -> None:
        self.cluster = cluster
        self.rows: list[Row] = []
        self.now: dict[str, Row] = {}
        self.counts: Counter[str] = Counter()

    def note(self, hub: str, asked: float, came: float, status: int | None) -> None:
        """An answer; None for a connection that was refused or cut."""
        self.counts[f"{hub} {status}"] += 1
        if status == 200:
            if hub not in self.now:
                self.rows.append(Row(hub, []))
                self.now[hub] = self.rows[-1]
            self.now[hub].answers.append((asked, came))
        elif status in (503, None):
            self.now.pop(hub, None)

    def twice(self) -> list[str]:
        """Each moment at which two hubs led."""
        found = []
        for row, other in itertools.permutations(self.rows, 2):
            first, last = row.answers[0], row.answers[-1]
            within = [end for began, end in other.answers if first[1] <= began and end <= last[0]]
            if row.hub != other.hub and row.answers[0] < other.answers[0] and within:
                found.append(f"{row.hub} and {other.hub} both led for {last[0] - within[0]:.3f} s at {within[0]:.3f}")
        return found

    async def ask(self, hub: str, url: str, number: int) -> None:
        """Ask one hub until cancelled, from an address of its own: the hub limits how often one may connect."""
        for turn in itertools.count():
            source = (f"127.0.{10 + number}.{1 + turn % 200}", 0)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=source)) as session:
                asked = time.monotonic()
                try:
                    async with session.get(f"{url}/", timeout=aiohttp.ClientTimeout(8)) as answer:
                        ours = answer.headers.get("Wakestream-Cluster", self.cluster) == self.cluster
                        # Another program may have the port while ours does not run.
                        self.note(hub, asked, time.monotonic(), answer.status if ours else None)
                except TimeoutError:
                    self.note(hub, asked, time.monotonic(), 0)
                except (OSError, aiohttp.ClientError):
                    self.note(hub, asked, time.monotonic(), None)
            await asyncio.sleep(0.02)


class HubsRun:
    """One run: jobs are submitted and faults made, and then all is waited for."""

    def __init__(
        self, folder: Path, seed: int, faults: int, say: Callable[[str], None], server: PostgresServer
    ) -> None:
        self.folder, self.faults, self.say, self.server = folder, faults, say, server
        self.random, self.accounts = Random(seed), HubAccounts(seed)
        self.watch, self.made = Watch(), Counter[str]()
        self.online = asyncio.Event()

    async def run(self) -> HubAccounts:
        """The accounts, after everything has ended."""
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments

        began, address = time.monotonic(), self.server.database()
        async with fault_proxy(self.server.port) as one, fault_proxy(self.server.port) as two:
            self.lines = {"hub": one, "hub-1": two}
            journals = [address.replace(str(self.server.port), str(line.port)) for line in (one, two)]
            documents = PostgresDocuments(address)
            pauses = lambda: self.random.choice((0.0, 0.3, 1.0))  # noqa: E731 - one word for one argument
            async with kill_house(self.folder, pauses, journals=journals, documents=documents) as house:
                await self._with(house, address)
        self.accounts.seconds = round(time.monotonic() - began, 1)
        return self.accounts

    async def _with(self, house: KillHouse, address: str) -> None:
        clients, stop = DaemonClients(house, self._hear), asyncio.Event()
        self.watch.cluster = await asyncio.to_thread(self.server.sql, address, "SELECT id FROM wakestream.meta")
        urls = dict(zip(self.lines, house.hub_url.split(","), strict=True))
        watching = [asyncio.create_task(self.watch.ask(*hub, n)) for n, hub in enumerate(urls.items())]
        makers = [JobMaker(self.folder / name, Random(self.random.random())) for name in ("files", "foreground")]
        await clients.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._submit(clients, makers[0], stop))
                group.create_task(self._foreground(house, makers[1], stop))
                await self._faults(house)
                stop.set()
            jobs = makers[0].jobs + makers[1].jobs
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN):
                    await asyncio.gather(*(job.over.wait() for job in jobs))
            self.accounts.held = await self._held(address)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await clients.close()
        clients.read_ends(makers[0].jobs)
        books = self.accounts
        books.kills, books.answers = dict(self.made), dict(self.watch.counts)
        books.terms, books.led_twice = len(self.watch.rows), self.watch.twice()
        books.count_jobs(jobs)
        books.count_renders(house.counts.read_text().splitlines(), jobs)
        # A hub that starts while its database is away ends, and is started again.
        books.fell = [line for line in dict.fromkeys(house.fell) if "cannot be opened: connection" not in line]

    def _hear(self, _: str, word: str) -> None:
        if word in ("running", "submitted"):
            self.online.set()

    async def _submit(self, clients: DaemonClients, maker: JobMaker, stop: asyncio.Event) -> None:
        random = Random(self.random.random())
        while not stop.is_set():
            await clients.submit(maker.new())
            await _pause(random.uniform(0.2, 1.5), stop)

    async def _foreground(self, house: KillHouse, maker: JobMaker, stop: asyncio.Event) -> None:
        """Run one command after the other. Each must end, and with its result."""
        while not stop.is_set():
            job = maker.new()
            job.id = f"foreground-{job.id}"
            with (house.folder / f"{job.id}.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *WAKESTREAM, "submit", str(job.video), str(job.audio), "-o", str(job.output), "--foreground",
                    "--job-id", job.id, "--hub", house.hub_url, "--key-file", str(house.folder / "client.key"),
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env={**house.env, **UNPROBED},
                    cwd=house.folder,
                )  # fmt: skip
            try:
                async with asyncio.timeout(END_WITHIN):
                    code = await process.wait()
            except TimeoutError:
                self.accounts.endless.append(f"{job.id} has no end")
                process.kill()
                code = await process.wait()
            self.accounts.commands += 1
            job.acknowledged, job.why = True, f"code {code}"
            job.ends = ["done" if code == 0 else f"code {code}"]
            job.over.set()

    async def _faults(self, house: KillHouse) -> None:
        await self.online.wait()
        for number in range(1, self.faults + 1):
            await _pause(self.random.uniform(0.0, 3.0))
            await self._leads()
            # Mostly the leader: what is done to the other one is of less interest.
            leader = max(self.watch.now, key=lambda hub: self.watch.now[hub].answers[-1], default="hub")
            hub = leader if self.random.random() < 0.8 else self.random.choice([*self.lines])
            fault = self.random.choice(FAULTS)
            await self._fault(house, fault, hub, self.random.uniform(0.2, 6.0))
            self.made[f"{fault} of {'the leader' if hub == leader else 'the other'}"] += 1
            if number % 10 == 0:
                self.say(f"{number} faults, {self.watch.twice() or 'never two leaders'}")
        await self._leads()

    async def _leads(self) -> None:
        """Return when some hub answers as the leader."""
        async with asyncio.timeout(60):
            while not self.watch.now:
                await _pause(0.02)

    async def _fault(self, house: KillHouse, fault: str, hub: str, seconds: float) -> None:
        program, line = house.programs[hub], self.lines[hub]
        if fault in ("kill", "term"):
            program.kill(signal.SIGKILL if fault == "kill" else signal.SIGTERM)
        elif fault == "stop" and program.process is not None and program.process.returncode is None:
            process = program.process
            process.send_signal(signal.SIGSTOP)
            await _pause(seconds)
            process.send_signal(signal.SIGCONT)
        elif fault in ("up", "down", "both"):
            await self._cut(line, fault, seconds)
        elif fault in ("crash", "restart"):
            await asyncio.to_thread(self.server.stop, "immediate" if fault == "crash" else "fast")
            await _pause(seconds / 6)
            await asyncio.to_thread(self.server.start)

    async def _cut(self, line: FaultProxy, way: str, seconds: float) -> None:
        silent = Fault(swallow=True) if self.random.random() < 0.5 else Fault(stall=True)
        line.set(*(silent if way in (one, "both") else None for one in ("up", "down")))
        await _pause(seconds)
        line.heal()
        line.break_all()  # swallowed bytes leave no connection that could go on

    async def _held(self, address: str) -> list[str]:
        """The jobs that have a slot after all have ended, when that stays so."""
        until, held = time.monotonic() + FREE_WITHIN, list[str]()
        while time.monotonic() < until:
            state = await asyncio.to_thread(_state, address)
            held = [f"{job.id} holds a slot of {job.gpu} at the end" for job in state.jobs.values()]
            if not held:
                break
            await asyncio.sleep(0.5)
        return held


def _state(address: str) -> HubState:
    """The hub's state as the journal has it."""
    from wakestream.adapters.disk.postgres_store import PostgresStore

    rows: FactsJson[f.Fact] = FactsJson(f.Fact, "")  # type: ignore[arg-type]
    with contextlib.closing(PostgresStore(address)) as store:
        store.follow()
        state = DECIDER.restore(store.restore(), HubState())
        for row in store.read():
            DECIDER.evolve(state, rows.fact(row))
    return state


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--seed", type=int, help="of an earlier run, to run it again (default: a fresh one)")
    parser.add_argument("--folder", type=Path, help="where the programs keep their state (default: a temporary one)")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="wakestream-hubs-"))
    seed = randbelow(2**31) if args.seed is None else args.seed
    again = f"tests/faults/hubs_run.py --faults {args.faults} --seed {seed}"
    _say(again)
    with postgres_server() as server:
        accounts = asyncio.run(HubsRun(folder, seed, args.faults, _say, server).run())
    told: Mapping[str, object] = asdict(accounts)
    _say(json.dumps(told, indent=2))
    if accounts.faults:
        _say(f"{len(accounts.faults)} faults; everything is kept in {folder}; to run it again: {again}")
        return 1
    if args.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
