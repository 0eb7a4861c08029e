"""Hub, monitor, worker and client in one loop on loopback, and a fault proxy on each of the ways between them."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.support.faults.fault_proxy import CLEAR, Fault, FaultProxy, fault_proxy
from tests.support.programs.our_peers import SECRET, Joining, Place, until
from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.monitor import runner as monitor_program
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.net import hub_link as link
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import is_retryable
from wakestream.operators.model.events import Job, JobEvent, Outcome
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Reading
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.protocol import messages as m

WAYS = ("client-hub", "worker-hub", "monitor-hub", "client-worker", "monitor-worker")
SILENCE = 0.6
"""Seconds after which a silent link counts as dead in these tests."""

POLICY = Policy(
    hub=15, reply=5, online=20, line_every=1, health_every=0.05, ready=10, lost=3, transfer=1, poll_every=0.05,
    execution=20, total=30,
    again=Backoff(max_retries=20, initial=0.05, max_delay=0.3, retry_on=is_retryable),
    call=Backoff(max_retries=3, initial=0.05, max_delay=0.2, retry_on=is_retryable),
)  # fmt: skip


WITHIN = 20.0
"""Seconds that a test of these may take."""


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A test that ends in time, whatever hangs."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(WITHIN):
            await test(*args, **kwargs)

    return run


def hurry(monkeypatch: Any) -> None:
    """Links that notice and reconnect within parts of a second."""
    monkeypatch.setattr(link, "PING_EVERY", SILENCE / 2)
    monkeypatch.setattr(link, "SILENCE", SILENCE)
    monkeypatch.setattr(link, "RECONNECT", Backoff(initial=0.05, max_delay=0.2))
    monkeypatch.setattr(link, "REGISTER_WITHIN", 1.0)
    monkeypatch.setattr(monitor_program, "HEALTH_WITHIN", SILENCE / 2)


class Machine:
    """A GPU machine whose power is a worker in this loop. `starts` and `stops` count what was asked of it.

    Its worker takes a new port at each start, and the `proxies` before it follow.
    """

    def __init__(self, config: WorkerConfig, hub_url: str, proxies: Sequence[FaultProxy] = ()) -> None:
        self.config, self.hub_url, self.proxies = config, hub_url, proxies
        self.starts = self.stops = 0
        self.worker: RunningWorker | None = None
        self._on = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.starts += 1
        self._on = asyncio.Event()
        self._task = asyncio.create_task(self._run(self._on))

    async def _run(self, on: asyncio.Event) -> None:
        async with running_worker(self.config, lambda register: Link(self.hub_url, register)) as self.worker:
            for proxy in self.proxies:
                proxy.aim(int(self.worker.address.rpartition(":")[2]))
            await on.wait()

    async def stop(self) -> None:
        self.stops += 1
        self._on.set()

    async def inspect(self) -> Reading:
        if self._task is None or self._task.done():
            return Reading("stopped")
        return Reading("stopping" if self._on.is_set() else "running")

    async def close(self) -> None:
        self._on.set()
        if self._task is not None:
            await asyncio.gather(self._task)


@dataclass
class Between:
    """Everything that runs: `ways` are the proxies by name, `events` what the jobs went through."""

    folder: Path
    hub: HubServer
    client: Client
    machine: Machine
    monitor: MonitorProgram
    engine: Joining
    ways: dict[str, FaultProxy]
    jobs: dict[str, Job] = field(default_factory=dict)
    events: list[JobEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def job(self, name: str = "job-1", size: int = 3000) -> Job:
        """A job with files of its own; the same name again is the same job."""
        if name not in self.jobs:
            self.jobs[name] = new_job(self.folder, name, size)
        return self.jobs[name]

    async def run(self, job: Job) -> Outcome:
        """The job to its end."""
        return await self.client.run(job, self._note)

    def _note(self, event: JobEvent) -> None:
        self.events.append(event)
        self.changed.set()

    async def seen(self, kind: type[Any]) -> None:
        """Returns when a job has gone through such an event."""
        while not any(isinstance(event, kind) for event in self.events):
            self.changed.clear()
            await self.changed.wait()

    @property
    def settled(self) -> bool:
        """Whether no job waits at the hub or holds a GPU."""
        state = self.hub.state
        return not state.jobs and not any(gpu.leases for gpu in state.gpus.values())


def new_job(folder: Path, name: str, size: int = 3000) -> Job:
    """A job with files of its own."""
    video, audio = folder / f"{name}.mp4", folder / f"{name}.wav"
    video.write_bytes(Random(name).randbytes(size))
    audio.write_bytes(Random(name + "a").randbytes(500))
    return Job.lipsync(name, video, audio, folder / f"{name}-out.mp4")


def whole(job: Job) -> bool:
    """Whether the job's result is what the engine makes of its files."""
    return job.output.read_bytes() == job.inputs["video"].read_bytes() + job.inputs["audio"].read_bytes()


@asynccontextmanager
async def between(folder: Path, *, held: bool = False, policy: Policy = POLICY, **power: Any) -> AsyncIterator[Between]:
    """All programs, connected through the proxies; the GPU is off."""
    place, engine = Place(folder), Joining(held=held)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(place.hub())
        ways = {way: await stack.enter_async_context(fault_proxy(hub.port, seed=1)) for way in WAYS}
        worker = WorkerConfig(
            folder / "worker", engine, SECRET, port=0, gpu="gpu", key=place.keys["worker"],
            public_url=ways["client-worker"].url(),
        )  # fmt: skip
        machine = Machine(worker, ways["worker-hub"].url("ws", "/dsp"), (ways["client-worker"], ways["monitor-worker"]))
        stack.push_async_callback(machine.close)
        monitor = await _monitor(stack, place, ways, machine, power)
        settings = Settings(
            hub_url=ways["client-hub"].url("ws", "/dsp"), api_secret=Secret(SECRET), key=Secret(place.keys["client"])
        )
        client = await stack.enter_async_context(open_client(settings, policy))
        yield Between(folder, hub, client, machine, monitor, engine, ways)
        for proxy in ways.values():
            proxy.set(CLEAR, CLEAR)


async def _monitor(
    stack: AsyncExitStack, place: Place, ways: dict[str, FaultProxy], machine: Machine, power: dict[str, Any]
) -> MonitorProgram:
    policy = PowerPolicy(gpu="gpu", look_soon=0.1, look_rarely=0.2, look_online=0.2, query_timeout=1.0, **power)
    key = place.keys["monitor"]
    hub = Link(ways["monitor-hub"].url("ws", "/dsp"), lambda: m.Register(role="gpu_monitor", token=key, gpus=("gpu",)))
    workers = HttpWorkers(ways["monitor-worker"].url())
    stack.push_async_callback(workers.close)
    stack.push_async_callback(hub.close)
    monitor = Monitor(policy, Random(1))
    program = MonitorProgram(monitor, hub, machine, lambda url: workers.at(url).health(), tick=0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(program.run(stop))

    async def end() -> None:
        stop.set()
        await running

    stack.push_async_callback(end)
    return program


__all__ = ["POLICY", "SILENCE", "WAYS", "Between", "Fault", "between", "bounded", "hurry", "until", "whole"]
