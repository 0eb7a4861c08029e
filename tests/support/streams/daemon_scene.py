"""Jobs of one daemon in a world of fakes, in virtual time."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from tests.support.streams.job_scene import URL, Scene
from wakestream.adapters.testing.fakes import FakeFiles, FakeWorker, FakeWorkers
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.daemon_pipeline import DURABLE, durable_pipeline
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.jobs.turn_stages import LaneLimits, Lanes
from wakestream.streams.jobs.world import World


class Before:
    """What was done before: answers of `find` by job, and the moments at which other jobs end."""

    def __init__(self, **found: list[Mapping[str, Any] | None]) -> None:
        self.found = found
        self.over: dict[str, asyncio.Event] = {}

    async def find(self, job: str) -> Mapping[str, Any] | None:
        told = self.found.get(job.replace("-", "_"), [])
        return told.pop(0) if told else None

    async def ended(self, job: str, by: str) -> None:
        await self.over.setdefault(job, asyncio.Event()).wait()


class House(Scene):
    """Several jobs of one daemon."""

    def __init__(self, limits: LaneLimits | None = None, before: Before | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.priorities: dict[str, int] = {}
        self.asked: set[str] = set()
        self.lanes = Lanes(limits or LaneLimits(), lambda job: self.priorities.get(job, 0), self.asked.__contains__)
        self.before = before or Before()
        self.build = durable_pipeline(self.lanes, self.before)
        self.files = FakeFiles({f"{n}.mp4": bytes([n]) * 1000 for n in range(9)} | {"speech.wav": b"a" * 500})
        self.told: dict[str, list[tuple[float, e.JobEvent]]] = {}
        self.retries: KeyedSubject[None] = KeyedSubject(lambda error, _: self.faults.append(error))

    def retry(self, job: str) -> bool:
        reached = self.retries.reaches(job)
        self.retries.feed(None, job)
        return reached

    def start(
        self, n: int, policy: Policy = DURABLE, priority: int = 0, gpus: tuple[str, ...] = ()
    ) -> asyncio.Future[e.JobEvent]:
        job = e.Job.lipsync(f"job-{n}", Path(f"{n}.mp4"), Path("speech.wav"), Path(f"{n}.out.mp4"))
        job, self.priorities[job.id] = replace(job, gpus=gpus), priority
        told = self.told.setdefault(job.id, [])
        world = World(self.hub, FakeWorkers({URL: self.worker}, URL), self.files, Random(n), depot=self.depot)
        world = replace(world, retry_now=self.retries.by_key(job.id))
        events = self.build(job, world, policy, self.cancel)
        noted = events.do_action(lambda event: told.append((round(self.loop.time(), 1), event)))
        return noted.pipe(to_future(self.scheduler))

    def kinds(self, n: int, kind: type[Any]) -> list[Any]:
        return [event for _, event in self.told[f"job-{n}"] if isinstance(event, kind)]

    def first(self, n: int, kind: type) -> float:
        return next(at for at, event in self.told[f"job-{n}"] if isinstance(event, kind))


def unreachable() -> FakeWorker:
    worker = FakeWorker()
    worker.gone = errors.WorkerUnreachable("no answer")
    return worker
