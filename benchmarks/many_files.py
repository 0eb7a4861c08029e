"""64 small files against one file of the same total size, from hashing to the start of the work.

Worker and client are processes of their own. The first round is not measured: it imports modules and opens connections.
Their files are in memory where there is such a folder: on a disk, what a new file costs depends on the file system and
on who else uses it (from 0.02 to 0.6 ms each on one machine within an hour). The same on the disk is shown without a
budget, with the time that making as many empty files takes there.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import cast

from engines import worker
from timing import MEMORY, row

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.operators import Fingerprints, Hub, LoopScheduler, Policy, then
from wakestream.operators.model.events import Job, JobEvent, Online, Submitted
from wakestream.operators.rx.to_future import to_future
from wakestream.streams import Stages, World

FILES = 64
SIZE = 32 * 1024
ROUNDS, CALLS = 5, 5
KINDS = {"many": FILES, "one": 1}


def manifest(kinds: Mapping[str, tuple[int, Sequence[str]]]) -> str:
    """Kinds, each with the number of its files, and the begin of its command: these files follow."""
    lines = []
    for kind, (count, command) in kinds.items():
        files = [f"{{in:f{n}}}" for n in range(count)]
        lines += [f"[kinds.{kind}]", f"command = {json.dumps([*command, *files])}"]
        lines += [f"[kinds.{kind}.inputs.f{n}]" for n in range(count)]
        lines += [f"[kinds.{kind}.outputs.made]", 'accepts = [".bin"]']
    return "\n".join(lines)


async def seconds(workers: HttpWorkers, folder: Path, kind: str, features: frozenset[str]) -> float:
    """How long hashing, check, uploads and submit of new files take."""
    files, inputs = DiskFiles(), {}
    count = KINDS[kind]
    for n in range(count):
        inputs[f"f{n}"] = folder / f"{kind}-{time.time_ns()}-{n}.bin"
        inputs[f"f{n}"].write_bytes(os.urandom(FILES * SIZE // count))
    job = Job(f"job-{time.time_ns()}", inputs, {"made": folder / "made.bin"}, kind)
    world = World(cast("Hub", None), workers, files, Random(1))
    s = Stages(job, world, Policy(poll_every=0.01), Fingerprints(job, files))
    begin, taken = time.perf_counter(), []

    def hear(event: JobEvent) -> None:
        if isinstance(event, Submitted):
            taken.append(time.perf_counter() - begin)

    checked = s.dedupe(Online(workers.resolve(None), features=features))
    await (
        checked.pipe(then(s.upload, s.synthesize, s.follow))
        .do_action(hear)
        .pipe(to_future(LoopScheduler(asyncio.get_running_loop())))
    )
    await files.close()
    return taken[0]


async def measured(folder: Path) -> list[list[float]]:
    """The seconds of each round in this folder: the many files, and the one."""
    copy = ("sh", "-c", 'cp "$1" "$0"', "{out:made}")  # the first one
    (folder / "kinds.toml").write_text(manifest({kind: (count, copy) for kind, count in KINDS.items()}))
    options = ("--engine", "command", "--engine-option", f"manifest={folder / 'kinds.toml'}")
    async with worker(folder, *options) as (workers, features):
        await turns(workers, folder, features, 1)
        return [await turns(workers, folder, features, CALLS) for _ in range(ROUNDS)]


async def turns(workers: HttpWorkers, folder: Path, features: frozenset[str], count: int) -> list[float]:
    """The median seconds of each kind, taken in turns."""
    taken = [[await seconds(workers, folder, kind, features) for kind in KINDS] for _ in range(count)]
    return [statistics.median(times) for times in zip(*taken, strict=True)]


def empty(folder: Path) -> float:
    """The seconds that making as many empty files takes."""
    begin = time.perf_counter()
    for n in range(FILES):
        (folder / f"empty-{n}").touch()
    return time.perf_counter() - begin


def worst(rounds: list[list[float]]) -> list[float]:
    """The round with the highest ratio."""
    return max(rounds, key=lambda each: each[0] / each[1])


async def main() -> bool:
    """Print the worst ratio; returns whether it is within the budget."""
    print("many small files, against one of the same size")
    with tempfile.TemporaryDirectory() as disk:
        if MEMORY is not None:
            many, one = worst(await measured(Path(disk)))
            made = f"where making {FILES} empty files takes {empty(Path(disk)) * 1000:.0f} ms"
            print(f"        {many / one:.2f} x  on the disk ({many * 1000:.0f} ms), {made}")
        with tempfile.TemporaryDirectory(dir=MEMORY) as name:
            many, one = worst(await measured(Path(name)))
    return row(f"{FILES} files of {SIZE} bytes ({many * 1000:.0f} ms), worst of {ROUNDS}", many, one, 2.0)
