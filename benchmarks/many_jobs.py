"""What one more job costs the daemon with ten thousand others, against a hundred; and the memory of a waiting job."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hub import memory as memory_of
from timing import row

from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.daemon.program import DaemonConfig, RunningDaemon, running_daemon
from wakestream.operators.model.events import Job
from wakestream.streams.outbox import facts as f

HUB = "ws://127.0.0.1:9/dsp"
FEW, MANY = 100, 10_000
AT_ONCE = 100
SAMPLES = 50
MEMORY = 25_000
"""Bytes of the process for each waiting job."""

BLOCK = 0.25
"""Seconds for which the event loop may do nothing else."""


class Blocks:
    """The longest time between two turns of the event loop since `take`."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now

    def take(self) -> float:
        found, self.longest = self.longest, 0.0
        return found


def job_of(folder: Path, number: int) -> f.Submitting:
    """A job whose video has the size of all others."""

    video, audio = f.FileStat(str(folder / f"{number}.mp4"), 100, number), f.FileStat(str(folder / "a.wav"), 50, 1)
    job = Job.lipsync(f"job-{number:05}", Path(video.path), Path(audio.path), folder / f"{number}.o")
    return f.Submitting(0, f.JobAccepted.of(job, {"video": video, "audio": audio}))


async def more(daemon: RunningDaemon, folder: Path, begin: int, end: int) -> None:
    """Submit the jobs with these numbers; returns when all have started."""
    for at in range(begin, end, AT_ONCE):
        jobs = [daemon.outbox.submit(job_of(folder, number)) for number in range(at, min(end, at + AT_ONCE))]
        await asyncio.gather(*jobs)
    while len(daemon.outbox._running) < end:  # noqa: ASYNC110 - it does not tell
        await asyncio.sleep(0.01)


async def costs(daemon: RunningDaemon, folder: Path, begin: int) -> float:
    """Median processor time of an accepted job, with what follows its acceptance."""
    taken = []
    for number in range(begin, begin + SAMPLES):
        start = time.process_time()
        await daemon.outbox.submit(job_of(folder, number))
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def waiting_daemon(folder: Path) -> AbstractAsyncContextManager[RunningDaemon]:
    """A daemon whose jobs wait, since there is no hub."""
    settings = Settings(hub_url=HUB, key=Secret("x" * 40), api_secret=Secret("x" * 40))
    return running_daemon(DaemonConfig(folder), settings)


async def main() -> bool:
    """Print the rows; True if every budget holds."""
    print(f"the daemon with {MANY} waiting jobs of the same size")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        async with waiting_daemon(folder / "state") as daemon:
            daemon.outbox.state.open_most = 2 * MANY
            await more(daemon, folder, 0, FEW)
            few, before = await costs(daemon, folder, FEW), memory_of(os.getpid())
            await more(daemon, folder, FEW + SAMPLES, MANY)
            memory = (memory_of(os.getpid()) - before) / (MANY - FEW - SAMPLES)
            many, blocks = await costs(daemon, folder, MANY), Blocks()
            watching = asyncio.create_task(blocks.watch())
            await daemon.console.cards.history("no such job", "", 20, 0)
            searched = blocks.take()
            await asyncio.gather(*(daemon.outbox.cancel(f"job-{number:05}") for number in range(31)))
            cancelled = blocks.take()
            watching.cancel()
    print(f"        {few * 1e3:.2f} ms for a job beside {FEW}, {many * 1e3:.2f} ms beside {MANY}")
    held = row(f"a job beside {FEW}: one beside {MANY}", many, few, 3.0)
    held = row(f"{MEMORY / 1000:.0f} kB: a waiting job", memory, MEMORY, 1.0) and held
    held = row(f"{BLOCK} s: the longest block in a search", searched, BLOCK, 1.0) and held
    return row(f"{BLOCK} s: the longest block in 31 cancels", cancelled, BLOCK, 1.0) and held
