"""Runs a pipeline with fakes: a scripted hub, and workers and files in memory, with a recording.

On a virtual loop (`run_virtual`, or the mark `virtual_loop` of the pytest plugin) waits take no real time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reactivex import Observable

from wakestream.adapters.testing.fakes import FakeFiles, FakeLink, FakeWorker, FakeWorkers
from wakestream.operators.model.depot import Depot
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Fingerprint, Job, JobEvent, Outcome
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects, Files, LinkDown, LinkUp, Workers
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.job_runner import Daemon, job_random
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build, Direct, World
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Header, Log, MemoryTap

GPU = "http://gpu:8383"
"""The address of the default worker."""

FEATURES = ("grant", "cancel", "done", "late_hashes", "power_state")
"""The features of the default hub; without them it behaves as older hubs."""

SAMPLES: Mapping[str | Path, bytes | Fingerprint | WakestreamError] = {
    "clip.mp4": b"v" * 1000,
    "speech.wav": b"a" * 500,
}
"""The default files."""

HubAnswer = Callable[[m.Submit], m.Message | None]


def awake(submit: m.Submit) -> m.Message:
    """The hub's answer when the GPU is on.

    Example:
        >>> PipelineHarness(awake)
    """
    return m.Ack(request_id=submit.request_id, gpu="gpu", url=GPU)


def asleep(submit: m.Submit) -> m.Message:
    """The hub's answer when the GPU is off. `PipelineHarness.wake` then answers all waiting jobs."""
    return m.Offline(request_id=submit.request_id, phase="booting", position=1)


def sample_job(name: str = "job-1") -> Job:
    """A job with the files of `SAMPLES`."""
    return Job.lipsync(name, Path("clip.mp4"), Path("speech.wav"), Path(f"{name}.mp4"))


class PipelineHarness:
    """A client with fakes, for one running event loop. `log` is the recording so far, which can be replayed.

    Args:
        answer: Returns the hub's answer to each submit.
        workers: One `FakeWorker` at `GPU` by default.
        files: `SAMPLES` by default.
        effects: Run directly by default.
        policy: Timeouts and retries.
        features: What the hub announces.
        seed: Of the jobs' random numbers.
        depot: None by default.

    Example:
        >>> harness = PipelineHarness()
        >>> outcomes = await harness.run(my_pipeline)
        >>> outcomes["job-1"]
        Done(...)
    """

    def __init__(
        self,
        answer: HubAnswer = awake,
        *,
        workers: Workers | None = None,
        files: Files | None = None,
        effects: Effects | None = None,
        policy: Policy | None = None,
        features: tuple[str, ...] = FEATURES,
        seed: int = 1,
        depot: Depot | None = None,
    ) -> None:
        loop = self._loop = asyncio.get_running_loop()
        begun = loop.time()
        self.policy = policy or Policy()
        self.link = FakeLink()
        self.events: dict[str, list[tuple[float, JobEvent]]] = {}
        self.faults: list[Exception] = []
        self._answer, self._features = answer, features
        config = {"policy": plain_config(self.policy)} | ({} if depot is None else {"depot": True})
        self._header = Header("daemon", time.time(), seed, config)
        self._tap = MemoryTap(lambda: loop.time() - begun)
        self._hub = HubClient(self._send, lambda error, _: self.faults.append(error))
        self._world = (workers or FakeWorkers({GPU: FakeWorker()}, GPU), files or FakeFiles(SAMPLES))
        self._effects, self._depot = effects or Direct(), depot
        self.link.events.subscribe(self._heard)

    @property
    def log(self) -> Log:
        """The recording so far."""
        return Log(self._header, tuple(self._tap.rows))

    def say(self, message: m.Message) -> None:
        """The hub says something."""
        self.link.receive(message)

    def at(self, seconds: float, action: Callable[..., Any], *args: Any) -> None:
        """Call `action` after this many seconds.

        Example:
            >>> harness.at(60.0, harness.wake)

        Args:
            seconds: The delay.
            action: The function, such as `say`.
            args: Its arguments.
        """
        self._loop.call_later(seconds, action, *args)

    def wake(self, url: str = GPU) -> None:
        """The GPU is online: the hub grants it to every waiting job."""
        for job in self._hub.waiting:
            self.say(m.Ack(request_id=str(job), gpu="gpu", url=url))

    async def run(self, build: Build = job_pipeline, *jobs: Job) -> Mapping[str, Outcome]:
        """Run jobs concurrently until each has its outcome.

        Args:
            build: The pipeline.
            jobs: The jobs; one `sample_job()` by default.

        Returns:
            The outcomes by job id.
        """
        scheduler = LoopScheduler(self._loop)
        daemon = Daemon(self._of, self.policy, tap=self._tap, build=build)
        endings = {job.id: self._noted(daemon, job).pipe(to_future(scheduler)) for job in jobs or (sample_job(),)}
        self.at(0, self.link.connect, *self._features)
        outcomes = dict(zip(endings, await asyncio.gather(*endings.values()), strict=True))
        await scheduler.close()
        if self.faults:
            raise ExceptionGroup("the pipeline raised errors at messages of the hub", self.faults)
        return outcomes

    def _noted(self, daemon: Daemon, job: Job) -> Observable[JobEvent]:
        events = self.events.setdefault(job.id, [])
        return daemon.events(job).do_action(lambda event: events.append((self._loop.time(), event)))

    def _of(self, job: Job) -> World:
        random = job_random(self._header.seed, job)
        return World(self._hub, *self._world, random, self._effects, depot=self._depot)

    def reply(self, message: m.Message) -> m.Message | None:
        """The hub's answer to a frame: that to a submit, none to others. A subclass may answer these."""
        return self._answer(message) if isinstance(message, m.Submit) else None

    def _send(self, message: m.Message) -> bool:
        if self.link.up:
            self._tap.frame("out", message)
            reply = self.reply(message)
            if reply is not None:
                self.at(0.001, self.say, reply)
        return self.link.send(message)

    def _heard(self, event: m.Message | LinkUp | LinkDown) -> None:
        match event:
            case LinkUp():
                self._tap.row("conn", "up", {"features": sorted(event.features)})
            case LinkDown():
                self._tap.row("conn", "down", {"why": event.reason, "code": event.code})
            case _:
                self._tap.frame("in", event)
        self._hub.feed(event)
