"""Client, hub and monitor in a replay, of one log or of those of a whole system: each runs its real decider.

Each takes inputs from its own log (`action`), except the frames that another replayed program sends (`receive`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random

from msgspec import structs
from reactivex import abc

from wakestream.operators.model.events import Job
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import LinkUp
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.rows import event_row, sent_row
from wakestream.streams.jobs.daemon_pipeline import pipeline_of
from wakestream.streams.jobs.hub_client import HubClient, HubEvent
from wakestream.streams.jobs.job_runner import Daemon, job_random
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, to_event
from wakestream.streams.monitor.persistence import restore
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import TICK, Log, MemoryTap, Row, ended_jobs, untapped
from wakestream.streams.replay.input_rows import (
    command_of,
    event_from,
    is_frame,
    job_from,
    link_event,
    monitor_event,
    row_errors,
)
from wakestream.streams.replay.network import Channel, Network
from wakestream.streams.replay.recorded_ports import Answers, Known, Watch, effects_of, recorded_world
from wakestream.streams.replay.row_order import RowOrder

OURS = frozenset({
    "gpu.job.submit", "gpu.job.cancel", "gpu.job.done",
    "gpu.depot.offer", "gpu.depot.progress", "gpu.depot.stored", "gpu.depot.withdraw", "gpu.depot.query",
})  # fmt: skip
"""Frames that jobs send. The other frames of a client's log come from the link or from a user."""

LAST = 100
"""Decisions of a hub that was replaced that its journal may lack."""

Action = Callable[[], object]


class Program:
    """One replayed program: its log, whose clock is `offset` seconds behind the network's, and its new log."""

    def __init__(self, net: Network, log: Log, offset: float, rows: Sequence[Row] = ()) -> None:
        self.net, self.log, self.offset = net, log, offset
        start, loop = net.start + offset, net.loop
        self.clock: Callable[[], float] = lambda: loop.time() - start
        self.tap = MemoryTap(self.clock)
        self.order = RowOrder(loop, rows, start)
        self.ends = offset + (log.rows[-1].t if log.rows else 0.0) + TICK

    def is_input(self, row: Row) -> bool:
        """Whether a row of its own log causes an action."""
        return row.dir in ("conn", "in")

    def drive(self, row: Row) -> None:
        """Do what an input row of its own log stands for. An error ends the replay."""
        if self.net.closed:
            return
        try:
            with row_errors(row, "" if self.net.alone else self.log.header.program):
                act = self.action(row)
            if act is not None:
                act()
        except Exception as error:  # raised in a callback, it would not end the replay
            self.net.fail(error)

    def action(self, row: Row) -> Action | None:
        """What an input row stands for. An error means that the row cannot be read."""
        raise NotImplementedError

    def again(self) -> Log:
        """The log of what the program did now."""
        rows, ends = self.tap.rows, self.ends - self.offset
        if self.net.exact and not self.net.alone:
            rows = [row for row in rows if row.t <= ends]
        return Log(self.log.header, tuple(rows))

    async def close(self) -> None:
        """Dispose of what has not ended."""
        self.order.close()


async def run(net: Network, rows: Iterable[tuple[Program, Row]], programs: Sequence[Program]) -> list[Log]:
    """Run the programs on these rows of their logs, and then until the jobs in `net.awaited` have ended.

    Returns:
        The log of what each program does now.

    Raises:
        UnusableLog: A row cannot be read.
    """
    for program, row in rows:
        if program.is_input(row):
            program.order.plan(row.t, program.drive, row)
    net.at(max(program.ends for program in programs), net.logs_end)
    before = net.loop.get_exception_handler()
    net.loop.set_exception_handler(net.escaped)
    try:
        await net.over
    finally:
        net.loop.set_exception_handler(before)
        net.closed = True  # the recorded programs did not send what closing sends now
        for program in programs:
            await program.close()
    return [program.again() for program in programs]


