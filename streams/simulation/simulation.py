"""The simulated machines of a replayed system: their times come from the logs, their workers connect to its hub."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

from wakestream.operators.stages.follow import FINISHED
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Log, MemoryTap, Row
from wakestream.streams.recording.secrets import REDACTED
from wakestream.streams.replay.input_rows import event_from
from wakestream.streams.replay.network import Channel, Network
from wakestream.streams.replay.programs import HubProgram
from wakestream.streams.simulation.log_alignment import Alignment
from wakestream.streams.simulation.simulated_gpu import FEATURES, Pace, SimulatedGpu, SimulatedWorkers, WorkerLink


class Gpus:
    """One machine for each GPU that a monitor of the logs switches; `replaced` are the connections of their workers."""

    def __init__(self, net: Network, logs: Sequence[Log], alignment: Alignment, hub: HubProgram, pace: Pace) -> None:
        self._net, self._hub = net, hub
        self._tap = MemoryTap(lambda: net.now)
        self._fds = itertools.count(1 + max((row.data.get("fd", 0) for row in hub.log.rows), default=0))
        self._registers = _registers(hub.log)
        self.pace = pace
        monitors = [log for log in logs if log.header.program == "monitor"]
        names = {log.header.config.get("policy", {}).get("gpu"): log for log in monitors}
        self._gpus = {name: self._machine(name) for name in names if name}
        self.replaced = frozenset(event.fd for gpu in self._gpus for event in self._registers.get(gpu, ()))
        if not net.exact:
            for name, gpu in self._gpus.items():
                # Whether the machine was running when the monitor first inspected it.
                looks = (row.data.get("reading") for row in names[name].rows if row.label == "power.inspect")
                if next(looks, None) == "running":
                    gpu.run(0.0, 0.0)

    @property
    def rows(self) -> list[Row]:
        """What happened to the machines."""
        return self._tap.rows

    def of(self, gpu: str) -> SimulatedGpu:
        """The machine of a monitor."""
        return self._gpus[gpu]

    def workers(self) -> SimulatedWorkers:
        """Their workers, by address; a worker at another address is always on."""
        on = SimulatedGpu("", "http://always-on", self.pace, self._net, WorkerLink(), self._note("always on"))
        on.reading, on.serving, on.initialized = "running", True, True
        return SimulatedWorkers({gpu.url: gpu for gpu in self._gpus.values()}, on)

    def _machine(self, name: str) -> SimulatedGpu:
        features = tuple(sorted(FEATURES))
        usual = m.Register(role="worker", token=REDACTED, gpu=name, url=f"http://{name}", features=features)
        known = next(iter(self._registers.get(name, ())), f.Registering(0, usual, REDACTED, None))
        holds = known.license or f.License("modelled", "worker")
        link = _HubLink(self._net, self._hub, self._fds, known.message, holds)
        return SimulatedGpu(name, known.message.url or f"http://{name}", self.pace, self._net, link, self._note(name))

    def _note(self, name: str) -> Any:
        def note(label: str, data: Mapping[str, Any], job: str | None) -> None:
            self._tap.row("effect", label, {"gpu": name, **data}, job)

        return note


class _HubLink(WorkerLink):
    """A simulated worker's connection to the hub; each `join` opens a new one."""

    def __init__(
        self, net: Network, hub: HubProgram, fds: Iterator[int], register: m.Register, holds: f.License
    ) -> None:
        self._net, self._hub, self._fds = net, hub, fds
        self._register, self._license = register, holds
        self._fd: int | None = None
        self._channel: Channel | None = None

    def join(self) -> None:
        fd = next(self._fds)
        self._fd, self._channel = fd, Channel(self._net, "worker", "hub", partial(self._arrive, fd))
        self._hub.handle(f.Opened(fd))
        self._hub.handle(f.Registering(fd, self._register, REDACTED, self._license))

    def say(self, message: m.Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def part(self, seconds: float) -> None:
        fd, self._fd, self._channel = self._fd, None, None
        if fd is not None:
            self._net.after(seconds, self._hub.handle, f.Closed(fd))

    def _arrive(self, fd: int, message: m.Message, row: Row | None) -> None:
        if fd in self._hub.open:
            self._hub.receive(fd, message, row)


def _registers(hub: Log) -> dict[str, list[f.Registering]]:
    """How each GPU's worker registered, once for each of its connections."""
    registers_by_gpu: dict[str, list[f.Registering]] = {}
    for row in hub.rows:
        if row.dir == "in" and row.label == "register" and row.data["frame"].get("role") == "worker":
            event = event_from(row)
            if isinstance(event, f.Registering) and event.message.gpu:
                registers_by_gpu.setdefault(event.message.gpu, []).append(event)
    return registers_by_gpu


# --- times, as the logs have them


def pace_of(logs: Sequence[Log], alignment: Alignment) -> Pace:
    """How long things took in the recorded run; what it does not tell is as usual."""
    usual = Pace()
    starts, stops, offs = [], [], []
    works: dict[str, float] = {}
    for log, offset in zip(logs, alignment.offsets, strict=True):
        starts += _times(log, offset, lambda row: row.label == "power.start")
        stops += _times(log, offset, lambda row: row.label == "power.stop")
        offs += _times(log, offset, lambda row: row.label == "power.inspect" and row.data.get("reading") == "stopped")
        works |= _works(log)
    hub, offset = logs[alignment.hubs[0]], alignment.offsets[alignment.hubs[0]]
    fds = {event.fd for events in _registers(hub).values() for event in events}
    joins, onlines, leaves = (
        _times(hub, offset, lambda row, label=label: row.label == label and row.data.get("fd") in fds)
        for label in ("register", "gpu.power.online", "closed")
    )
    return Pace(
        boot=_gap(starts, joins, usual.boot),
        warm=_gap(joins, onlines, usual.warm),
        leave=_gap(stops, leaves, usual.leave),
        halt=_gap(stops, offs, usual.halt),
        work=median(works.values()) if works else usual.work,
        works=works,
    )


def _times(log: Log, offset: float, chosen: Any) -> list[float]:
    return [offset + row.t for row in log.rows if chosen(row)]


def _gap(begins: Iterable[float], ends: Sequence[float], usual: float) -> float:
    """The middle one of the times from each beginning to the end that came next."""
    gaps = [min(end - begin for end in ends if end >= begin) for begin in begins if any(end >= begin for end in ends)]
    return median(gaps) if gaps else usual


def _works(log: Log) -> dict[str, float]:
    """For each job of a client how long its task took: it ended between the last two polls."""
    begun: dict[str | None, float] = {}
    unfinished: dict[str | None, float] = {}
    works: dict[str, float] = {}
    for row in log.rows:
        if row.dir == "out" and row.label == "submitted":
            begun[row.job] = unfinished[row.job] = row.t
        elif row.label == "report" and row.data.get("ok", {}).get("status") not in FINISHED:
            unfinished[row.job] = row.t
        elif row.dir == "out" and row.label == "rendered" and row.job is not None and row.job in begun:
            works[row.job] = (unfinished[row.job] + row.t) / 2 - begun[row.job]
    return works
