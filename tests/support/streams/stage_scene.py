"""Runs one stage alone on the virtual loop, with the shipped fakes."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

from reactivex import Observable

from wakestream.adapters.testing.fakes import FakeFiles, FakeWorker, FakeWorkers
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects, Hub
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.stages.fingerprint import Fingerprints
from wakestream.streams.jobs.stages import Stages
from wakestream.streams.jobs.world import Direct, World

URL = "http://gpu:8383"
JOB = e.Job.lipsync("job-1", Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))
VIDEO = e.Fingerprint(JOB.inputs["video"], 1000, 0, {"md5": "a" * 32, "blake3": "a" * 64})
AUDIO = e.Fingerprint(JOB.inputs["audio"], 500, 0, {"md5": "b" * 32, "blake3": "b" * 64})
ONLINE = e.Online(URL, "gpu", frozenset({"blake3"}))
CHECKED = e.Checked(ONLINE, {"video": VIDEO, "audio": AUDIO}, "blake3", (VIDEO, AUDIO))
SUBMITTED = e.Submitted(ONLINE, "task-1")


class Stage:
    """What a stage emitted, each with its virtual time, and how it ended: `|`, or its error."""

    def __init__(self, worker: FakeWorker | None = None) -> None:
        self.worker = worker or FakeWorker()
        self.workers = FakeWorkers({URL: self.worker}, URL)
        self.files = FakeFiles({JOB.inputs["video"]: VIDEO, JOB.inputs["audio"]: AUDIO})
        self.fingerprints = Fingerprints(JOB, self.files)
        self.items: list[tuple[float, Any]] = []
        self.end: str | Exception | None = None

    def of(
        self,
        policy: Policy | None = None,
        outputs: Mapping[str, Path] | None = None,
        effects: Effects | None = None,
        hub: Hub | None = None,
    ) -> Stages:
        """The stages of the standard pipeline."""
        world = World(cast("Hub", hub), self.workers, self.files, Random(1), effects or Direct())
        job = JOB if outputs is None else replace(JOB, outputs=outputs)
        return Stages(job, world, policy or Policy(), self.fingerprints)

    async def run(self, stage: Observable[Any]) -> list[Any]:
        """All that the stage emits; its error is kept in `end`."""
        loop, scheduler = asyncio.get_running_loop(), LoopScheduler()
        over = loop.create_future()

        def ended(how: str | Exception) -> None:
            self.end = how
            over.set_result(None)

        stage.subscribe(
            lambda item: self.items.append((loop.time(), item)), ended, lambda: ended("|"), scheduler=scheduler
        )
        await over
        await scheduler.close()
        return [item for _, item in self.items]
