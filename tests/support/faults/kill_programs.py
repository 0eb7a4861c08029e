"""The real programs as processes on loopback, each of which may be killed by its pid at any moment and comes back.

The worker is the monitor's child, as a GPU machine that the monitor powers; its traffic passes our proxy, narrow
enough that transfers take a while. Linux only: the worker is found by its parent in /proc.
"""

import asyncio
import contextlib
import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.support.faults.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.ports import free_port
from wakestream.adapters.disk.documents import Documents
from wakestream.adapters.hub.licenses import LicenseBook

GPU = "gpu"
RATE = 2_000_000
"""Bytes a second between clients and worker: some hundred kilobytes then take a tenth of a second."""

WAKESTREAM = (sys.executable, "-m", "wakestream.adapters.cli")
ENGINE = Path(__file__).parents[1] / "engines" / "kill_run_engine.py"


@dataclass(eq=False)
class Program:
    """One program that is always started again. `fell` counts the times that it ended by itself with an error."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    again: Callable[[], float]
    process: Process | None = None
    fell: list[str] = field(default_factory=list)
    starts: int = 0
    killed: int = 0

    async def run(self) -> None:
        """Keep it running until cancelled."""
        while True:
            kills = self.killed
            code = await self._once()
            if self.killed == kills:
                self.fell.append(f"{self.name} ended by itself with code {code}: {last_words(self.log)}")
            await asyncio.sleep(self.again())

    async def _once(self) -> int:
        with self.log.open("ab") as log:
            log.write(f"=== start {self.starts + 1} at {time.time():.3f}\n".encode())
            log.flush()
            self.process = await asyncio.create_subprocess_exec(
                *self.argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self.env),
                cwd=self.log.parent, start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        try:
            return await self.process.wait()
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    def kill(self, by: int = signal.SIGKILL) -> bool:
        """End it by this signal, by pid; False when it is not running."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.killed += 1
        self.process.send_signal(by)
        return True


def last_words(log: Path) -> str:
    """The last lines of a log, as one."""
    text = log.read_bytes()[-2000:].decode(errors="replace") if log.exists() else ""
    return " | ".join(line.strip() for line in text.splitlines()[-4:])


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


@dataclass(eq=False)
class KillHouse:
    """Hub, monitor and worker at work in `folder`; `kill(name)` kills one of them."""

    folder: Path
    env: Mapping[str, str]
    hub_url: str
    counts: Path
    programs: dict[str, Program]
    lines: Mapping[str, FaultProxy]
    kills: Counter[str] = field(default_factory=Counter)

    def kill(self, name: str, *, disk: bool = False) -> bool:
        """SIGKILL to a program by its name; False when it does not run at present. With `disk`, it loses that, too."""
        done = self._kill_worker() if name == "worker" else self.programs[name].kill()
        self.kills[name] += done
        for path in (self.folder / name).glob("*") if disk and done else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif name != "hub" or ".sqlite3" in path.name:  # the hub keeps its licenses
                path.unlink(missing_ok=True)
        return done

    @property
    def worker_pids(self) -> list[int]:
        """The worker's pid, if it runs."""
        monitor = self.programs["monitor"].process
        return children(monitor.pid) if monitor is not None and monitor.returncode is None else []

    def _kill_worker(self) -> bool:
        pids = self.worker_pids
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    @property
    def journals(self) -> list[Path]:
        """The write-ahead logs of all programs, which grow with every commit."""
        return sorted(self.folder.glob("*/*-wal")) or [self.folder / "none-wal"]

    @property
    def results(self) -> int:
        """How many whole results lie at the worker: half ones have a dot more in their names."""
        folder = self.folder / "worker" / "results"
        return sum(path.name.count(".") == 1 for path in folder.iterdir()) if folder.is_dir() else 0

    @property
    def fell(self) -> list[str]:
        """The programs that ended without a kill."""
        return [line for program in self.programs.values() for line in program.fell]


