"""Hub, monitor and daemons as their real deciders, in a world that may go wrong at every step, and a model beside it.

The wires are queues of messages; a journal keeps what was committed and forgets the rest when its program is killed.
What must never be is raised as `AssertionError` the moment it happens. Seconds are virtual: `mono` only goes forward,
the hub's UNIX clock may also step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.support.streams.submitting import submitting
from wakestream.operators.model import events as e
from wakestream.operators.model.ports import Accepted, BootFailure, LinkDown, LinkUp, PowerState, Refused
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.jobs.hub_client import FEATURES, HubClient
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, to_event
from wakestream.streams.outbox import facts as o
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import OutboxState, job_of
from wakestream.streams.protocol import messages as m

GPU = "gpu"
EPOCH = 1_700_000_000.0
CALL_WITHIN = 30.0
"""Seconds that a provider may take to answer."""

LAG, BOOT, HALT = 10.0, 20.0, 10.0
"""Seconds until an accepted start shows, until the machine then runs, until it is off after a stop."""


class Wire:
    """One connection to the hub: frames on their way up and down. It may be dead without the hub knowing it."""

    def __init__(self, fd: int, hears: Callable[[m.Message], None]) -> None:
        self.fd, self.hears = fd, hears
        self.up: list[m.Message] = []
        self.down: list[m.Message] = []
        self.cut = False


class Peer:
    """What has a connection to the hub, at times. `who` is its license."""

    def __init__(self, world: World, who: f.License, register: m.Register) -> None:
        self.world, self.who, self.register = world, who, register
        self.wire: Wire | None = None
        self.registered = False

    def send(self, message: m.Message) -> bool:
        """As a link's `send`."""
        if self.wire is None or not self.registered:
            return False
        self.wire.up.append(message)
        return True

    def _hears(self, wire: Wire, message: m.Message) -> None:
        if wire is not self.wire:
            return
        if isinstance(message, m.Registered):
            self.registered = True
            self.feed(LinkUp(frozenset(message.features or ())))
        elif isinstance(message, m.Kicked):
            self.cut()
        elif self.registered:
            self.feed(message)

    def connect(self) -> None:
        """A new connection; the hub may still believe in an older one."""
        if self.wire is None:
            self.wire = wire = self.world.open(self.who, self.register)
            wire.hears = lambda message: self._hears(wire, message)

    def cut(self) -> None:
        """The connection is gone, as this side sees it. The hub notices later."""
        if self.wire is not None:
            self._drop()
            self.feed(LinkDown("cut"))

    def _drop(self) -> None:
        if self.wire is not None:
            self.wire.cut = True
            self.wire.up.clear()
        self.wire, self.registered = None, False

    def feed(self, event: m.Message | LinkUp | LinkDown) -> None:
        """One event of the link."""


