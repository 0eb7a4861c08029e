"""Client, hub and monitor in a replay of a whole system: each runs its real decider on an in-memory network.

Each takes inputs from its own log (`drive`), except the frames that another replayed program sends (`receive`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

from msgspec import structs
from reactivex import abc

from wakestream.operators.model.events import Job
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import LinkUp
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.jobs.daemon_pipeline import pipeline_of
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.job_runner import Daemon
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, to_event
from wakestream.streams.monitor.persistence import restore
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import TICK, Log, MemoryTap, Row, Tap
from wakestream.streams.replay.input_rows import command_of, job_from, link_event
from wakestream.streams.replay.replay_client import OURS, client_config
from wakestream.streams.replay.replay_hub import ReplayedHub, Sent, event_from
from wakestream.streams.replay.replay_monitor import monitor_event
from wakestream.streams.simulation.log_alignment import is_frame, links
from wakestream.streams.simulation.network import Channel, Network
from wakestream.streams.simulation.simulated_gpu import SimulatedGpu


class Program:
    """One replayed program: its log, whose clock is `offset` seconds behind the network's, and its new log."""

    def __init__(self, net: Network, log: Log, offset: float) -> None:
        self.net, self.log, self.offset = net, log, offset
        self.tap = MemoryTap(lambda: net.now - offset)
        self.ends = offset + log.rows[-1].t + TICK if log.rows else 0.0

    @property
    def over(self) -> bool:
        """Whether an exact replay has passed the end of this program's log."""
        return self.net.exact and self.net.now > self.ends

    def again(self) -> Log:
        """The log of what the program did now."""
        rows = self.tap.rows
        if self.net.exact:
            rows = [row for row in rows if row.t <= self.ends - self.offset]
        return Log(self.log.header, tuple(rows))


class HubProgram(Program):
    """The hub. `channels` has the connections whose other end is replayed too, by number."""

    def __init__(self, net: Network, log: Log, offset: float, limits: hub.Limits) -> None:
        super().__init__(net, log, offset)
        self._hub = ReplayedHub(limits, self.tap, self._deliver, idle_ticks=net.exact)
        self.channels: dict[int, Channel] = {}

    @property
    def clock(self) -> float:
        """UNIX seconds, as the hub reads them."""
        return self.log.header.epoch + self.net.now - self.offset

    def drive(self, row: Row) -> None:
        """Handle an input row of its own log."""
        event = event_from(row)
        if event is not None:
            self.handle(event, row)

    def receive(self, fd: int, message: m.Message, row: Row | None) -> None:
        """A message of a replayed peer."""
        self.handle(f.Received(fd, message, old=row is not None and bool(row.data.get("old"))), row)

    def tick(self) -> None:
        """Let time pass, once a second."""
        self.handle(f.Tick())
        self.net.after(1.0, self.tick)

    def is_open(self, fd: int) -> bool:
        """Whether this connection is open."""
        return fd in self._hub.open

    def handle(self, event: f.Event, row: Row | None = None) -> None:
        """Decide on an event. In an exact replay the time is the one in its recorded `row`."""
        self._hub.handle(event, self.clock if row is None or not self.net.exact else float(row.data["now"]))

    def _deliver(self, command: Sent, receivers: Iterable[int]) -> None:
        old = wire.encode_old(command.message) if command.old else None
        for channel in (self.channels[fd] for fd in receivers if fd in self.channels):
            channel.send(command.message)
            if old is not None:
                channel.send(wire.decode(old, strict=False))


class PeerProgram(Program):
    """A client or a monitor. `channels` to the hub are by the first row of each connection in its log."""

    def __init__(self, net: Network, log: Log, offset: float) -> None:
        super().__init__(net, log, offset)
        self.channels: dict[int, Channel] = {}
        self._channel: Channel | None = None
        first = next(iter(links(log)), [])
        self._up = bool(first) and first[0].label != "register"  # the log begins during a connection

    def connect(self, first: int, channel: Channel, features: Iterable[str]) -> None:
        """Use `channel` from the row with seq `first` on; the hub behind it has these features."""
        self.channels[first] = channel
        if self._up and self._channel is None:
            self._channel = channel
            self.start_connected(LinkUp(frozenset(features)))

    def start_connected(self, link: LinkUp) -> None:
        """The log begins during a connection. A monitor ignores this, since its earlier state is unknown."""

    def linked(self, row: Row) -> None:
        """Follow the recorded link: which connection is used, and whether it is up."""
        self._channel = self.channels.get(row.seq, self._channel)
        if row.dir == "out" and row.label == "register":
            self._channel = self.channels.get(row.seq)
        if row.dir == "conn" and row.label in ("up", "down"):
            self._up = row.label == "up"

    def send(self, message: m.Message) -> bool:
        """Send to the hub; False while there is no link."""
        if not self._up or self.over:
            return False
        self.tap.frame("out", message)
        if self._channel is not None:
            self._channel.send(message)
        return True


