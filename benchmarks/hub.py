"""The hub as a process, on its journal: durable submits, broadcasts, idle connections, and jobs that do nothing.

The yardsticks are processes of their own too: a minimal hub of the same parts, a bare broadcast, and others' job queues
where `make queues` has installed them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import hub_load
from timing import row

from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.runtime.rlimits import connections_allowed

HERE = Path(__file__).resolve().parent
QUEUES = HERE.parent / ".venv" / "queues" / "bin" / "python"
BUILD = HERE.parent / "build"
"""On the disk that the project is on: a folder for temporary files may be no disk at all."""

ROUNDS = 5
JOBS = 4000
CROWDS = (1000, 5000)
PER_CONNECTION = 25_000
BOOTED = b'{"type":"gpu.power.booted","status":"booted","msg":"the machine is up","gpu":"gpu"}'


class Place:
    """A folder with a hub's licenses, and what its peers register with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        book = LicenseBook(folder)
        keys = {role: book.issue(role, "", 0.0)[1] for role in ("client", "worker", "monitor")}
        self.client = json.dumps({"type": "register", "key": keys["client"]}).encode()
        worker = {"role": "worker", "token": keys["worker"], "gpu": "gpu", "url": "http://w:1"}
        self.worker = json.dumps({"type": "register", **worker}).encode()
        monitor = {"role": "gpu_monitor", "token": keys["monitor"], "gpus": ["gpu"]}
        self.monitor = json.dumps({"type": "register", **monitor}).encode()


@asynccontextmanager
async def program(*command: str | Path) -> AsyncIterator[tuple[int, int]]:
    """A server's port and process id."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *map(str, command), stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def our_hub(*database: str) -> AsyncIterator[tuple[Place, int, int]]:
    """Our hub in a fresh folder on this disk, or with its journal in a database."""
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        place = Place(Path(name))
        async with program(HERE / "our_hub.py", name, *database) as (port, pid):
            yield place, port, pid


async def with_gpu(place: Place, port: int) -> hub_load.Lean:
    """A worker that takes work."""
    worker = await hub_load.registered(port, hub_load.Lean(), place.worker)
    worker.send(b'{"type":"gpu.power.online","data":{"status":"online"}}')
    return worker


# Durable submits


async def ours(flight: int, count: int, *database: str, done: bool = False) -> tuple[float, float]:
    """Jobs per second and median seconds of our hub."""
    async with our_hub(*database) as (place, port, _):
        worker = await with_gpu(place, port)
        await hub_load.submits(port, place.client, 500, flight, "warm", done=True)
        found = await hub_load.submits(port, place.client, count, flight, "job", done=done)
        worker.close()
        return found


async def minimal(flight: int, count: int) -> tuple[float, float]:
    """The same of the minimal hub."""
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        async with program(HERE / "minimal_hub.py", Path(name) / "jobs.sqlite") as (port, _):
            register = b'{"type":"register"}'
            await hub_load.submits(port, register, 500, flight, "warm", done=False)
            return await hub_load.submits(port, register, count, flight, "job", done=False)


def medians(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The median of each."""
    rates, seconds = zip(*found, strict=True)
    return statistics.median(rates), statistics.median(seconds)