class HubProgram(Program):
    """The hub. Facts take effect at once, since nothing is written to disk.

    `channels` has the connections whose other end is replayed too, by number. `open` are all that are open. `former` is
    the hub that led before it, in whose journal it goes on.
    """

    def __init__(self, net: Network, log: Log, limits: hub.Limits, offset: float = 0.0) -> None:
        super().__init__(net, log, offset)
        self._state = hub.HubState(limits=limits)
        self.channels: dict[int, Channel] = {}
        self.open: set[int] = set()
        self.former: HubProgram | None = None
        self._began = f.ProcessStarted()
        self._facts: list[f.Fact] = []
        self._decisions: deque[int] = deque([0], LAST)  # how many facts there were after each

    def action(self, row: Row) -> Action:
        """Decide on the event of a row, in an exact replay at its recorded time."""
        return partial(self.handle, event_from(row), float(row.data["now"]) if self.net.exact else None)

    def receive(self, fd: int, message: m.Message, row: Row | None) -> None:
        """A message of a replayed peer."""
        now = None if row is None or not self.net.exact else float(row.data["now"])
        self.handle(f.Received(fd, message, old=row is not None and bool(row.data.get("old"))), now)

    def tick(self) -> None:
        """Let time pass, once a second."""
        self.handle(f.Tick())
        self.net.after(1.0, self.tick)

    def handle(self, event: f.Event, now: float | None = None) -> None:
        """Decide on an event at `now` (UNIX seconds), then apply the facts and send the messages."""
        now = self.log.header.epoch + self.clock() if now is None else now
        match event:
            case f.ProcessStarted(kept=kept, journal=journal):  # what the journal had when the hub started
                if journal and self.former is not None:
                    event = self.former.read_by(event)
                self._began = event
                hub.DECIDER.recover(kept, self._state, event.rows)
            case f.Opened(fd):
                self.open.add(fd)
            case f.Closed(fd):
                self.open.discard(fd)
        facts, commands = hub.DECIDER.step(self._state, event, now)
        self._facts += (fact for fact in facts if fact.DURABLE and not self.net.alone)
        self._decisions.append(len(self._facts))
        if self.net.exact or facts or commands or not isinstance(event, f.Tick):
            self.tap.row(*event_row(event, now))
        for command in commands:
            if isinstance(command, f.Send | f.Broadcast):
                receivers = (command.fd,) if isinstance(command, f.Send) else command.to
                connected = [fd for fd in receivers if fd in self.open]
                self.tap.row(*sent_row(connected, command.message, command.old))
                self._deliver(command, [self.channels[fd] for fd in connected if fd in self.channels])

    def read_by(self, started: f.ProcessStarted) -> f.ProcessStarted:
        """What the next hub reads in the journal when it starts: the recorded state, if this hub's facts lead to it.

        The last facts that it decided on may not have been written.
        """
        states = (
            tuple(hub.DECIDER.snapshot(self._recovered(self._facts[:count], self._began.rows)))
            for count in (started.seq - self._began.seq, *reversed(self._decisions))
        )
        recorded = tuple(hub.DECIDER.snapshot(self._recovered((), started.rows)))
        first = next(states)
        same = recorded == first or recorded in states
        return started if same else structs.replace(started, rows=first)

    def _recovered(self, facts: Iterable[f.Fact], rows: Iterable[bytes]) -> hub.HubState:
        return hub.DECIDER.recover(facts, hub.HubState(limits=self._state.limits), rows)

    def _deliver(self, command: f.Send | f.Broadcast, channels: Sequence[Channel]) -> None:
        old = wire.encode_old(command.message) if command.old and channels else None
        for channel in channels:
            channel.send(command.message)
            if old is not None:
                channel.send(wire.decode(old, strict=False))


