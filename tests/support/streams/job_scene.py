"""One job in a world of fakes: a hub that answers as the test says, a worker, two files, in virtual time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Self

from reactivex.subject import Subject

from wakestream.adapters.testing.fakes import FakeDepot, FakeFiles, FakeLink, FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import HubAnswer
from wakestream.operators.model.events import Job, JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.protocol import messages as m

URL = "http://gpu:8383"
OURS = ("grant", "cancel", "done", "late_hashes")
"""What our own hub announces."""


def ack(submit: m.Submit) -> m.Message:
    """The GPU is on."""
    return m.Ack(request_id=submit.request_id, gpu="a", url=URL)


def offline(submit: m.Submit) -> m.Message:
    """The GPU is off."""
    return m.Offline(request_id=submit.request_id, phase="booting", position=1, eta_s={"p50": 100.0, "p90": 140.0})


def silence(_: m.Submit) -> None:
    """No answer."""


class Scene:
    """`answer` is what the hub says to each submit, a moment later."""

    def __init__(
        self,
        answer: HubAnswer = ack,
        *,
        worker: FakeWorker | None = None,
        features: tuple[str, ...] = OURS,
        depot: FakeDepot | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.answer = answer
        self.features = features
        self.depot = depot
        self.build: Build = job_pipeline
        self.worker = worker or FakeWorker()
        self.files = FakeFiles({"clip.mp4": b"v" * 1000, "speech.wav": b"a" * 500})
        self.link = FakeLink()
        self.faults: list[Exception] = []
        self.hub = HubClient(self._send, lambda error, _: self.faults.append(error))
        self.link.events.subscribe(self.hub.feed)
        self.scheduler = LoopScheduler(self.loop)
        self.cancel: Subject[None] = Subject()
        self.events: list[tuple[float, JobEvent]] = []
        self.job = Job.lipsync("job-1", Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))

    def connect(self) -> Self:
        """The link comes up."""
        self.link.connect(*self.features)
        return self

    def _send(self, message: m.Message) -> bool:
        if self.link.up:
            reply = self.reply(message)
            if reply is not None:
                self.loop.call_later(0.001, self.link.receive, reply)
        return self.link.send(message)

    def reply(self, message: m.Message) -> m.Message | None:
        """What the hub says to a frame."""
        return self.answer(message) if isinstance(message, m.Submit) else None

    def at(self, seconds: float, action: Callable[..., Any], *args: Any) -> None:
        """Do something at a moment of virtual time."""
        self.loop.call_at(seconds, action, *args)

    async def run(self, policy: Policy | None = None, **waits: Any) -> JobEvent:
        """Run the job to its outcome."""
        world = World(self.hub, FakeWorkers({URL: self.worker}, URL), self.files, Random(7), depot=self.depot)
        pipeline = self.build(self.job, world, policy or Policy(**waits), self.cancel)
        noted = pipeline.do_action(lambda event: self.events.append((round(self.loop.time(), 3), event)))
        outcome: JobEvent = await noted.pipe(to_future(self.scheduler))
        await self.scheduler.close()
        assert self.faults == []
        return outcome

    def of(self, kind: type[Any]) -> list[Any]:
        """All events of one kind."""
        return [event for _, event in self.events if isinstance(event, kind)]

    def when(self, kind: type[Any]) -> list[float]:
        """The times of all events of one kind."""
        return [at for at, event in self.events if isinstance(event, kind)]
