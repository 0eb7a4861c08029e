"""64 small files against one file of the same total size, from hashing to the start of the work."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import Random

from timing import row

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators import Fingerprints, LoopScheduler, Policy, dedupe, synthesize, then, upload
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.operators.model.events import Job, Online
from wakestream.operators.rx.to_future import to_future

FILES = 64
SIZE = 32 * 1024
ROUNDS = 5
KINDS = (("many", FILES), ("one", 1))
SECRET = "benchmark-secret-0123456789"  # noqa: S105 - of this run only


class NoOp(Engine):
    """Makes a file of one byte."""

    async def describe(self) -> Sequence[Kind]:
        """Two kinds that differ in the number of their files."""
        made = (Slot("made", (".bin",)),)
        return [Kind("many", tuple(Slot(f"f{n}") for n in range(FILES)), made), Kind("one", (Slot("f0"),), made)]

    async def ready(self) -> Readiness:
        """Always."""
        return Readiness(ready=True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """One byte."""
        path = work.folder / "made.bin"
        path.write_bytes(b"x")
        yield Made("made", path)

    async def cancel(self, work: Work) -> None:
        """Nothing to stop."""

    async def close(self) -> None:
        """Nothing is open."""


async def seconds(workers: HttpWorkers, folder: Path, kind: str, count: int, size: int) -> float:
    """How long hashing, check, uploads and submit of new files take."""
    files, inputs = DiskFiles(), {}
    for n in range(count):
        inputs[f"f{n}"] = folder / f"{kind}-{time.time_ns()}-{n}.bin"
        inputs[f"f{n}"].write_bytes(os.urandom(size))
    job = Job(f"job-{time.time_ns()}", inputs, {"made": folder / "made.bin"}, kind)
    features = (await workers.at(None).health()).features
    begin = time.perf_counter()
    fingerprints, policy, random = Fingerprints(job, files), Policy(), Random(1)
    stages = dedupe(workers, fingerprints, policy, random)(Online(workers.resolve(None), features=features)).pipe(
        then(upload(workers, policy, random), synthesize(job, workers, policy, random))
    )
    await stages.pipe(to_future(LoopScheduler(asyncio.get_running_loop())))
    took = time.perf_counter() - begin
    await files.close()
    return took


async def main() -> bool:
    """Print the worst ratio; returns whether it is within the budget."""
    print("many small files, against one of the same size")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_worker(WorkerConfig(folder / "worker", NoOp(), SECRET, port=0)) as running:
            while not running.server.calls.readiness.initialized:  # noqa: ASYNC110 - it does not tell
                await asyncio.sleep(0.01)
            workers = HttpWorkers(running.address, SECRET)
            rounds = [
                [await seconds(workers, folder, kind, count, FILES * SIZE // count) for kind, count in KINDS]
                for _ in range(ROUNDS)
            ]
            await workers.close()
    many, one = max(rounds, key=lambda each: each[0] / each[1])
    return row(f"{FILES} files of {SIZE} bytes ({many * 1000:.0f} ms), worst of {ROUNDS}", many, one, 2.0)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