class PeerProgram(Program):
    """A client or a monitor. `channels` to the hub are by the first row of each connection in its log.

    `early`: it sends even while there is no link.
    """

    def __init__(self, net: Network, log: Log, offset: float, rows: Sequence[Row] = ()) -> None:
        super().__init__(net, log, offset, rows)
        self.channels: dict[int, Channel] = {}
        self.early = False
        self._channel: Channel | None = None
        first = None if net.alone else next(filter(is_frame, log.rows), None)
        self._up = first is not None and first.label != "register"  # the log begins during a connection

    def connect(self, first: int, channel: Channel, features: Iterable[str]) -> None:
        """Use `channel` from the row with seq `first` on; the hub behind it has these features."""
        self.channels[first] = channel
        if self._up and self._channel is None:
            self._channel = channel
            self.start_connected(LinkUp(frozenset(features)))

    def start_connected(self, link: LinkUp) -> None:
        """The log begins during a connection. A monitor ignores this, since its earlier state is unknown."""

    def is_input(self, row: Row) -> bool:
        """Also what the link sends first on a connection whose other end is replayed, too."""
        return row.dir != "out" or (row.label == "register" and bool(self.channels))

    def linked(self, row: Row) -> None:
        """Follow the recorded link: which connection is used, and whether it is up."""
        self._channel = self.channels.get(row.seq, self._channel)
        if row.dir == "out" and row.label == "register":
            self._channel = self.channels.get(row.seq)
        if row.dir == "conn" and row.label in ("up", "down"):
            self._up = row.label == "up"

    def send(self, message: m.Message) -> bool:
        """Send to the hub; False while there is no link."""
        net = self.net
        if not (self._up or self.early) or net.closed or (net.exact and not net.alone and net.now > self.ends):
            return False
        self.tap.frame("out", message)
        if self._channel is not None:
            self._channel.send(message)
        return True


Simulate = Callable[[World, Job, Known], World]
"""Replaces ports of a job's world, which answer from the log's rows of effects, by simulated ones."""


class ClientProgram(PeerProgram):
    """A client's pipelines. `watch` collects what happens, for the case that the replay does not end."""

    def __init__(
        self,
        net: Network,
        log: Log,
        policy: Policy,
        build: Build,
        offset: float = 0.0,
        *,
        watch: Watch | None = None,
        simulate: Simulate | None = None,
    ) -> None:
        super().__init__(net, log, offset, log.rows if net.alone else ())
        self.early = net.alone  # a user's pipeline need not wait for the link
        config = log.header.config
        self.hub = HubClient(
            self.send,
            lambda error, _: net.fail(error),
            needs=frozenset(config.get("needs", ())),
            traced=bool(config.get("traced")),
            lasting=bool(config.get("lasting")),
            local=bool(config.get("local")),
        )
        self.daemon = Daemon(self._world, policy, tap=self.tap, build=pipeline_of(log, build))
        self.scheduler = LoopScheduler(net.loop)
        self.accepted = {row.job for row in log.rows if row.label == "job.accept" and row.job}
        self.watch = watch or Watch()
        self.watch.clock = self.clock
        self.watch.open.update(self.accepted)
        if net.alone:
            net.awaited |= ended_jobs(log) & self.accepted
        elif not net.exact:
            net.awaited |= self.accepted
        self._known, self._simulate = effects_of(log), simulate
        self._running: list[abc.DisposableBase] = []

    def _world(self, job: Job) -> World:
        tap = untapped if self._simulate else self.tap  # simulated ports are recorded with the others
        answers = Answers(self._known, job.id, self.order.until, self.watch, tap)
        header = self.log.header
        depot = bool(header.config.get("depot"))
        world = recorded_world(self.hub, answers, job_random(header.seed, job), depot=depot)
        return self._simulate(world, job, self._known) if self._simulate else world

    def start_connected(self, link: LinkUp) -> None:
        """Jobs that are accepted later find the link up."""
        self.hub.feed(link)

    def is_input(self, row: Row) -> bool:
        """The link, a user's command, and each frame that no replayed program or job of this log sends."""
        if row.dir != "out":
            return row.dir != "effect"
        if row.label in OURS:
            return row.job not in self.accepted  # a user sent it, or a job that began before the log
        return bool(self.channels) and is_frame(row)

    def action(self, row: Row) -> Action | None:
        """Feed the hub client, call the daemon, or send a frame."""
        self.linked(row)
        if row.dir == "out":
            return None if row.label == "register" else partial(self.send, wire.from_frame(row.data, strict=False))
        if row.dir == "conn":
            return partial(self._feed, row, link_event(row))
        if row.label == "job.accept":
            return partial(self._accept, job_from(row))
        command = command_of(self.daemon, row)
        return command or partial(self._feed, row, wire.from_frame(row.data, strict=False))

    def _feed(self, row: Row, event: HubEvent) -> None:
        self.tap.row(row.dir, row.label, row.data, row.job)
        self.hub.feed(event)

    def receive(self, message: m.Message, _: Row | None) -> None:
        """A message of the hub."""
        self.tap.frame("in", message)
        self.hub.feed(message)

    def send(self, message: m.Message) -> bool:
        """As `PeerProgram.send`; a submit is a request of its job."""
        if isinstance(message, m.Submit) and not self.net.closed:
            self.watch.asks(message.request_id, message.TYPE)
        return super().send(message)

    def _accept(self, job: Job) -> None:
        def on_completed() -> None:
            self.watch.open.discard(job.id)
            self.net.job_ended(job.id)

        self.watch.seen.setdefault(job.id, [])
        running = self.daemon.events(job).subscribe(
            partial(self.watch.sees, job.id),
            on_error=self.net.fail,
            on_completed=on_completed,
            scheduler=self.scheduler,
        )
        self._running.append(running)

    async def close(self) -> None:
        """Dispose of the jobs that have not ended."""
        self.order.close()
        for running in self._running:
            running.dispose()
        await self.scheduler.close()