class Daemon(Peer):
    """The outbox's decider with its journal, the hub's client, and a pipeline that is only waiting and working."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, f.License(name, "client"), m.Register(key=name, device_type="pc", features=FEATURES))
        self.name = name
        self.journal: list[o.OutboxFact] = []
        self.promised: set[str] = set()
        self.ends: dict[str, str] = {}
        self._tickets = itertools.count(1)
        self._begin()

    def _begin(self) -> None:
        self.state = OutboxState()
        for fact in self.journal:
            outbox.DECIDER.evolve(self.state, fact)
        self.client = HubClient(self.send, _raise, lasting=True)
        self.client.on_released = lambda job: self.happen(o.Released(job))
        self.phase: dict[str, str] = {}
        self.listening: dict[str, Any] = {}

    def start(self) -> None:
        """Take up what the outbox holds."""
        self.happen(o.DaemonStarted())

    def feed(self, event: m.Message | LinkUp | LinkDown) -> None:
        self.client.feed(event)

    def happen(self, event: o.OutboxEvent, *, kept: bool = True) -> list[o.OutboxCommand]:
        """Decide, keep, carry out. With `kept` False the program is killed before the commit."""
        facts, commands = outbox.DECIDER.step(self.state, event, self.world.unix)
        if not kept:
            return []
        for fact in facts:
            self.journal.append(fact)
            self._check(fact)
        for command in commands:
            self._carry_out(command)
        return list(commands)

    def _check(self, fact: o.OutboxFact) -> None:
        if isinstance(fact, o.JobEnded):
            assert fact.job not in self.ends, f"{fact.job} ended twice"
            self.ends[fact.job] = fact.outcome

    def _carry_out(self, command: o.OutboxCommand) -> None:
        match command:
            case o.Answer(_, 201, job):
                assert any(isinstance(fact, o.JobAccepted) and fact.job == job for fact in self.journal)
                self.promised.add(job)
            case o.Start(job):
                self.phase[job] = "waiting"
                self.listening[job] = self.client.replies(self.job(job)).subscribe(
                    lambda reply, job=job: self._reply(job, reply)
                )
            case o.Stop(job):
                self.end(job, e.Cancelled())
            case o.Release(job, cancelled):
                self.client.end_job(job, cancelled=cancelled)
            case o.CancelNotice(job):
                self.client.end_job(job, cancelled=True)
                self.happen(o.Happened(job, e.Cancelled()))

    def job(self, job: str) -> e.Job:
        return job_of(self.state.jobs[job])

    def _reply(self, job: str, reply: Any) -> None:
        if self.phase.get(job) not in ("waiting", "again"):
            if isinstance(reply, Refused):
                self.phase[job] = "again"
            return
        match reply:
            case LinkUp():
                self.client.submit(self.job(job))
            case Accepted():
                self.phase[job] = "granted"
                self.happen(o.Happened(job, e.Granted("online", 0.0)))
            case Refused() | BootFailure():
                self.phase[job] = "again"

    def try_again(self, job: str) -> None:
        """After a retryable failure the pipeline starts again."""
        if self.phase.get(job) == "again":
            self.phase[job] = "waiting"
            if self.registered:
                self.client.submit(self.job(job))

    def work(self, job: str) -> None:
        """The next step of a granted job: it works while the machine runs, else it is lost and starts again."""
        if self.phase.get(job) not in ("granted", "working"):
            return
        worker = self.world.worker_of(job)
        if not worker.serving:
            self.phase[job] = "again"
        elif self.phase[job] == "granted":
            self.phase[job] = "working"
            worker.active()
        else:
            self.end(job, e.Done(Path("out.mp4"), 1))

    def end(self, job: str, outcome: e.Outcome) -> None:
        """The pipeline ends: the outbox gets the end first, then the hub."""
        listening = self.listening.pop(job, None)
        if listening is not None:
            listening.dispose()
        self.phase.pop(job, None)
        entry = self.state.jobs[job]
        cancelled = isinstance(outcome, e.Cancelled)
        self.client.release(job_of(entry), cancelled=cancelled)
        self.happen(o.Happened(job, outcome))

    def submit(self, job: str, *, kept: bool = True) -> None:
        """A user submits a job."""
        look = o.FileStat(f"/{job}", 1, 1)
        self.happen(
            submitting(next(self._tickets), job, {"video": look, "audio": look}, {"video": f"/{job}.out"}), kept=kept
        )
        if not kept:
            self.kill()

    def cancel(self, job: str) -> None:
        """A user cancels it."""
        self.happen(o.Cancelling(next(self._tickets), job))

    def kill(self) -> None:
        """kill -9, and a new start from the journal."""
        self._drop()
        self._begin()
        self.start()


class Provider:
    """The machine's power: an accepted start shows after a while, then boots. What it must never be asked is noted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state: PowerState = "stopped"
        self.since = 0.0
        self.hidden = False  # a start was accepted and does not show yet
        self.starts = self.stops = 0

    @property
    def seen(self) -> PowerState:
        """What a look tells. The machine of two GPUs does not tell that it is going to stop."""
        return "running" if self.state == "stopping" and len(self.world.gpus) > 1 else self.state

    def start(self) -> None:
        if len(self.world.gpus) > 1 and (self.state != "stopped" or self.hidden):
            return  # the monitor of its other GPU has started it
        assert self.state == "stopped", f"a start of a machine that is {self.state}"
        assert not self.hidden, "a second start while the first one runs"
        self.starts += 1
        self.hidden, self.since = True, self.world.mono

    def stop(self) -> None:
        leases = self.world.leases
        assert not (leases and self.state == "running"), f"a stop while {sorted(leases)} hold the GPU"
        self.stops += 1
        if self.state not in ("stopped", "stopping") or self.hidden:
            self._become("stopping")

    def _become(self, state: PowerState) -> None:
        self.state, self.since, self.hidden = state, self.world.mono, False
        for worker in self.world.workers if state != "running" else ():
            worker.cut()  # for the hub, the connection may outlive that for a while

    def passes(self) -> None:
        age = self.world.mono - self.since
        if self.hidden and age >= LAG:
            self._become("starting")
        elif self.state == "starting" and age >= BOOT:
            self._become("running")
        elif self.state == "stopping" and age >= HALT:
            self._become("stopped")

    def taken_back(self) -> None:
        """The machine goes away by itself, as spot machines do."""
        if self.state == "running":
            self._become("stopped")


