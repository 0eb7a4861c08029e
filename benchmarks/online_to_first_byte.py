"""From the broadcast `gpu.power.online` to the first uploaded byte, over real sockets.

Hub, worker and client share one process and one loop, so the figure holds both sides' work. Each of the 50 jobs has
files that the worker has never seen, and waits on the offline branch until a worker's connection says online.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from timing import row
from websockets.asyncio.client import ClientConnection, connect

from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.engines import Command, lipsync_program
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.telemetry import logs
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.events import Job, JobEvent, Queued, Uploading
from wakestream.streams.hub.events import Fact
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

JOBS = 50


async def one(client: Client, folder: Path, number: int, hub: str, key: str, url: str) -> float:
    """Seconds from the broadcast's arrival to the first byte that went to the worker."""
    video, audio = folder / f"v{number}.mp4", folder / f"a{number}.wav"
    video.write_bytes(os.urandom(1 << 20))
    audio.write_bytes(os.urandom(1 << 16))
    at: dict[type, float] = {}
    queued = asyncio.Event()
    sent = asyncio.Event()

    def show(event: JobEvent) -> None:
        at.setdefault(type(event), time.perf_counter())
        queued.set() if isinstance(event, Queued) else None
        sent.set() if isinstance(event, Uploading) else None

    def note(event: object) -> None:
        at.setdefault(type(event), time.perf_counter())

    heard = client.link.events.subscribe(note)
    job = Job.lipsync(f"job-{number}", video, audio, folder / "out.mp4")
    running = asyncio.create_task(client.run(job, show))
    await queued.wait()
    async with connect(hub, compression=None, max_queue=None) as worker:  # unread: the hub sends it old cancels
        await come_online(worker, key, url)
        await sent.wait()
        client.cancel(job.id)
        await running
    heard.dispose()
    return at[Uploading] - at[m.Online]


async def come_online(worker: ClientConnection, key: str, url: str) -> None:
    """What a worker says to the hub when it is ready."""
    await worker.send(wire.encode(m.Register(role="worker", token=key, gpu="gpu", url=url)))
    await worker.send(wire.encode(m.Online(gpu="gpu", url=url)))


async def main() -> bool:
    """Print median and p99; True if the budget of 10 ms holds for the median."""
    logs.configure("ERROR")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book = LicenseBook(folder / "hub")
        key, worker_key = (book.issue(role, "", time.time())[1] for role in ("client", "worker"))
        engine = Command([lipsync_program(("true", "{video}", "{audio}", "{output}"))])
        config = WorkerConfig(folder / "worker", engine, "secret", port=0)
        async with (
            open_hub(HubConfig(book), FakeJournal[Fact]()) as hub,
            running_worker(config) as worker,
            open_client(
                Settings(hub_url=hub.url, worker_url=worker.address, api_secret=Secret("secret"), key=Secret(key))
            ) as client,
        ):
            taken = [await one(client, folder, n, hub.url, worker_key, worker.address) for n in range(JOBS)]
    taken.sort()
    print(f"gpu.power.online -> first uploaded byte, {JOBS} jobs:")
    median = statistics.median(taken)
    print(f"        median {median * 1e3:.1f} ms, p99 {taken[int(0.99 * len(taken))] * 1e3:.1f} ms")
    return row("10 ms, the median", median, 0.010, 1.0)
