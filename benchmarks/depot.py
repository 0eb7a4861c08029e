"""With and without a depot: seconds of a GPU for a job, and from its submit to its result; files into the depot.

Real programs. The PC's lines, to the worker and to the depot, have 20 Mbit/s up and 50 Mbit/s down together, those of
the worker 1 Gbit/s. Bytes, boot and work are a part of 100 MB in, 50 MB out, 20 s and 10 s; what the programs take
themselves, as a job of some bytes shows it, counts as the same part. A machine's idle time does not count. Both ways
run at the same time, so that a busy machine slows both. Linux: the PC has an address of its own there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import aiohttp
import several_gpus as base
from blake3 import blake3
from hub import program
from job_queues import free_port
from many_files import manifest
from timing import MEMORY, row

from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.client.depot import DepotWallet, put
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.depot.builtin import BuiltinDepot
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.telemetry import logs
from wakestream.operators.model.depot import DepotFile, Place
from wakestream.operators.model.events import Done, FileRef, Fingerprint, Job, Queued, Stored
from wakestream.streams.protocol import depot_messages as d

SCALE = 0.5
UP, DOWN, LAN = 20e6 / 8, 50e6 / 8, 1e9 / 8
BOOT, WORK, IDLE = 20.0 * SCALE, 10.0 * SCALE, 1.0
IN = int(100e6 * SCALE)
PC = "127.0.0.2"
"""Where the connections of the PC come from."""

HELD = 32 * 1024
"""Bytes that the PC's line may have on the way."""

ROUNDS = 3
FILES, SMALL = 64, 32 * 1024
BULK, TURNS = 200_000_000, 5

ENGINE = """
import sys, time
time.sleep(float(sys.argv[1]))
with open(sys.argv[3], "rb") as first, open(sys.argv[2], "wb") as made:
    made.write(first.read()[::-1])
"""
KINDS = {"half": (2, WORK), "many": (FILES, 0.0), "one": (1, 0.0)}
"""How many files a kind of work takes, and its seconds. Its result is its first file, from its end to its begin."""

STORE = """
import asyncio, sys
from pathlib import Path
from wakestream.adapters.engines import Command, lipsync_program
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker

async def main(folder, secret, public):
    more = {"gpu": "depot", "depot": 1 << 40} if public else {}
    engine = Command(() if public else [lipsync_program(("true", "{video}", "{audio}", "{output}"))])
    async with running_worker(WorkerConfig(Path(folder), engine, secret, port=0, **more)) as server:
        if public:
            server.server.calls.verifier.pin(public)
        print(server.address.rpartition(':')[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(*sys.argv[1:]))
"""


class Limit:
    """So many bytes a second, for all connections together."""

    def __init__(self, rate: float) -> None:
        self.rate, self.free = rate, 0.0

    async def take(self, count: int) -> None:
        """Returns when these bytes may be sent."""
        now = time.monotonic()
        self.free = max(self.free, now) + count / self.rate
        if self.free - now > 0.002:
            await asyncio.sleep(self.free - now)


