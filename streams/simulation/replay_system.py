"""The logs of one run, replayed against each other: what one program now sends is what another now hears.

Undisturbed, the recorded run is repeated: messages take as long as they took, and the logs answer for the world (files,
worker, machine, and all connections that have no log of their own). The links themselves come and go as recorded.

Disturbed (`latency`, `perturb`, `pace` or `settings` given), programs meet situations that no log can answer for. Then
the machine and its worker are a model (`modelled_world`) that boots, renders and stops in the times the logs tell, and
all clocks run on until every job has ended. Whoever wants to know what a race does moves one message and looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from wakestream.operators.model.events import Fingerprint, Job
from wakestream.operators.model.policy import Policy
from wakestream.streams.hub import hub
from wakestream.streams.jobs.effects import fingerprint_from
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.jobs.job import World, job_pipeline
from wakestream.streams.jobs.job_runner import Build, job_random
from wakestream.streams.recording.config_json import changed, config_from
from wakestream.streams.recording.recording import TICK, Log, Row, UnusableLog
from wakestream.streams.replay.divergence import Divergence, divergences
from wakestream.streams.replay.recorded_ports import (
    Answers,
    Known,
    LoggedEffects,
    LoggedFiles,
    LoggedWorkers,
    effects_of,
)
from wakestream.streams.replay.replay import Replayed, Settings
from wakestream.streams.replay.replay_monitor import RECORDED
from wakestream.streams.simulation.log_alignment import Alignment, Pair, Session, align
from wakestream.streams.simulation.network import Hop, Lane, Network, Past
from wakestream.streams.simulation.replay_inputs import recorded_rows, wishes
from wakestream.streams.simulation.simulated_gpu import ModelledFiles, Pace
from wakestream.streams.simulation.simulation import Gpus, pace_of
from wakestream.streams.simulation.system_programs import ClientSide, HubSide, MonitorSide

Latency = Callable[[Hop], float]
"""The seconds that a message takes, in place of the recorded ones."""

Perturb = Callable[[Hop, Random], float]
"""The seconds that a message takes beyond that; the random source is seeded."""

PATIENCE = 3600.0
"""Seconds after the last recorded row in which a disturbed run may end its jobs."""


@dataclass(frozen=True, slots=True)
class SystemReplayed:
    """`programs` are the logs, in the order given, each with what its program did now.

    `machines` is what befell the modelled machines in a disturbed run; `t` of its rows is on the clock of all.
    """

    programs: tuple[Replayed, ...]
    alignment: Alignment
    machines: tuple[Row, ...] = ()

    @property
    def divergences(self) -> tuple[tuple[int, Divergence], ...]:
        """Where any program parts from its own log, with that log's place."""
        return tuple((place, each) for place, replayed in enumerate(self.programs) for each in replayed.divergences)

    def of(self, program: str) -> Replayed:
        """The first program of this name (`daemon`, `hub`, `monitor`)."""
        return next(each for each in self.programs if each.recorded.header.program == program)


async def replay_system(
    logs: Sequence[Log],
    *,
    settings: Settings | None = None,
    latency: Latency | None = None,
    perturb: Perturb | None = None,
    pace: Mapping[str, float] | None = None,
    seed: int = 0,
    lenient: bool = False,
    build: Build = job_pipeline,
) -> SystemReplayed:
    """Run the logs of one hub and of its clients and monitors again, together, on the loop's time.

    `settings` changes numbers of the policies of the programs that have them, to ask "what if". `latency` and `perturb`
    say how long each message takes; `perturb` may draw from a source seeded with `seed`. A message never overtakes
    another of its connection. `pace` changes numbers of the machine's `Pace`, which else is that of the logs.

    `UnusableLog` when the logs do not belong together, `ValueError` for a setting that no program has.
    """
    policies = _policies(logs, settings or {})
    delay = _delay(latency, perturb, Random(seed)) if settings or latency or perturb or pace else None
    alignment = align(logs)
    if delay is not None and len(alignment.hubs) > 1:
        raise UnusableLog("a run in which the hub was restarted can only be repeated as it was: give one hub's log")
    system = _System(logs, alignment, policies, Network(delay), build, _paced(pace_of(logs, alignment), pace or {}))
    again = await system.run()
    programs = (Replayed(log, now, _parted(log, now, lenient)) for log, now in zip(logs, again, strict=True))
    return SystemReplayed(tuple(programs), system.alignment, tuple(system.gpus.rows))


