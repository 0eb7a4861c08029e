"""What a waiting job costs in memory and set-up time, against a bare future and the library's operators."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from operator import eq
from pathlib import Path
from random import Random
from typing import Any

from reactivex import Observable, Subject
from reactivex import operators as ops
from timing import row

from wakestream.adapters.testing.fakes import FakeFiles, FakeWorkers
from wakestream.operators.model.events import Job
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import LinkUp
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import World

JOBS = 2000


def cost(begin: Callable[[int], Any]) -> tuple[float, float]:
    """Bytes kept and seconds spent for each of many waiting jobs; the collector rests while they are set up."""
    kept: list[Any] = [None] * JOBS
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    for number in range(JOBS):
        kept[number] = begin(number)
    seconds = (time.perf_counter() - start) / JOBS
    for each in kept:
        each.dispose()
    gc.enable()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(JOBS):
        kept[number] = begin(number + JOBS)
    gc.collect()
    size = (tracemalloc.get_traced_memory()[0] - before) / JOBS
    tracemalloc.stop()
    for each in kept:
        each.dispose()
    return size, seconds


class Waited:
    """A future and a timer: the least that waiting can cost."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future = loop.create_future()
        self.timer = loop.call_later(1800, self.future.cancel)

    def dispose(self) -> None:
        self.timer.cancel()


async def main() -> bool:
    """Print the rows; True if every budget holds."""
    loop, scheduler = asyncio.get_running_loop(), LoopScheduler()
    source: Subject[int] = Subject()
    hub = HubClient(lambda message: True, lambda error, item: None)
    hub.feed(LinkUp(frozenset({"grant", "late_hashes"})))
    world, policy = World(hub, FakeWorkers({}), FakeFiles({}), Random(1)), Policy()

    def library(n: int) -> Any:
        first: Observable[int] = source.pipe(ops.filter(partial(eq, n)), ops.take(1))
        return first.pipe(ops.timeout(1800.0)).subscribe(lambda item: None, scheduler=scheduler)

    def pipeline(n: int) -> Any:
        job = Job.lipsync(f"job-{n}", Path("v.mp4"), Path("a.wav"), Path("o.mp4"))
        return job_pipeline(job, world, policy).subscribe(lambda event: None, scheduler=scheduler)

    bare, theirs, whole = (cost(each) for each in (lambda n: Waited(loop), library, pipeline))
    print(f"a waiting job, {JOBS} of them")
    names = ("future + call_later", "filter, take, timeout", "whole pipeline")
    for name, (size, seconds) in zip(names, (bare, theirs, whole), strict=True):
        print(f"        {name:<22} {size / 1000:5.1f} kB  {seconds * 1e6:6.1f} us")
    rows = (
        row("whole pipeline in memory: 10 kB", whole[0], 10_000, 1.0),
        row("whole pipeline to set up: 250 us", whole[1], 250e-6, 1.0),
    )
    return all(rows)
