"""Client, hub and monitor in a replay of a whole system: each the program itself, on an in-memory network.

Each is driven by those rows of its own log that no other log accounts for (`drive`), and hears the others (`receive`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from reactivex import abc

from wakestream.operators.model.events import Job
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import LinkUp
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.rows import event_row, sent_row
from wakestream.streams.jobs.daemon_pipeline import pipeline_of
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.job import World
from wakestream.streams.jobs.job_runner import RETRY_NOW, Build, Daemon
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, hear
from wakestream.streams.monitor.persistence import recalled
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import TICK, Log, MemoryTap, Row
from wakestream.streams.replay.replay_client import OURS, client_config, job_from, link_event
from wakestream.streams.replay.replay_hub import event_from, take_in
from wakestream.streams.replay.replay_monitor import outcome_from
from wakestream.streams.simulation.log_alignment import is_frame, links
from wakestream.streams.simulation.network import Lane, Network
from wakestream.streams.simulation.simulated_gpu import ModelledGpu


class Side:
    """What all three have: their own log and its clock, `offset` seconds behind the network's, and their own record."""

    def __init__(self, net: Network, log: Log, offset: float) -> None:
        self.net, self.log, self.offset = net, log, offset
        self.tap = MemoryTap(lambda: net.now - offset)
        self.ends = offset + log.rows[-1].t + TICK if log.rows else 0.0

    @property
    def over(self) -> bool:
        """Whether the recorded run is repeated, and this program's log told no more of it."""
        return self.net.exact and self.net.now > self.ends

    def again(self) -> Log:
        """The log of what the program did now."""
        rows = self.tap.rows
        if self.net.exact:
            rows = [row for row in rows if row.t <= self.ends - self.offset]
        return Log(self.log.header, tuple(rows))


class HubSide(Side):
    """The hub's decider. `lanes` leads to each connection whose other end is replayed too."""

    def __init__(self, net: Network, log: Log, offset: float, limits: hub.Limits) -> None:
        super().__init__(net, log, offset)
        self.state = hub.HubState(limits=limits)
        self.open: set[int] = set()
        self.lanes: dict[int, Lane] = {}

    @property
    def clock(self) -> float:
        """UNIX seconds, as the hub reads them."""
        return self.log.header.epoch + self.net.now - self.offset

    def drive(self, row: Row) -> None:
        """An event of its own log."""
        event = event_from(row)
        if event is not None:
            self.happen(event, float(row.data["now"]) if self.net.exact else self.clock)

    def receive(self, fd: int, message: m.Message, row: Row | None) -> None:
        """A message of a replayed peer."""
        now = self.clock if row is None or not self.net.exact else float(row.data["now"])
        self.happen(f.Received(fd, message, old=row is not None and bool(row.data.get("old"))), now)

    def tick(self) -> None:
        """Time passes, each second."""
        self.happen(f.Tick(), self.clock)
        self.net.after(1.0, self.tick)

    def happen(self, event: f.Event, now: float) -> None:
        """Decide on an event, and carry out at once what follows: here the journal takes no time."""
        take_in(self.state, event)
        if isinstance(event, f.Opened):
            self.open.add(event.fd)
        if isinstance(event, f.Closed):
            self.open.discard(event.fd)
        facts, commands = hub.decide(self.state, event, now)
        if self.net.exact or facts or commands or not isinstance(event, f.Tick):
            self.tap.row(*event_row(event, now))
        for fact in facts:
            hub.evolve(self.state, fact)
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: f.Command) -> None:
        if isinstance(command, f.Close):
            return
        to = (command.fd,) if isinstance(command, f.Send) else command.to
        here = [fd for fd in to if fd in self.open]
        self.tap.row(*sent_row(here, command.message, command.old))
        old = wire.encode_old(command.message) if command.old else None
        for lane in (self.lanes[fd] for fd in here if fd in self.lanes):
            lane.send(command.message)
            if old is not None:
                lane.send(wire.decode(old, strict=False))


class PeerSide(Side):
    """A program at the other end: `lanes` to the hub are by the first row of each connection in its log."""

    def __init__(self, net: Network, log: Log, offset: float) -> None:
        super().__init__(net, log, offset)
        self.lanes: dict[int, Lane] = {}
        self._lane: Lane | None = None
        first = next(iter(links(log)), [])
        self._up = bool(first) and first[0].label != "register"  # the log begins in the midst of a connection

    def connect(self, first: int, lane: Lane, features: Iterable[str]) -> None:
        """Over `lane` goes what is sent from the row of seq `first` on, to a hub of these features."""
        self.lanes[first] = lane
        if self._up and self._lane is None:
            self._lane = lane
            self.found_up(LinkUp(frozenset(features)))

    def found_up(self, link: LinkUp) -> None:
        """The log begins with the link up. A monitor's state cannot be made up for; see `ClientSide`."""

    def linked(self, row: Row) -> None:
        """Follow the link: which connection it is, and whether it is up, are as they were."""
        self._lane = self.lanes.get(row.seq, self._lane)
        if row.dir == "out" and row.label == "register":
            self._lane = self.lanes.get(row.seq)
        if row.dir == "conn" and row.label in ("up", "down"):
            self._up = row.label == "up"

    def send(self, message: m.Message) -> bool:
        """To the hub; False while there is no link."""
        if not self._up or self.over:
            return False
        self.tap.frame("out", message)
        if self._lane is not None:
            self._lane.send(message)
        return True


MakeWorld = Callable[[Job, HubClient], World]