def _parted(log: Log, again: Log, lenient: bool) -> tuple[Divergence, ...]:
    """Where a program parts from its log; but a job that was under way when a client's log began cannot be replayed."""
    found = divergences(log, again, lenient=lenient)
    if log.header.program != "daemon":
        return tuple(found)
    accepted = {row.job for row in log.rows if row.label == "job.accept"}
    return tuple(
        each for each in found if any(row is not None and row.job in accepted for row in (each.expected, each.got))
    )


def _paced(pace: Pace, changes: Mapping[str, float]) -> Pace:
    numbers = [field.name for field in fields(Pace) if field.name != "works"]
    for name, seconds in changes.items():
        if name not in numbers:
            raise ValueError(f"a machine's pace has no {name!r}; it has {', '.join(numbers)}")
        pace = replace(pace, **{name: seconds})  # type: ignore[arg-type]
    return pace


def _delay(latency: Latency | None, perturb: Perturb | None, random: Random) -> Latency:
    def delay(hop: Hop) -> float:
        seconds = hop.recorded if latency is None else latency(hop)
        return seconds if perturb is None else seconds + perturb(hop, random)

    return delay


def _policies(logs: Sequence[Log], settings: Settings) -> list[Any]:
    today: Mapping[str, Any] = {"daemon": Policy(), "hub": hub.Limits(), "monitor": RECORDED}
    for log in logs:
        if log.header.program not in today:
            raise UnusableLog(
                f"a log of {log.header.program!r} cannot be replayed; only those of {', '.join(today)} can"
            )
    policies = [config_from(today[log.header.program], log.header.config.get("policy", {})) for log in logs]
    for name, value in settings.items():
        policies = _changed_where_known(policies, name, value)
    return policies


def _changed_where_known(policies: Sequence[Any], name: str, value: float | None) -> list[Any]:
    after, whys = [], []
    for policy in policies:
        try:
            after.append(changed(policy, name, value))
        except ValueError as why:
            after.append(policy)
            whys.append(str(why))
    if len(whys) == len(policies):
        raise ValueError("; ".join(dict.fromkeys(whys)))
    return after


