"""Three GPUs and real programs: how soon jobs are done, what the machines cost, and how often they are started.

The yardstick is list scheduling that starts all machines with the first job: each job goes to the machine that is free
first. It knows how long boots and jobs take, and has neither programs nor files.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from job_queues import free_port
from timing import row

from wakestream.adapters.client.client import open_client
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.telemetry import logs
from wakestream.operators.model.events import Done, Granted, Job, JobEvent

BOOTS = {"a": 4.0, "b": 2.0, "c": 3.0}
PRICES = {"a": 1.0, "b": 2.0, "c": 4.0}
WORK, IDLE = 3.0, 5.0
SECRET = secrets.token_urlsafe(24)
RULES = ("--patience", "5s", "--min-gain", "1s", "--surplus-after", "2s")

MACHINE = """
import signal, subprocess, sys, time
log = open(sys.argv[1], "a", buffering=1)
log.write(f"on {time.time()}\\n")
worker = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
worker.wait()
log.write(f"off {time.time()}\\n")
"""
ENGINE = "import shutil, sys, time; time.sleep(float(sys.argv[1])); shutil.copy(sys.argv[2], sys.argv[4])"


class House:
    """Hub and monitors, in a folder; the machines are processes that note when they are on."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.stack, self.folder, self.hub = stack, folder, ""
        book = LicenseBook(folder / "hub")
        self.keys = {role: book.issue(role, "", time.time())[1] for role in ("client", "worker", "monitor")}
        for role, key in self.keys.items():
            (folder / f"{role}.key").touch(mode=0o600)
            (folder / f"{role}.key").write_text(key)
        (folder / ".env").write_text(f"HEYGEM_API_SECRET={SECRET}\n")
        (folder / "machine.py").write_text(MACHINE)

    async def program(self, *words: str, until: bytes, err: bool = False) -> str:
        """Start one of our programs; returns its line that has this in it."""
        command = [sys.executable, "-m", "wakestream.adapters.cli", *words, "--exit-with-stdin"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.folder)

        async def end() -> None:
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()

        self.stack.push_async_callback(end)
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        async with asyncio.timeout(60):
            async for line in streams[err]:
                if until in line:
                    break
        for stream in streams:
            reading = asyncio.create_task(stream.read())
            self.stack.callback(reading.cancel)
        return line.decode()

    async def start(self) -> None:
        """A hub, and a monitor for each machine."""
        line = await self.program("hub", "--listen", "127.0.0.1:0", "--state", "hub", *RULES, *(
            word for name, price in PRICES.items() for word in ("--price-per-hour", f"{name}={price}")
        ), until=b"ws://")  # fmt: skip
        self.hub = line.split()[-1]
        engine = shlex.join([sys.executable, "-c", ENGINE, f"{WORK:g}", "{video}", "{audio}", "{output}"])
        for name, boot in BOOTS.items():
            port = free_port()
            await self.gpu(name, port, f"http://127.0.0.1:{port}", boot, IDLE, "--command", engine)

    async def gpu(self, name: str, port: int, public: str, boot: float, idle: float, *engine: str) -> None:
        """A monitor for a machine, which is off; its worker will listen at this port, with this engine."""
        worker = (
            sys.executable, "-m", "wakestream.adapters.cli", "worker", "--listen", f"127.0.0.1:{port}", "--state",
            str(self.folder / f"worker-{name}"), "--hub", self.hub, "--key-file", str(self.folder / "worker.key"),
            "--gpu", name, "--public-url", public, "--engine", "command", *engine, "--warm-up", f"{boot:g}",
        )  # fmt: skip
        machine = (sys.executable, str(self.folder / "machine.py"), str(self.folder / f"{name}.log"), *worker)
        await self.program(
            "monitor", "--hub", self.hub, "--key-file", "monitor.key", "--gpu", name, "--worker-url",
            f"http://127.0.0.1:{port}", "--idle-after", f"{idle:g}", "--power", "process", "--program",
            shlex.join(machine), "--state", f"monitor-{name}", until=b"connected to", err=True,
        )  # fmt: skip

    def machines(self) -> dict[str, tuple[int, float]]:
        """How often each machine was started, and its seconds on."""
        found = {}
        for name in BOOTS:
            log = self.folder / f"{name}.log"
            times = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
            ends = {"on": -1.0, "off": 1.0}
            found[name] = sum(word == "on" for word, _ in times), sum(ends[word] * float(at) for word, at in times)
        return found

    async def all_off(self) -> None:
        """Returns when each machine that was on is off."""
        async with asyncio.timeout(120):
            while any(seconds < 0 for _, seconds in self.machines().values()):  # noqa: ASYNC110 - other programs stop
                await asyncio.sleep(0.2)


async def scenario(arrivals: list[float]) -> tuple[float, float, int, dict[str, int]]:
    """Seconds until all are done, what the machines cost, how often they were started, and the jobs of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            house = House(stack, folder)
            await house.start()
            settings = Settings(hub_url=house.hub, api_secret=Secret(SECRET), key=Secret(house.keys["client"]))
            client = await stack.enter_async_context(open_client(settings))
            given: dict[str, int] = dict.fromkeys(BOOTS, 0)

            def show(event: JobEvent) -> None:
                if isinstance(event, Granted) and event.gpu:
                    given[event.gpu] += 1

            async def one(number: int, after: float) -> None:
                await asyncio.sleep(after)
                video, audio = folder / f"v{number}.mp4", folder / f"a{number}.wav"
                video.write_bytes(b"video %d" % number)
                audio.write_bytes(b"audio %d" % number)
                ended = await client.run(Job.lipsync(f"job-{number}", video, audio, folder / f"o{number}.mp4"), show)
                assert isinstance(ended, Done), ended

            began = time.perf_counter()
            await asyncio.gather(*(one(number, after) for number, after in enumerate(arrivals)))
            took = time.perf_counter() - began
            await house.all_off()
            found = house.machines()
        cost = sum(PRICES[gpu] * seconds for gpu, (_, seconds) in found.items())
        return took, cost, sum(starts for starts, _ in found.values()), given


def listed(arrivals: list[float]) -> tuple[float, float]:
    """The same by list scheduling."""
    free, used = dict(BOOTS), dict.fromkeys(BOOTS, 0.0)
    for at in arrivals:
        name = min(free, key=lambda gpu: (max(free[gpu], at), PRICES[gpu]))
        free[name] = used[name] = max(free[name], at) + WORK
    return max(used.values()), sum(PRICES[name] * (end + IDLE) for name, end in used.items() if end)


async def main() -> bool:
    """Print what a burst and sparse jobs took and cost; True if the budgets hold."""
    logs.configure("ERROR")
    burst = [0.0] * 20
    took, cost, starts, given = await scenario(burst)
    best_time, best_cost = listed(burst)
    jobs = "/".join(str(given[name]) for name in BOOTS)
    held = [row(f"burst of 20, jobs {jobs}, starts {starts}: done after {took:.1f} s", took, best_time, 1.5)]
    held.append(row(f"  what the machines cost: {cost:.0f}, by list scheduling {best_cost:.0f}", cost, best_cost, 1.3))
    sparse = [number * 16.0 for number in range(5)]
    took, cost, starts, given = await scenario(sparse)
    held.append(row(f"sparse jobs: starts for each, at a cost of {cost:.0f}", starts, len(sparse), 1.2))
    return all(held)
