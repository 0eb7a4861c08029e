"""Jobs of one daemon that wait and are moved, in virtual time, with a recording of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.streams.daemon_scene import Before
from wakestream.adapters.testing.fakes import FakeFiles, FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, HubAnswer, PipelineHarness, asleep
from wakestream.operators.model import events as e
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.daemon_pipeline import DURABLE, LANES, durable_pipeline
from wakestream.streams.jobs.job_runner import Daemon
from wakestream.streams.jobs.turn_stages import LaneLimits, Lanes
from wakestream.streams.recording.config_json import plain_config


class Line(PipelineHarness):
    """A daemon whose GPU is off. `order` has the jobs in the order in which the worker got their tasks."""

    def __init__(
        self, limits: LaneLimits | None = None, answer: HubAnswer = asleep, *, worker: FakeWorker | None = None
    ) -> None:
        limits = limits or LaneLimits()
        self.worker = worker or FakeWorker()
        files = FakeFiles({f"{n}.mp4": n.to_bytes(2, "big") * 500 for n in range(200)} | {"speech.wav": b"a" * 500})
        self.workers = FakeWorkers({GPU: self.worker}, GPU)
        super().__init__(answer, workers=self.workers, files=files, policy=DURABLE)
        self._header = replace(self._header, config={**self._header.config, LANES: plain_config(limits)})
        self.priorities: dict[str, int] = {}
        self.lanes = Lanes(limits, lambda job: self.priorities.get(job, 0))
        self.daemon = Daemon(self._of, DURABLE, tap=self._tap, build=durable_pipeline(self.lanes, Before()))
        self.scheduler = LoopScheduler(self._loop)
        self.ends: dict[int, asyncio.Future[Any]] = {}
        self.link.connect(*self._features)

    def start(self, *numbers: int, priority: int = 0) -> None:
        """Start jobs."""
        for n in numbers:
            job = e.Job.lipsync(f"job-{n}", Path(f"{n}.mp4"), Path("speech.wav"), Path(f"{n}.out.mp4"))
            self.priorities[job.id] = priority
            self.ends[n] = self._noted(self.daemon, job).pipe(to_future(self.scheduler))

    def move(self, n: int, before: int | None = None, priority: int = 0) -> bool:
        """Move a job before another one, or to the end."""
        return self.daemon.move(f"job-{n}", "" if before is None else f"job-{before}", priority)

    async def passes(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def all(self) -> list[e.JobEvent]:
        """The ends of all jobs."""
        ends = list(await asyncio.gather(*self.ends.values()))
        await self.scheduler.close()
        assert self.faults == []
        return ends

    @property
    def order(self) -> list[int]:
        """The jobs in the order in which the worker got their tasks."""
        return [int(str(job).removeprefix("job-")) for job, *_ in self.worker.said("submit")]  # type: ignore[misc]