class ClientSide(PeerSide):
    """A client's pipelines. `world` is what a job sees of the world besides the hub."""

    def __init__(self, net: Network, log: Log, offset: float, policy: Policy, build: Build, world: MakeWorld) -> None:
        super().__init__(net, log, offset)
        self.hub = HubClient(self.send, lambda error, _: net.fail(error), **client_config(log))
        self.daemon = Daemon(lambda job: world(job, self.hub), policy, tap=self.tap, build=pipeline_of(log, build))
        self.scheduler = LoopScheduler(net.loop)
        self.unfinished: set[str] = set()
        self._accepted = {row.job for row in log.rows if row.label == "job.accept"}
        self._running: list[abc.DisposableBase] = []

    def found_up(self, link: LinkUp) -> None:
        """Jobs that are accepted later find it so."""
        self.hub.feed(link)

    def drive(self, row: Row) -> None:
        """A row of its own log: the link, a wish, a frame that was sent by hand, or one whose sender is not here."""
        self.linked(row)
        if row.dir == "conn":
            self.tap.row("conn", row.label, row.data)
            self.hub.feed(link_event(row))
        elif row.label == "job.accept":
            self._accept(job_from(row))
        elif row.label == "job.cancel":
            self.daemon.cancel(str(row.job))
        elif row.label == RETRY_NOW:
            self.daemon.retry_now(str(row.job))
        elif row.dir == "in":
            self.receive(wire.from_frame(row.data, strict=False), row)
        elif row.dir == "out" and is_frame(row) and self._by_hand(row):
            self.send(wire.from_frame(row.data, strict=False))

    def _by_hand(self, row: Row) -> bool:
        """Whether no job of this log sends the frame: somebody else did, or a job from before the log began."""
        return row.job not in self._accepted if row.label in OURS else row.label != "register"

    def receive(self, message: m.Message, _: Row | None) -> None:
        """A message of the hub."""
        self.tap.frame("in", message)
        self.hub.feed(message)

    def _accept(self, job: Job) -> None:
        self.unfinished.add(job.id)
        running = self.daemon.events(job).subscribe(
            on_error=self.net.fail, on_completed=lambda: self.unfinished.discard(job.id), scheduler=self.scheduler
        )
        self._running.append(running)

    async def close(self) -> None:
        """Let go of what has not ended."""
        for running in self._running:
            running.dispose()
        await self.scheduler.close()


class MonitorSide(PeerSide):
    """A monitor's decider. `gpu` is its machine, or None where the log answers for it."""

    def __init__(self, net: Network, log: Log, offset: float, policy: p.PowerPolicy, gpu: ModelledGpu | None) -> None:
        super().__init__(net, log, offset)
        self.monitor = Monitor(policy, Random(log.header.seed))
        self.machine = recalled(log.header.config.get("recalled"), 0.0)
        self.gpu = gpu
        self._ticking: asyncio.TimerHandle | None = None

    def drive(self, row: Row) -> None:
        """A row of its own log: the link, and in a repeated run also the clock and what the provider said."""
        self.linked(row)
        if row.dir == "in":
            self.receive(wire.from_frame(row.data, strict=False), row)
        elif row.dir == "conn" and (self.gpu is None or row.label != "tick"):
            self.tap.row("conn", row.label, row.data)
            self.happen(p.Tick() if row.label == "tick" else link_event(row))
        elif row.dir == "effect" and self.gpu is None:
            self.tap.row("effect", row.label, row.data)
            self.happen(outcome_from(row))

    def receive(self, message: m.Message, _: Row | None) -> None:
        """A message of the hub."""
        self.tap.frame("in", message)
        event = hear(message, self.monitor.policy.gpu)
        if event is not None:
            self.happen(event)

    def happen(self, event: p.PowerEvent) -> None:
        """Decide on an event. With a machine of its own, the monitor looks at the clock a second after each."""
        self.machine, commands = self.monitor.decide(self.machine, event, self.net.now - self.offset)
        if commands and isinstance(event, p.Tick) and self.gpu is not None:
            self.tap.row("conn", "tick", {})
        for command in commands:
            if isinstance(command, p.Say):
                self.send(command.message)
            elif self.gpu is not None:
                self._ask(self.gpu, command)
        if self.gpu is not None:
            if self._ticking is not None:
                self._ticking.cancel()
            self._ticking = self.net.after(1.0, self.happen, p.Tick())

    def _ask(self, gpu: ModelledGpu, command: p.PowerCommand) -> None:
        call = _CALLS.get(type(command))
        if call is not None:
            self.net.after(gpu.pace.call, self._answer, call, gpu, command)

    def _answer(self, call: tuple[str, Callable[[ModelledGpu, Any], p.PowerEvent]], gpu: ModelledGpu, to: Any) -> None:
        label, carry_out = call
        event = carry_out(gpu, to)
        self.tap.row("effect", label, {name: getattr(event, name) for name in event.__slots__})
        self.happen(event)


def _start(gpu: ModelledGpu, command: p.Start) -> p.PowerEvent:
    gpu.start()
    return p.Taken(command.number)


def _stop(gpu: ModelledGpu, command: p.Stop) -> p.PowerEvent:
    gpu.stop()
    return p.Taken(command.number)


def _inspect(gpu: ModelledGpu, command: p.Inspect) -> p.PowerEvent:
    return p.Reading(command.number, gpu.reading)


def _check(gpu: ModelledGpu, _: p.CheckHealth) -> p.PowerEvent:
    if gpu.initialized:
        return p.HealthAnswer(True)
    return p.HealthAnswer(False, "it is not initialized" if gpu.serving else f"nobody answers at {gpu.url}")


_CALLS: Mapping[type, tuple[str, Callable[[ModelledGpu, Any], p.PowerEvent]]] = {
    p.Start: ("power.start", _start),
    p.Stop: ("power.stop", _stop),
    p.Inspect: ("power.inspect", _inspect),
    p.CheckHealth: ("power.health", _check),
}
