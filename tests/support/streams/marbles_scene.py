"""Logs to draw: many jobs of one client that wake one GPU, run through the real pipelines in virtual time."""

import asyncio
from functools import cache
from pathlib import Path
from random import Random

from tests.support.streams.log_library import log
from wakestream.adapters.testing.fakes import FakeFiles, FakeLink, FakeWorker, FakeWorkers
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.operators.model.errors import TaskFailed, WorkerUnreachable
from wakestream.operators.model.events import Job
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import LinkUp, TaskReport
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.streams.hub import events as f
from wakestream.streams.hub.rows import event_row
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.job_runner import Daemon, job_random
from wakestream.streams.jobs.world import World
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Header, Log, MemoryTap, header_line, read_log, row_line
from wakestream.streams.replay.replay import replay

URL = "http://gpu:8383"
EPOCH = 1_790_000_000.0
BOOT = 95.0
"""Seconds at which the GPU comes online."""


@cache
def recorded(name: str) -> Log:
    """A log of tests/logs by its name, or `client 200` and `hub 3`: of so many jobs, and of so many clients."""
    match name.split():
        case ["client", jobs]:
            return many(int(jobs))
        case ["hub", clients]:
            return hub_night(int(clients))
        case _:
            return log(f"{name}.jsonl")


def hub_night(clients: int) -> Log:
    """The log of a hub at which so many clients each submit a job to a GPU that is off, and are served."""
    rows = _HubNight()
    rows.add(0.0, f.ProcessStarted())
    rows.join(1, "monitor", m.Register(role="gpu_monitor", gpus=("gpu-a",), features=("power_state",)))
    rows.say(1, m.PowerState(gpu="gpu-a", state="off"))
    for number in range(clients):
        rows.join(10 + number, "client", m.Register(device_type="pc", features=("done", "power_state")))
        rows.say(10 + number, m.Submit(request_id=f"job-{number + 1}"))
    rows.say(1, m.PowerState(gpu="gpu-a", state="starting"))
    rows.t += 90.0
    rows.join(2, "worker", m.Register(role="worker", gpu="gpu-a", url=URL))
    rows.say(2, m.Online(gpu="gpu-a", url=URL))
    rows.say(1, m.PowerState(gpu="gpu-a", state="online"))
    for number in range(clients):
        rows.say(10 + number, m.JobDone(request_id=f"job-{number + 1}"))
        rows.add(0.3, f.Closed(10 + number))
    log = read_log([header_line(Header("hub", EPOCH, 0)), *map(row_line, rows.tap.rows)])
    again: Log = run_virtual(replay(log)).again
    return again


class _HubNight:
    def __init__(self) -> None:
        self.t = 0.0
        self.tap = MemoryTap(lambda: self.t)

    def add(self, later: float, event: f.Event) -> None:
        self.t += later
        self.tap.row(*event_row(event, EPOCH + self.t))

    def join(self, fd: int, role: str, register: m.Register) -> None:
        self.add(0.2, f.Opened(fd))
        self.add(0.01, f.Registering(fd, register, None, f.License(f"license-{fd}", role)))

    def say(self, fd: int, message: m.Message) -> None:
        self.add(0.05, f.Received(fd, message))


def many(jobs: int) -> Log:
    """The log of a client with so many jobs: most are done, some are tried again, cancelled or fail."""
    log: Log = run_virtual(_Night(jobs).run())
    return log


class _Night:
    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    async def run(self) -> Log:
        loop = asyncio.get_running_loop()
        self.loop, self.online = loop, False
        self.tap = MemoryTap(loop.time)
        self.link = FakeLink()
        self.hub = HubClient(self._send, lambda error, _: self._fault(error))
        self.link.events.subscribe(self._heard)
        self.daemon = Daemon(self._world, Policy(), tap=self.tap)
        self.scheduler = LoopScheduler(loop)
        self.left = self.jobs
        self.over = loop.create_future()
        loop.call_at(0.2, self.link.connect, "grant", "cancel", "done", "late_hashes", "power_state")
        for number in range(self.jobs):
            loop.call_at(0.5 + 0.15 * number, self._submit, number)
        for at, state in ((0.6, "off"), (1.0, "starting"), (62.0, "booted"), (BOOT, "online")):
            loop.call_at(at, self.link.receive, m.PowerState(gpu="gpu-a", state=state))
        loop.call_at(BOOT, self._come_online)
        await self.over
        await self.scheduler.close()
        return Log(Header("daemon", EPOCH, 7), tuple(self.tap.rows))

    def _submit(self, number: int) -> None:
        job = Job.lipsync(f"job-{number + 1}", Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))
        self.daemon.events(job).subscribe(on_completed=self._finished, scheduler=self.scheduler)
        if number % 11 == 6:
            self.loop.call_at(70.0 + number, self.daemon.cancel, job.id)

    def _finished(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set_result(None)

    def _fault(self, error: Exception) -> None:
        self.over.set_exception(error)

    def _heard(self, event: object) -> None:
        if isinstance(event, m.Message):
            self.tap.frame("in", event)
        else:
            assert isinstance(event, LinkUp)
            self.tap.row("conn", "up", {"features": sorted(event.features)})
        self.hub.feed(event)  # type: ignore[arg-type]

    def _send(self, message: m.Message) -> bool:
        self.tap.frame("out", message)
        if isinstance(message, m.Submit):
            self.loop.call_later(0.02, self._answer, message.request_id)
        return self.link.send(message)

    def _answer(self, request_id: str) -> None:
        if self.online:
            self.link.receive(m.Ack(request_id=request_id, gpu="gpu-a", url=URL))
        else:
            self.link.receive(m.Offline(request_id=request_id, phase="booting", eta_s={"p50": 90.0, "p90": 120.0}))

    def _come_online(self) -> None:
        self.online = True
        self.link.receive(m.Online(gpu="gpu-a", url=URL))
        for submit in list(self.link.said(m.Submit)):
            self._answer(submit.request_id)

    def _world(self, job: Job) -> World:
        files = FakeFiles({"clip.mp4": job.id.encode() * 4000, "speech.wav": b"speech" * 500})
        return World(self.hub, FakeWorkers({URL: _worker(job)}, URL), files, job_random(7, job))


def _worker(job: Job) -> FakeWorker:
    number = int(job.id.removeprefix("job-")) - 1
    draw = Random(number)
    polls: list[TaskReport | WorkerUnreachable | TaskFailed] = [
        TaskReport("processing", percent) for percent in range(0, 100, draw.choice((10, 20, 25)))
    ]
    worker = FakeWorker(reports=[*polls, TaskReport("done", 100.0)])
    if number % 13 == 4:
        worker = FakeWorker(reports=[*polls[:3], TaskFailed("no face in the video")])
    if number % 17 == 2:
        worker.failures["upload"] = [WorkerUnreachable("connection reset by peer")] * 5
    worker.delays = {
        "upload": draw.uniform(1.0, 6.0),
        "submit": 0.2,
        "check": 0.1,
        "health": 0.05,
        "download": draw.uniform(0.5, 2),
    }
    return worker