MakeWorld = Callable[[Job, HubClient, Tap], World]


class ClientProgram(PeerProgram):
    """A client's pipelines. `world` makes the ports of a job."""

    def __init__(self, net: Network, log: Log, offset: float, policy: Policy, build: Build, world: MakeWorld) -> None:
        super().__init__(net, log, offset)
        self.hub = HubClient(self.send, lambda error, _: net.fail(error), **client_config(log))
        self.daemon = Daemon(
            lambda job: world(job, self.hub, self.tap), policy, tap=self.tap, build=pipeline_of(log, build)
        )
        self.scheduler = LoopScheduler(net.loop)
        self.unfinished: set[str] = set()
        self._accepted = {row.job for row in log.rows if row.label == "job.accept"}
        self._running: list[abc.DisposableBase] = []

    def start_connected(self, link: LinkUp) -> None:
        """Jobs that are accepted later find the link up."""
        self.hub.feed(link)

    def drive(self, row: Row) -> None:
        """Handle a row of its own log: the link, a user's command, or a frame that no replayed program sends."""
        self.linked(row)
        if row.dir == "conn":
            self.tap.row("conn", row.label, row.data)
            self.hub.feed(link_event(row))
        elif row.label == "job.accept":
            self._accept(job_from(row))
        elif (command := command_of(self.daemon, row)) is not None:
            command()
        elif row.dir == "in":
            self.receive(wire.from_frame(row.data, strict=False), row)
        elif row.dir == "out" and is_frame(row) and self._by_hand(row):
            self.send(wire.from_frame(row.data, strict=False))

    def _by_hand(self, row: Row) -> bool:
        """Whether no job of this log sends the frame: a user did, or a job that began before the log."""
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
        """Dispose of the jobs that have not ended."""
        for running in self._running:
            running.dispose()
        await self.scheduler.close()


class MonitorProgram(PeerProgram):
    """A monitor. `gpu` is its simulated machine, or None where the log has the provider's answers."""

    def __init__(self, net: Network, log: Log, offset: float, policy: p.PowerPolicy, gpu: SimulatedGpu | None) -> None:
        super().__init__(net, log, offset)
        self.monitor = Monitor(policy, Random(log.header.seed))
        self.machine = restore(log.header.config.get("recalled"), 0.0)
        self.gpu = gpu
        self._ticking: asyncio.TimerHandle | None = None

    def drive(self, row: Row) -> None:
        """Handle a row of its own log: the link, and in an exact replay also ticks and the provider's answers."""
        self.linked(row)
        if row.dir == "in":
            self.receive(wire.from_frame(row.data, strict=False), row)
        elif (row.dir == "conn" and row.label != "tick") or (row.dir in ("conn", "effect") and self.gpu is None):
            self.tap.row(row.dir, row.label, row.data)
            self.handle(monitor_event(row))

    def receive(self, message: m.Message, _: Row | None) -> None:
        """A message of the hub."""
        self.tap.frame("in", message)
        event = to_event(message, self.monitor.policy.gpu)
        if event is not None:
            self.handle(event)

    def handle(self, event: p.PowerEvent) -> None:
        """Decide on an event. With a simulated machine, the monitor ticks one second after each event."""
        commands = self.monitor.step(self.machine, event, self.net.now - self.offset).commands
        if commands and isinstance(event, p.Tick) and self.gpu is not None:
            self.tap.row("conn", "tick", {})
        for command in commands:
            if isinstance(command, p.Say):
                self.send(command.message)
            elif self.gpu is not None:
                self.net.after(self.gpu.pace.call, self._ask, self.gpu, command)
        if self.gpu is not None:
            if self._ticking is not None:
                self._ticking.cancel()
            self._ticking = self.net.after(1.0, self.handle, p.Tick())

    def _ask(self, gpu: SimulatedGpu, command: p.PowerCommand) -> None:
        """Call the machine, and handle its answer."""
        answer = _answer(gpu, command)
        if answer is not None:
            label, event = answer
            self.tap.row("effect", label, structs.asdict(event))
            self.handle(event)


def _answer(gpu: SimulatedGpu, command: p.PowerCommand) -> tuple[str, p.CallAnswer] | None:
    """Carry out a call; returns the label of its row, and what the monitor learns."""
    match command:
        case p.Start(number):
            gpu.start()
            return "power.start", p.Taken(number)
        case p.Stop(number):
            gpu.stop()
            return "power.stop", p.Taken(number)
        case p.Inspect(number):
            return "power.inspect", p.Reading(number, gpu.reading)
        case p.CheckHealth() if gpu.initialized:
            return "power.health", p.HealthAnswer(True)
        case p.CheckHealth():
            why = "it is not initialized" if gpu.serving else f"{gpu.url} does not answer"
            return "power.health", p.HealthAnswer(False, why)
    return None