class Lines:
    """Proxies whose callers share their lines: the PC has its own, all others are in the GPU's network."""

    def __init__(self) -> None:
        self.limits = {True: (Limit(UP), Limit(DOWN)), False: (Limit(LAN), Limit(LAN))}

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[str]:
        """The address of a proxy to this port."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pc = writer.get_extra_info("peername")[0] == PC
            up, down = self.limits[pc]
            if pc:  # a line holds little: else megabytes would seem to be sent
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD)
            try:
                far, back = await asyncio.open_connection("127.0.0.1", port, limit=HELD)
            except OSError:
                writer.transport.abort()
                return
            ways = (_pump(reader, back, up), _pump(far, writer, down))
            await asyncio.gather(*ways, return_exceptions=True)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=HELD)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: Limit) -> None:
    try:
        while data := await reader.read(1 << 16):
            await limit.take(len(data))
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class House(base.House):
    """Hub, one monitor, and a depot if there is one to be."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        super().__init__(stack, folder)
        self.lines = Lines()
        (folder / "depot.key").touch(mode=0o600)
        (folder / "depot.key").write_text(LicenseBook(folder / "hub").issue("depot", "", time.time())[1])

    async def begin(self, *, depot: bool) -> None:
        """Start all; the machine is off."""
        worker, store = free_port(), free_port()
        outside = await self.stack.enter_async_context(self.lines.to(worker))
        line = await self.program("hub", "--listen", "127.0.0.1:0", "--state", "hub", until=b"ws://")
        self.hub = line.split()[-1]
        if depot:
            public = await self.stack.enter_async_context(self.lines.to(store))
            await self.program(
                "depot", "run", "--hub", self.hub, "--key-file", "depot.key", "--state", "depot", "--size", "10GB",
                "--listen", f"127.0.0.1:{store}", "--public-url", public, until=b"connected to", err=True,
            )  # fmt: skip
        engine = self.folder / "engine.py"
        engine.write_text(ENGINE)
        commands = {
            kind: (count, (sys.executable, str(engine), f"{seconds:g}", "{out:made}"))
            for kind, (count, seconds) in KINDS.items()
        }
        (self.folder / "kinds.toml").write_text(manifest(commands))
        kinds = ("--engine-option", f"manifest={self.folder / 'kinds.toml'}")
        await self.gpu("gpu", worker, outside, BOOT, IDLE, *kinds)

    async def off(self) -> float:
        """Returns when the machine is off: the seconds that it was on for the last time."""
        log = self.folder / "gpu.log"
        async with asyncio.timeout(120):
            while not (lines := log.read_text().split("\n")[:-1]) or not lines[-1].startswith("off"):  # noqa: ASYNC110 - it is another program
                await asyncio.sleep(0.1)
        begin, end = (float(line.split()[1]) for line in lines[-2:])
        return end - begin


Measured = tuple[list[tuple[float, float]], dict[str, float]]


async def through(before: asyncio.Task[Measured] | None = None) -> Measured:
    """For each job, from off to off: seconds of the GPU without its idle time, and from submit to result.

    With a depot, after the task `before`, also how long the upload of many files takes, and that of one file of their
    size.
    """
    depot = before is not None
    found, sent = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            house = House(stack, folder)
            await house.begin(depot=depot)
            settings = Settings(hub_url=house.hub, api_secret=Secret(base.SECRET), key=Secret(house.keys["client"]))
            client = await stack.enter_async_context(open_client(settings))
            for size in [10_000] + [IN] * ROUNDS:  # the hub learns from the first job how long boots take
                times = await run(client, folder, "half", size)
                assert (Stored in times) == depot, "the job did not go the way that is measured"
                found.append((await house.off() - IDLE, times[Done] - times[Queued]))
            if before is not None:
                await asyncio.wait([before])
            for kind in ("one", "many") if depot else ():
                times = await run(client, folder, kind, FILES * SMALL)
                sent[kind] = times[Stored] - times[Queued]
                await house.off()
    (paid, took), *measured = found
    raw = ", ".join(f"{seconds:.1f} and {total:.1f} s" for seconds, total in found)
    print(
        f"        GPU, and result, {'with' if depot else 'without'} a depot: {raw}; the first job has some bytes only"
    )
    own_paid, own_took = ((1 - SCALE) * (seconds - BOOT - WORK) for seconds in (paid, took))
    return [(paid - own_paid, took - own_took) for paid, took in measured], sent