@asynccontextmanager
async def kill_house(
    folder: Path,
    again: Callable[[], float],
    *,
    hub_delay: float = 0.0,
    depot: str = "",
    own: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    journals: Sequence[str] = (),
    documents: Documents | None = None,
) -> AsyncIterator[KillHouse]:
    """All programs but the client, running for as long as the block does; at its end none is left.

    What the others send to the hub arrives `hub_delay` seconds later. With a size there is a `depot` too. `own` is
    what single programs have in their environment; the worker has that of the monitor. With `journals` there is a hub
    for each of these addresses of one database, which has the `documents`: `hub`, and then `hub-1` and so on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    book = LicenseBook(folder / "hub" if documents is None else documents)
    for role in ("client", "worker", "monitor", *(["depot"] if depot else ())):
        path = folder / f"{role}.key"
        path.touch(mode=0o600)
        path.write_text(book.issue(role, "kill run", time.time())[1])
    hub_port, worker_port, depot_port = free_port(), free_port(), free_port()
    counts = folder / "counts.txt"
    counts.touch()
    env = environment(secrets.token_urlsafe(24))
    async with fault_proxy(worker_port) as proxy, fault_proxy(hub_port) as line, fault_proxy(depot_port) as store:
        for narrow in (proxy, store):
            narrow.set(up=Fault(rate=RATE), down=Fault(rate=RATE))
        line.set(up=Fault(latency=hub_delay))
        hub_url = line.url() if hub_delay else f"http://127.0.0.1:{hub_port}"
        hubs = {"hub": ("hub", "--listen", f"127.0.0.1:{hub_port}", "--state", str(folder / "hub"))}
        if journals:
            ports = [hub_port, *(free_port() for _ in journals[1:])]
            hub_url = ",".join(f"http://127.0.0.1:{port}" for port in ports)
            for number, (port, journal) in enumerate(zip(ports, journals, strict=True)):
                name = f"hub-{number}" if number else "hub"
                state = ("--state", str(folder / name), "--journal", journal)
                hubs[name] = ("hub", "--listen", f"127.0.0.1:{port}", *state)
        arguments = {
            **hubs,
            "monitor": _monitor(folder, hub_url, worker_port, proxy.url(), counts),
        }
        if depot:
            arguments["depot"] = (
                "depot", "run", "--hub", hub_url, "--key-file", str(folder / "depot.key"), "--size", depot,
                "--state", str(folder / "depot"), "--listen", f"127.0.0.1:{depot_port}", "--public-url", store.url(),
            )  # fmt: skip
        programs = {
            name: Program(name, (*WAKESTREAM, *words), env | own.get(name, {}), folder / f"{name}.log", again)
            for name, words in arguments.items()
        }
        house = KillHouse(folder, env, hub_url, counts, programs, {"worker": proxy, "depot": store})
        running = [asyncio.create_task(program.run()) for program in programs.values()]
        try:
            yield house
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await _gone(folder)


def environment(secret: str) -> dict[str, str]:
    """The environment of all programs: without the user's own settings, and with short waits."""
    ours = ("WAKESTREAM_", "HEYGEM_", "API_SERVER_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    quick = {"POLL_EVERY": "0.1", "HEALTH_EVERY": "0.1", "LOG_LEVEL": "DEBUG", "LOST_TIMEOUT": "5"}
    return env | {f"WAKESTREAM_{name}": value for name, value in quick.items()} | {"HEYGEM_API_SECRET": secret}


def _monitor(folder: Path, hub: str, port: int, public: str, counts: Path) -> Sequence[str]:
    engine = (sys.executable, "-S", "-E", str(ENGINE), str(counts), "{video}", "{audio}", "{output}")
    worker = (
        *WAKESTREAM, "worker", "--listen", f"127.0.0.1:{port}", "--state", str(folder / "worker"), "--hub", hub,
        "--key-file", str(folder / "worker.key"), "--gpu", GPU, "--public-url", public, "--engine", "command",
        "--command", shlex.join(engine), "--spare-disk", "0", "--exit-with-stdin",
    )  # fmt: skip
    return (
        "monitor", "--hub", hub, "--key-file", str(folder / "monitor.key"), "--gpu", GPU, "--power", "process",
        "--program", shlex.join(worker), "--worker-url", f"http://127.0.0.1:{port}", "--idle-after", "3",
    )  # fmt: skip


async def _gone(folder: Path) -> None:
    """End what the killed programs left behind (a worker whose monitor is gone ends by itself, a moment later)."""
    for _ in range(100):
        left = _at_work_in(folder)
        if not left:
            return
        await asyncio.sleep(0.1)
    for pid in _at_work_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _at_work_in(folder: Path) -> list[int]:
    """Processes that run in this folder: the programs of this run, and what they have started."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found