class Watch(Peer):
    """The monitor's decider with its journal, at the provider. The second one of a machine is of an earlier version."""

    def __init__(self, world: World, gpu: str = GPU) -> None:
        features = ("power_state",) if gpu != GPU else ("power_state", "power_age", "machines")
        machine = "box" if len(world.gpus) > 1 else None
        register = m.Register(role="gpu_monitor", token="m", gpus=(gpu,), features=features, machine=machine)
        super().__init__(world, f.License("m", "monitor"), register)
        self.gpu = gpu
        policy = p.PowerPolicy(gpu=gpu, idle_after=120.0, boot_timeout=300.0, checks_health=False)
        self.monitor = Monitor(policy, Random(1))
        self.journal: list[persistence.MachineKept] = []
        self.machine = p.Machine()
        self.kept = persistence.snapshot(self.machine, world.mono, self.unix)
        self.calls: list[tuple[str, int, PowerState, float]] = []

    def feed(self, event: m.Message | LinkUp | LinkDown) -> None:
        heard = to_event(event, self.gpu)
        if heard is not None:
            self.happen(heard)

    def happen(self, event: p.PowerEvent) -> None:
        commands = self.monitor.step(self.machine, event, self.world.mono).commands
        kept = persistence.snapshot(self.machine, self.world.mono, self.unix)
        if persistence.worth_keeping(self.kept, kept):
            self.journal.append(kept)
            self.kept = kept
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: p.PowerCommand) -> None:
        provider, now = self.world.provider, self.world.mono
        match command:
            case p.Say(message):
                self.send(message)
            case p.Start(number):
                provider.start()
                self.calls.append(("start", number, "unknown", now))
            case p.Stop(number):
                provider.stop()
                self.calls.append(("stop", number, "unknown", now))
            case p.Inspect(number):
                self.calls.append(("inspect", number, provider.seen, now))

    @property
    def unix(self) -> float:
        """Its wall clock. It does not step: after a step, a recent start would look like one an hour ago."""
        return EPOCH + self.world.mono

    def answer(self) -> None:
        """The provider's answer to the oldest call arrives: a look tells what was so when it was made."""
        if self.calls:
            kind, number, reading, _ = self.calls.pop(0)
            self.happen(p.Reading(number, reading) if kind == "inspect" else p.Taken(number))

    def passes(self) -> None:
        """A call that takes too long is given up, as the monitor's program does."""
        late = self.world.mono - CALL_WITHIN
        while self.calls and self.calls[0][3] < late:
            self.happen(p.CallFailed(self.calls.pop(0)[1], "it took too long"))
        self.happen(p.Tick())

    def kill(self) -> None:
        """kill -9, and a new start from the journal."""
        self._drop()
        self.calls = []
        known = persistence.ages(self.journal, self.unix)
        self.machine = persistence.restore(known, self.world.mono)
        self.kept = persistence.snapshot(self.machine, self.world.mono, self.unix)