async def run(client: Client, folder: Path, kind: str, size: int) -> dict[type, float]:
    """Run a job with so many bytes to its end; returns when each of its events came first."""
    count, name = KINDS[kind][0], f"job-{time.time_ns()}"
    inputs = {f"f{n}": folder / f"{name}-{n}.bin" for n in range(count)}
    for path in inputs.values():
        path.write_bytes(os.urandom(size // count))
    times: dict[type, float] = {}
    ended = await client.run(
        Job(name, inputs, {"made": folder / f"{name}.bin"}, kind),
        lambda event: times.setdefault(type(event), time.time()),
    )
    assert isinstance(ended, Done), ended
    return times


@contextmanager
def pc() -> Any:
    """Connections of this process come from the PC's address."""
    usual = aiohttp.TCPConnector.__init__
    aiohttp.TCPConnector.__init__ = partialmethod(usual, local_addr=(PC, 0))  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        aiohttp.TCPConnector.__init__ = usual  # type: ignore[method-assign]


async def ingest() -> tuple[float, float]:
    """Seconds for a large file into a worker, and into a depot: the best of some turns, without a proxy."""
    taken: tuple[list[float], list[float]] = [], []
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        source = Path(name) / "source.bin"
        for _ in range(TURNS):
            source.write_bytes(os.urandom(BULK))
            digest = blake3(source.read_bytes()).hexdigest()
            file = Fingerprint(source, BULK, source.stat().st_mtime_ns, {"blake3": digest})
            for is_depot, times in enumerate(taken):
                times.append(await _sent(Path(name), file, FileRef(digest, file.ext), is_depot=bool(is_depot)))
    return min(taken[0]), min(taken[1])


async def _sent(folder: Path, file: Fingerprint, ref: FileRef, *, is_depot: bool) -> float:
    signer, wallet = Signer.fresh(), DepotWallet()
    async with _store(folder, signer.public if is_depot else "") as url:
        http = HttpWorkers(url, base.SECRET)
        steps: AsyncIterator[object] = http.at(None).upload(file, ref)
        if is_depot:
            hub = BuiltinDepot(lambda: (url, "depot"), signer)
            await hub.open("me", [d.DepotFile(name="f", blake3=ref.hash, ext=ref.ext, size=file.size)])
            token, until = hub.permission("me", "j", time.time())["capability"], int(time.time() + 900)
            wallet.feed(d.DepotPlaces(request_id="j", capability=token, expires=until))
            steps = put(http, wallet, file, Place(DepotFile("f", ref.hash, ref.ext, file.size), "j", depot=url))
            await hub.close()
        begin = time.perf_counter()
        async for _ in steps:
            pass
        took = time.perf_counter() - begin
        await http.close()
    return took


@asynccontextmanager
async def _store(folder: Path, public: str) -> AsyncIterator[str]:
    """The address of a worker or, with the hub's key, of a depot."""
    with tempfile.TemporaryDirectory(dir=folder) as state:
        async with program("-c", STORE, state, base.SECRET, public) as (port, _):
            yield f"http://127.0.0.1:{port}"


async def main() -> bool:
    """Print the ratios; True if the budgets hold."""
    logs.configure("ERROR")
    print("a job with a depot, against the same without one; the PC sends 2.5 MB/s")
    with pc():
        without = asyncio.create_task(through())
        (stored, sent), (direct, _) = await through(without), await without
    (paid, took), (paid_with, took_with) = (
        [statistics.median(each) for each in zip(*way, strict=True)] for way in (direct, stored)
    )
    held = [row(f"seconds of the GPU: {paid_with:.1f} against {paid:.1f}", paid_with, paid, 0.45)]
    held.append(row(f"seconds from submit to result: {took_with:.1f} against {took:.1f}", took_with, took, 0.85))
    held.append(row(f"{FILES} files of {SMALL} bytes into the depot", sent["many"], sent["one"], 2.0))
    to_worker, to_depot = await ingest()
    text = f"{BULK / 1e6:.0f} MB into the depot: {BULK / to_depot / 1e6:.0f} MB/s, into the worker"
    held.append(row(f"{text} {BULK / to_worker / 1e6:.0f} MB/s", to_depot, to_worker, 1 / 0.9))
    return all(held)