Answered = Callable[[str, p.CallAnswer], None]
"""Is called with the label of a call's row, and with what the monitor learns."""


class MonitorProgram(PeerProgram):
    """A monitor.

    Args:
        ticking: Whether it ticks one second after each event. Otherwise, the log has its ticks.
        carry_out: Carries out a call to the provider; None where the log has the provider's answers.
    """

    def __init__(
        self,
        net: Network,
        log: Log,
        policy: p.PowerPolicy,
        offset: float = 0.0,
        *,
        ticking: bool = False,
        carry_out: Callable[[p.PowerCommand, Answered], object] | None = None,
    ) -> None:
        super().__init__(net, log, offset)
        self.monitor = Monitor(policy, Random(log.header.seed))
        self.machine = restore(log.header.config.get("recalled"), 0.0)
        self._ticking, self._carry_out = ticking, carry_out
        self._next: asyncio.TimerHandle | None = None
        if ticking and net.alone:
            self._next = net.after(1.0, self.handle, p.Tick())

    def action(self, row: Row) -> Action | None:
        """The link and frames, and as the log has them also ticks and the provider's answers."""
        self.linked(row)
        known = self._ticking if row.label == "tick" else self._carry_out if row.dir == "effect" else row.dir == "out"
        return None if known else partial(self._happen, row, monitor_event(row, *self.monitor.policy.gpus))

    def _happen(self, row: Row, event: p.PowerEvent | None) -> None:
        self.tap.row(row.dir, row.label, row.data, row.job)
        if event is not None:
            self.handle(event, row.t)

    def receive(self, message: m.Message, _: Row | None) -> None:
        """A message of the hub."""
        self.tap.frame("in", message)
        event = to_event(message, *self.monitor.policy.gpus)
        if event is not None:
            self.handle(event)

    def handle(self, event: p.PowerEvent, t: float | None = None) -> None:
        """Decide on an event, at the time of its row."""
        commands = self.monitor.step(self.machine, event, self.clock() if t is None else t).commands
        if commands and isinstance(event, p.Tick) and self._carry_out is not None:
            self.tap.row("conn", "tick", {})
        for command in commands:
            if isinstance(command, p.Say):
                self.send(command.message)
            elif self._carry_out is not None:
                self._carry_out(command, self._answered)
        if self._ticking:
            if self._next is not None:
                self._next.cancel()
            self._next = self.net.after(1.0, self.handle, p.Tick())

    def _answered(self, label: str, event: p.CallAnswer) -> None:
        self.tap.row("effect", label, structs.asdict(event))
        self.handle(event)
