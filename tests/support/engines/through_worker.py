"""A job through the real worker by HTTP, from hashing to the verified files, and its progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

from tests.support.engines.real_servers import until
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.engines.models import Models, WithModels
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators import Fingerprints, Hub, LoopScheduler, Policy, then
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.engine import Engine
from wakestream.operators.model.errors import is_retryable
from wakestream.operators.model.events import Done, Job, JobEvent, Online, Running
from wakestream.operators.rx.to_future import to_future
from wakestream.streams import Stages, World

SECRET = "swordfish-0123456789"
POLICY = Policy(poll_every=0.005)
AGAIN = Backoff(initial=0.1, max_delay=0.1, retry_on=is_retryable)


class Desk:
    """A user of one worker."""

    def __init__(self, folder: Path, workers: HttpWorkers) -> None:
        self.folder, self.workers = folder, workers
        self.percents: list[float] = []
        self.kinds: list[str] = []
        self.waits: list[str] = []
        self.features: frozenset[str] = frozenset()

    async def ready(self) -> None:
        """Returns when the worker's engine can work."""
        await until(self._initialized)

    async def _initialized(self) -> bool:
        health = await self.workers.at(None).health()
        self.features = health.features
        return health.initialized

    async def run(
        self, kind: str, inputs: Mapping[str, Path], outputs: Mapping[str, str], policy: Policy = POLICY, **params: Any
    ) -> dict[str, Path]:
        """Run a job; returns its files by the names of its outputs. Raises what the job ends with."""
        wanted = {name: self.folder / file for name, file in outputs.items()}
        job, files = Job(f"job-{kind}-{len(self.kinds)}", inputs, wanted, kind, params), DiskFiles()
        self.kinds.append(kind)
        online = Online(self.workers.resolve(None), features=self.features)
        world = World(cast("Hub", None), self.workers, files, Random(1))
        s = Stages(job, world, policy, Fingerprints(job, files))
        attempt = s.dedupe(online).pipe(then(s.upload, s.synthesize, s.follow, s.download))
        events = attempt.pipe(s.retry(AGAIN))  # as a job that waits at the hub while the engine cannot work
        try:
            done = await events.map(self._seen).pipe(to_future(LoopScheduler(asyncio.get_running_loop())))
        finally:
            await files.close()
        assert isinstance(done, Done)
        return wanted

    def _seen(self, event: JobEvent) -> JobEvent:
        if isinstance(event, Running) and event.why:
            self.waits.append(event.why)
        if isinstance(event, Running):
            self.percents.append(event.percent)
        return event


@asynccontextmanager
async def worker_of(
    engine: Engine, folder: Path, watchdog: Watchdog | None = None, models: Models | None = None
) -> AsyncIterator[Desk]:
    """A worker of this engine on loopback, and a user of it."""
    (folder / "user").mkdir(parents=True)
    if models is not None:
        engine = WithModels(engine, models)
    config = WorkerConfig(
        folder / "worker", engine, SECRET, port=0, watchdog=watchdog or Watchdog(), models=models
    )  # fmt: skip
    async with running_worker(config) as running:
        workers = HttpWorkers(running.address, SECRET)
        try:
            desk = Desk(folder / "user", workers)
            await desk.ready()
            yield desk
        finally:
            await workers.close()