class GpuWorker(Peer):
    """The worker on the machine, at the hub: online as soon as it is connected."""

    def __init__(self, world: World, gpu: str = GPU) -> None:
        register = m.Register(role="worker", token="w", gpu=gpu, url="http://w:1")
        super().__init__(world, f.License("w", "worker"), register)
        self.gpu = gpu

    @property
    def serving(self) -> bool:
        """Whether a client can work with it."""
        return self.world.provider.state == "running"

    def feed(self, event: m.Message | LinkUp | LinkDown) -> None:
        if isinstance(event, LinkUp):
            self.send(m.Online(msg="the GPU is online", gpu=self.gpu, url="http://w:1"))

    def connect(self) -> None:
        if self.serving:
            super().connect()

    def active(self) -> None:
        self.send(m.TaskActive(task_id="t"))


@dataclass
class World:
    """All of it. `pending` is what the hub has decided and not committed."""

    gpus: tuple[str, ...] = (GPU,)
    mono: float = 1000.0
    step: float = 0.0
    journal: list[f.Fact] = field(default_factory=list)
    pending: list[tuple[Sequence[f.Fact], Sequence[f.Command]]] = field(default_factory=list)
    wires: dict[int, Wire] = field(default_factory=dict)
    fds: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.hub = hub.HubState()
        self.provider = Provider(self)
        self.workers = [GpuWorker(self, gpu) for gpu in self.gpus]
        self.watches = [Watch(self, gpu) for gpu in self.gpus]
        self.daemons = [Daemon(self, "d1"), Daemon(self, "d2")]
        self.happen(f.ProcessStarted())
        self.commit()

    @property
    def unix(self) -> float:
        """The wall clock."""
        return EPOCH + self.mono + self.step

    @property
    def peers(self) -> tuple[Peer, ...]:
        return (*self.daemons, *self.watches, *self.workers)

    @property
    def machines(self) -> list[p.Machine]:
        """What each monitor knows."""
        return [watch.machine for watch in self.watches]

    @property
    def watch(self) -> Watch:
        return self.watches[0]

    def worker_of(self, job: str) -> GpuWorker:
        """The worker that a job was given to."""
        of_it = self.hub.jobs.get(job)
        return next((worker for worker in self.workers if of_it and worker.gpu == of_it.gpu), self.workers[0])

    @property
    def leases(self) -> set[str]:
        """Jobs that hold the GPU by what the hub has said aloud: granted and kept, or not yet known to be released."""
        kept = hub.DECIDER.recover(self.journal)
        return {job for gpu in kept.gpus.values() for job in gpu.leases}

    # --- the hub's process

    def happen(self, event: f.Event) -> None:
        facts, commands = hub.DECIDER.step(self.hub, event, self.unix)
        durable = [fact for fact in facts if fact.DURABLE]
        self.pending.append((durable, commands))
        if not durable and len(self.pending) == 1:
            self.commit()

    def commit(self) -> None:
        """What was decided is kept, and only then said."""
        batch, self.pending = self.pending, []
        for facts, _ in batch:
            self.journal.extend(facts)
        for _, commands in batch:
            for command in commands:
                self._carry_out(command)

    def _carry_out(self, command: f.Command) -> None:
        match command:
            case f.Send():
                self._send((command.fd,), command.message)
            case f.Broadcast():
                self._send(command.to, command.message)
            case f.Close():
                self.closed(command.fd)

    def _send(self, to: Sequence[int], message: m.Message) -> None:
        if isinstance(message, m.Ack):
            assert any(isinstance(fact, f.JobGranted) and fact.id == message.request_id for fact in self.journal)
        if isinstance(message, m.Offline):
            assert any(isinstance(fact, f.JobQueued) and fact.id == message.request_id for fact in self.journal)
        for fd in to:
            if fd in self.wires and not self.wires[fd].cut:
                self.wires[fd].down.append(message)

    def kill_hub(self) -> None:
        """kill -9: what was not committed is gone, so are all connections; a new start reads the journal."""
        self.pending.clear()
        self.wires.clear()
        for peer in self.peers:
            peer.cut()
        self.hub = hub.DECIDER.recover(self.journal)
        self.happen(f.ProcessStarted())
        self.commit()

    # --- wires

    def open(self, who: f.License, register: m.Register) -> Wire:
        wire = self.wires.setdefault(fd := next(self.fds), Wire(fd, lambda _: None))
        self.happen(f.Opened(fd))
        self.happen(f.Registering(fd, register, register.key or register.token, who))
        return wire

    def closed(self, fd: int) -> None:
        """The hub hears that a connection is gone (or ends it)."""
        wire = self.wires.pop(fd, None)
        if wire is not None:
            for peer in self.peers:
                if peer.wire is wire:
                    peer.cut()
            self.happen(f.Closed(fd))

    def deliver(self, fd: int, *, up: bool, twice: bool = False) -> None:
        """The next frame of a direction arrives; `twice`: it will come once more."""
        wire = self.wires[fd]
        queue = wire.up if up else wire.down
        message = queue[0] if twice else queue.pop(0)
        if up:
            self.happen(f.Received(fd, message))
        else:
            wire.hears(message)

    def passes(self, seconds: float, *, watched: bool = True) -> None:
        """Time goes by, a second at a time, of which all programs hear; the monitor only if it is `watched`."""
        while seconds > 0:
            part = min(seconds, 1.0)
            self.mono, seconds = self.mono + part, seconds - part
            self.provider.passes()
            self.happen(f.Tick())
            for watch in self.watches if watched else ():
                watch.passes()

    def clock_steps(self, by: float) -> None:
        """The hub's wall clock is set, and the hub notices."""
        self.step += by
        self.happen(f.ClockMoved(by))

    # --- an end to all trouble

    def calm(self) -> None:
        """Everything works from now on, for as long as it takes until all promised jobs have ended."""
        for fd in [fd for fd, wire in self.wires.items() if wire.cut]:
            self.closed(fd)
        for _ in range(3000):
            self.one_good_second()
            if all(job in daemon.ends for daemon in self.daemons for job in daemon.promised):
                self._no_lease_is_left()
                self._it_is_switched_off()
                return
        lost = [job for daemon in self.daemons for job in daemon.promised if job not in daemon.ends]
        raise AssertionError(f"{lost} never end; the GPU is {self.machines}, the hub holds {self.hub.jobs}")

    def _no_lease_is_left(self) -> None:
        """A job that has ended holds no GPU: within a minute or two the hub knows."""
        for _ in range(120):
            if not self.hub.jobs:
                return
            self.one_good_second()
        raise AssertionError(f"all has ended, but the hub still holds {sorted(self.hub.jobs)}")

    def _it_is_switched_off(self) -> None:
        """A machine that no job needs is off after its idle time."""
        for _ in range(600):
            if self.provider.state == "stopped" and not self.provider.hidden:
                return
            self.one_good_second()
        raise AssertionError(f"no job needs the machine, and it stays on: {self.machines}, {self.hub.gpus}")

    def one_good_second(self, *, work: bool = True) -> None:
        """Everything works for a second; without `work`, jobs that hold the GPU go on to do so."""
        for peer in self.peers:
            peer.connect()
        self.settle()
        for watch in self.watches:
            while watch.calls:
                watch.answer()
        for daemon in self.daemons:
            for job in list(daemon.phase):
                daemon.try_again(job)
                if work:
                    daemon.work(job)
        self.settle()
        self.passes(1.0)
        if int(self.mono) % 25 == 0:
            for daemon in self.daemons:
                daemon.send(m.Ping())

    def settle(self) -> None:
        """All frames in transit arrive."""
        while True:
            self.commit()
            ways = [
                (fd, up) for fd, wire in self.wires.items() for up in (True, False) if (wire.up if up else wire.down)
            ]
            if not ways:
                return
            for fd, up in ways:
                if fd in self.wires and (self.wires[fd].up if up else self.wires[fd].down):
                    self.deliver(fd, up=up)


def _raise(error: Exception, _: Any) -> None:
    raise error