async def durable() -> bool:
    """Submit to ack, in turns with the minimal hub."""
    many, bare_many, alone, bare_alone = [], [], [], []
    for _ in range(ROUNDS):
        bare_many.append(await minimal(100, JOBS))
        many.append(await ours(100, JOBS))
        bare_alone.append(await minimal(1, JOBS // 8))
        alone.append(await ours(1, JOBS // 8))
    (rate, _), (bare_rate, _) = medians(many), medians(bare_many)
    (_, p50), (_, bare_p50) = medians(alone), medians(bare_alone)
    print("hub: durable submit to ack (SQLite, every commit synced)")
    print(f"        100 in flight: {rate:,.0f}/s, minimal hub {bare_rate:,.0f}/s")
    print(f"        one at a time: p50 {p50 * 1e3:.2f} ms, minimal hub {bare_p50 * 1e3:.2f} ms")
    fast = row("of the minimal hub's rate, 100 in flight", rate, bare_rate, 0.4, at_most=False)
    return row("of the minimal hub's p50, one at a time", p50, bare_p50, 2.0) and fast


# Jobs that do nothing


async def no_ops() -> bool:
    """Submit, grant, done, all of it durable, against others' queues."""
    found = [await ours(100, JOBS, done=True) for _ in range(3)]
    rate = statistics.median(one[0] for one in found)
    p50 = statistics.median([(await ours(1, JOBS // 8, done=True))[1] for _ in range(3)])
    accepted = statistics.median([(await ours(100, JOBS))[0] for _ in range(3)])
    print("hub: jobs that do nothing, from submit through the grant to done")
    print(f"        ours {rate:,.0f}/s with 100 in flight, p50 {p50 * 1e3:.2f} ms one at a time")
    if not QUEUES.exists():
        print("        others' queues are left out: `make queues` installs them")
        return True
    process = await asyncio.create_subprocess_exec(
        QUEUES, HERE / "job_queues.py", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    lines, said = await process.communicate()
    print("".join(f"        {line}\n" for line in said.decode().splitlines() if "left out" in line), end="")
    held = []
    for name, theirs, seconds in map(json.loads, lines.splitlines()):
        print(f"        {name}: {theirs:,.0f}/s, p50 {seconds * 1e3:.2f} ms")
        if "JetStream" in name:  # which does no more than take the message
            held.append(row(f"of the rate of {name}; ours is submit to ack", accepted, theirs, 1.0, at_most=False))
            continue
        held.append(row(f"of the rate of {name}", rate, theirs, 1.0, at_most=False))
        held.append(row(f"of the p50 of {name}", p50, seconds, 1.0))
    return all(held)


# Many connections


class Counting(hub_load.Lean):
    """Tells when all of a crowd have had a frame."""

    kind, due = b"", 0
    over: asyncio.Future[None]

    @classmethod
    def expect(cls, kind: bytes, count: int) -> None:
        """From now on, `over` is done when `count` of them have had a frame with this in it."""
        cls.kind, cls.due, cls.over = kind, count, asyncio.get_running_loop().create_future()

    def take(self, frames: list[bytes]) -> None:
        super().take(frames)
        if Counting.due and Counting.kind in self.last:
            Counting.due -= 1
            if Counting.due == 0:
                Counting.over.set_result(None)


async def crowd(ports: Sequence[int], count: int, frame: bytes | None = None) -> list[hub_load.Lean]:
    """So many connections, which register with `frame` if there is one; a hundred at a time have room in a backlog."""
    peers: list[hub_load.Lean] = []
    while len(peers) < count:
        fresh = [(ports[n % len(ports)], Counting()) for n in range(min(100, count - len(peers)))]
        opened = (hub_load.registered(*one, frame) if frame else hub_load.opened(*one) for one in fresh)
        peers += await asyncio.gather(*opened)
    return peers


async def broadcasts(peers: Sequence[hub_load.Lean], teller: hub_load.Lean) -> float:
    """Median seconds until the last of them has heard what `teller` says."""
    taken = []
    for _ in range(9):
        Counting.expect(b'"gpu.power.booted"', len(peers))
        start = time.perf_counter()
        teller.send(BOOTED)
        async with asyncio.timeout(hub_load.WITHIN):
            await Counting.over
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


async def bare_broadcast(count: int) -> float:
    """Seconds of the yardstick."""
    async with program(HERE / "bare_broadcast.py") as (port, _):
        peers = await crowd([port], count)
        teller = await hub_load.opened(port, hub_load.Lean())
        seconds = await broadcasts(peers, teller)
        for peer in (*peers, teller):
            peer.close()
        return seconds


async def our_broadcast(count: int) -> tuple[float, float, float]:
    """Our seconds, the bytes that each connection costs, and a new client's seconds from connect to ack."""
    async with our_hub() as (place, port, pid):
        teller = await hub_load.registered(port, hub_load.Lean(), place.monitor)
        worker = await with_gpu(place, port)
        first = await crowd([port], 100, place.client)
        before = memory(pid)
        peers = await crowd([port], count - len(first), place.client)
        each = (memory(pid) - before) / len(peers)
        seconds = await broadcasts([*first, *peers], teller)
        start = time.perf_counter()
        await hub_load.submits(port, place.client, 1, 1, "fresh", done=True)
        answered = time.perf_counter() - start
        for peer in (*first, *peers, worker, teller):
            peer.close()
        return seconds, each, answered


def memory(pid: int) -> int:
    """Bytes that a process has in memory; 0 where the system does not tell it this way."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def many() -> bool:
    """Broadcasts to crowds, and what each of them costs."""
    held = []
    print("hub: many connections")
    for count in CROWDS:
        if connections_allowed(count + 200) < count + 200:
            print(f"        {count} connections are left out: the limit of open files is too low")
            continue
        found = [(await bare_broadcast(count), await our_broadcast(count)) for _ in range(3)]
        bare = statistics.median(one[0] for one in found)
        seconds, each, answered = (statistics.median(column) for column in zip(*(one[1] for one in found), strict=True))
        print(f"        {count}: all have heard after {seconds * 1e3:.0f} ms, bare broadcast {bare * 1e3:.0f} ms;")
        print(f"        {each / 1e3:.1f} kB for each idle one; a new client has its ack after {answered * 1e3:.0f} ms")
        held.append(row(f"of the bare broadcast to {count}", seconds, bare, 1.3))
        held.append(row(f"of 25 kB for each of {count} connections", each, PER_CONNECTION, 1.0))
    return all(held)


async def main() -> bool:
    """Print the rows; True if every budget holds."""
    BUILD.mkdir(exist_ok=True)
    return all([await durable(), await many(), await no_ops()])