class _System:
    def __init__(
        self, logs: Sequence[Log], alignment: Alignment, policies: Sequence[Any], net: Network, build: Build, pace: Pace
    ) -> None:
        self.logs, self.alignment, self.net = logs, alignment, net
        offsets = alignment.offsets
        self.hubs = {hub: HubSide(net, logs[hub], offsets[hub], policies[hub]) for hub in alignment.hubs}
        self.hub = self.hubs[alignment.hubs[0]]
        self.gpus = Gpus(net, logs, alignment, self.hub, pace)
        self.peers: dict[int, ClientSide | MonitorSide] = {}
        for place, log in enumerate(logs):
            if place not in self.hubs:
                self.peers[place] = self._peer(log, offsets[place], policies[place], build)
        for session in alignment.sessions:
            self._connect(session, self.peers[session.log])

    @property
    def clients(self) -> list[ClientSide]:
        return [peer for peer in self.peers.values() if isinstance(peer, ClientSide)]

    def _peer(self, log: Log, offset: float, policy: Any, build: Build) -> ClientSide | MonitorSide:
        if log.header.program == "monitor":
            gpu = None if self.net.exact else self.gpus.of(policy.gpu)
            return MonitorSide(self.net, log, offset, policy, gpu)
        return ClientSide(self.net, log, offset, policy, build, partial(self._world, log, effects_of(log), offset))

    def _connect(self, session: Session, peer: ClientSide | MonitorSide) -> None:
        hub, program = self.hubs[session.hub], peer.log.header.program
        up = _past(session.up, session.lost_up, peer.offset, hub.offset)
        down = _past(session.down, session.lost_down, hub.offset, peer.offset)
        to_hub = Lane(self.net, program, "hub", partial(hub.receive, session.fd), up)
        peer.connect(session.first, to_hub, _features(session))
        hub.lanes[session.fd] = Lane(self.net, "hub", program, peer.receive, down)

    def _world(self, log: Log, known: Known, offset: float, job: Job, client: HubClient) -> World:
        answers = Answers(known, job.id, lambda t: self.net.until(offset + t))
        random = job_random(log.header.seed, job)
        if self.net.exact:
            return World(client, LoggedWorkers(answers), LoggedFiles(answers), random, LoggedEffects(answers))
        files = ModelledFiles(_read(known, job), self.gpus.pace.call)
        return World(client, self.gpus.workers(), files, random, LoggedEffects(answers))

    async def run(self) -> list[Log]:
        ends = 0.0
        for place, row in self._rows():
            side = self._side(place)
            self.net.at(side.offset + row.t, _drive, side, row)
            ends = max(ends, side.offset + row.t)
        if self.net.exact:
            self.net.at(ends + TICK, self.net.finish)
        else:
            self.net.at(self.hub.offset + self.hub.log.rows[0].t + 1.0, self.hub.tick)
            self.net.at(ends, self._watch, ends + PATIENCE)
        try:
            await self.net.over
        finally:
            for client in self.clients:
                await client.close()
        return [self._side(place).again() for place in range(len(self.logs))]

    def _rows(self) -> Iterator[tuple[int, Row]]:
        if self.net.exact:
            return recorded_rows(self.logs, self.alignment)
        return wishes(self.logs, self.alignment, self.gpus.replaced)

    def _side(self, place: int) -> HubSide | ClientSide | MonitorSide:
        return self.hubs[place] if place in self.hubs else self.peers[place]

    def _watch(self, until: float) -> None:
        """The recorded rows are all driven: the run is over when the jobs are."""
        if self.net.now >= until or not any(client.unfinished for client in self.clients):
            self.net.finish()
        else:
            self.net.after(1.0, self._watch, until)


def _features(session: Session) -> Sequence[str]:
    """What the hub announced, where only its own log tells: the peer's begins later."""
    said = (row.data["frame"].get("features") for row in session.lost_down if row.label == "registered")
    return next(said, None) or hub.FEATURES


def _drive(side: HubSide | ClientSide | MonitorSide, row: Row) -> None:
    try:
        side.drive(row)
    except (LookupError, TypeError, ValueError) as error:
        program = side.log.header.program
        raise UnusableLog(f"{program}: row {row.seq} ({row.dir} {row.label}) cannot be replayed: {error!r}") from error


def _past(pairs: Iterable[Pair], lost: Iterable[Row], sender: float, receiver: float) -> list[Past]:
    both = [Past(_kind(pair.sent), sender + pair.sent.t, receiver + pair.received.t, pair.received) for pair in pairs]
    return sorted([*both, *(Past(_kind(row), sender + row.t) for row in lost)], key=lambda past: past.sent)


def _kind(row: Row) -> tuple[str, str | None]:
    return row.label, row.data.get("frame", row.data).get("request_id")


def _read(known: Known, job: Job) -> dict[Path, Fingerprint]:
    """The files of a job that its log tells of, with all digests that were taken of each."""
    found: dict[Path, Fingerprint] = {}
    for row in known.get(job.id, ()):
        if row.label == "fingerprint" and "ok" in row.data:
            file = fingerprint_from(row.data["ok"])
            before = found[file.path].digests if file.path in found else {}
            found[file.path] = Fingerprint(file.path, file.size, file.mtime_ns, {**before, **file.digests})
    return found
