"""Replay the logs of one run together: what one program sends now is what another receives now.

In an exact replay, messages take their recorded time, and the logs give the results of all calls to files, workers and
machines, and the frames of programs without a log. Links connect and disconnect as recorded.

In a changed replay (with `latency`, `perturb`, `pace` or `settings`), programs may do what no log has a result for.
The machine and its worker are then simulated (`simulated_gpu`) with the boot, render and stop times of the logs, and
the replay continues until every job has ended. To see the effect of a race, delay one message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from wakestream.operators.model.events import Fingerprint, Job
from wakestream.streams.hub import hub
from wakestream.streams.jobs.effects import FINGERPRINT
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.recording.config_json import changed
from wakestream.streams.recording.recording import Log, Row, UnusableLog
from wakestream.streams.replay.divergence import Divergence, divergences
from wakestream.streams.replay.input_rows import LINK_FRAMES, frame_of, links
from wakestream.streams.replay.network import Channel, Hop, Network, Past
from wakestream.streams.replay.programs import ClientProgram, HubProgram, MonitorProgram, Program, run
from wakestream.streams.replay.recorded_ports import Known
from wakestream.streams.replay.replay import Replayed, Settings, policy_of
from wakestream.streams.simulation.log_alignment import Alignment, Pair, Session, align
from wakestream.streams.simulation.simulated_gpu import Pace, SimulatedFiles
from wakestream.streams.simulation.simulation import Gpus, pace_of

Latency = Callable[[Hop], float]
"""Returns the seconds that a message takes, instead of the recorded ones."""

Perturb = Callable[[Hop, Random], float]
"""Returns additional seconds for a message; the random source is seeded."""

END_WITHIN = 3600.0
"""Seconds after the last recorded row that a changed run has to end its jobs."""


@dataclass(frozen=True, slots=True)
class SystemReplayed:
    """`programs` are the replays of the logs, in the order given.

    `machines` are the events of the simulated machines in a changed run; `t` of these rows is on the shared clock.
    """

    programs: tuple[Replayed, ...]
    alignment: Alignment
    machines: tuple[Row, ...] = ()

    @property
    def divergences(self) -> tuple[tuple[int, Divergence], ...]:
        """The differences of all programs, each with the place of its log."""
        return tuple(
            (place, divergence) for place, replayed in enumerate(self.programs) for divergence in replayed.divergences
        )

    def of(self, program: str) -> Replayed:
        """The first program of this name (`daemon`, `hub`, `monitor`)."""
        return next(replayed for replayed in self.programs if replayed.recorded.header.program == program)


async def replay_system(
    logs: Sequence[Log],
    *,
    settings: Settings | None = None,
    latency: Latency | None = None,
    perturb: Perturb | None = None,
    pace: Mapping[str, float] | None = None,
    seed: int = 0,
    lenient: bool = False,
    ignore_time: bool = False,
    build: Build = job_pipeline,
) -> SystemReplayed:
    """Replay the logs of one hub and of its clients and monitors together, in the time of the running loop.

    Args:
        logs: The logs of one run.
        settings: Changes to the policies of the programs that have them, by name.
        latency: Returns the seconds that a message takes. Messages of one connection keep their order.
        perturb: Returns additional seconds; it may use the given random source.
        pace: Changes to the times of the simulated machine (see `Pace`).
        seed: The seed of the random source.
        lenient: Whether to ignore fields that only the replay has.
        ignore_time: Whether to compare no times.
        build: Makes the pipeline of a client's job.

    Returns:
        The replay of each log.

    Raises:
        UnusableLog: The logs are not of one run, or one cannot be read.
        ValueError: No program has one of the settings.
    """
    policies = _policies(logs, settings or {})
    delay = _delay(latency, perturb, Random(seed)) if settings or latency or perturb or pace else None
    alignment = align(logs)
    if delay is not None and len(alignment.hubs) > 1:
        raise UnusableLog("a run in which the hub was restarted can only be repeated unchanged: give one log of a hub")
    system = _System(logs, alignment, policies, Network(delay), build, _paced(pace_of(logs, alignment), pace or {}))
    again = await system.run()
    compared = (
        (log, now, divergences(log, now, lenient=lenient, ignore_time=ignore_time))
        for log, now in zip(logs, again, strict=True)
    )
    programs = (Replayed(log, now, _of_jobs(log, differences)) for log, now, differences in compared)
    return SystemReplayed(tuple(programs), system.alignment, tuple(system.gpus.rows))


def _of_jobs(log: Log, differences: Sequence[Divergence]) -> tuple[Divergence, ...]:
    """The differences without jobs that began before a client's log, as these cannot be replayed."""
    if log.header.program != "daemon":
        return tuple(differences)
    accepted = {row.job for row in log.rows if row.label == "job.accept"}
    return tuple(
        difference
        for difference in differences
        if any(row is not None and row.job in accepted for row in (difference.expected, difference.got))
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
    policies = [policy_of(log) for log in logs]
    for name, value in settings.items():
        whys = []
        for place, policy in enumerate(policies):
            try:
                policies[place] = changed(policy, name, value)
            except ValueError as why:
                whys.append(str(why))
        if len(whys) == len(policies):
            raise ValueError("; ".join(dict.fromkeys(whys)))
    return policies


class _System:
    def __init__(
        self, logs: Sequence[Log], alignment: Alignment, policies: Sequence[Any], net: Network, build: Build, pace: Pace
    ) -> None:
        self.logs, self.alignment, self.net, self.build = logs, alignment, net, build
        offsets = alignment.offsets
        self.hubs = {hub: HubProgram(net, logs[hub], policies[hub], offsets[hub]) for hub in alignment.hubs}
        for former, heir in pairwise(alignment.hubs):
            self.hubs[heir].former = self.hubs[former]
        self.gpus = Gpus(net, logs, alignment, self.hubs[alignment.hubs[0]], pace)
        self.peers = {
            place: self._peer(log, policies[place], offsets[place])
            for place, log in enumerate(logs)
            if place not in self.hubs
        }
        for session in alignment.sessions:
            self._connect(session, self.peers[session.log])

    def _peer(self, log: Log, policy: Any, offset: float) -> ClientProgram | MonitorProgram:
        exact = self.net.exact
        if log.header.program == "daemon":
            simulate = None if exact else self._simulated
            return ClientProgram(self.net, log, policy, self.build, offset, simulate=simulate)
        carry_out = None if exact else self.gpus.of(policy.gpu).carry_out
        return MonitorProgram(self.net, log, policy, offset, ticking=not exact, carry_out=carry_out)

    def _connect(self, session: Session, peer: ClientProgram | MonitorProgram) -> None:
        hub, program = self.hubs[session.hub], peer.log.header.program
        up = _past(session.up, session.lost_up, peer.offset, hub.offset)
        down = _past(session.down, session.lost_down, hub.offset, peer.offset)
        to_hub = Channel(self.net, program, "hub", partial(hub.receive, session.fd), up)
        peer.connect(session.first, to_hub, _features(session))
        replaced = session.hub != self.alignment.hubs[-1]
        hub.channels[session.fd] = Channel(self.net, "hub", program, peer.receive, down, only_past=replaced)

    def _simulated(self, world: World, job: Job, known: Known) -> World:
        # The fingerprints of a job's files in its log, with all digests of each file.
        fingerprints: dict[Path, Fingerprint] = {}
        for row in known.get(job.id, ()):
            if row.label == "fingerprint" and "ok" in row.data:
                file = FINGERPRINT.back(row.data["ok"])
                before = fingerprints[file.path].digests if file.path in fingerprints else {}
                fingerprints[file.path] = Fingerprint(file.path, file.size, file.mtime_ns, {**before, **file.digests})
        files = SimulatedFiles(fingerprints, self.gpus.pace.call)
        return replace(world, workers=self.gpus.workers(), files=files)

    async def run(self) -> list[Log]:
        programs: list[Program] = [self.hubs.get(place) or self.peers[place] for place in range(len(self.logs))]
        if self.net.exact:
            rows = recorded_rows(self.logs, self.alignment)
        else:
            rows = changed_rows(self.logs, self.alignment, self.gpus.replaced)
            hub = self.hubs[self.alignment.hubs[0]]
            self.net.at(hub.offset + hub.log.rows[0].t + 1.0, hub.tick)
            self.net.at(max(program.ends for program in programs) + END_WITHIN, self.net.finish)
        return await run(self.net, ((programs[place], row) for place, row in rows), programs)


def _features(session: Session) -> Sequence[str]:
    """The features that the hub announced, if only its own log has them, since the peer's log begins later."""
    announced = (row.data["frame"].get("features") for row in session.lost_down if row.label == "registered")
    return next(announced, None) or hub.FEATURES


def _past(pairs: Iterable[Pair], lost: Iterable[Row], sender: float, receiver: float) -> list[Past]:
    both = [Past(_kind(pair.sent), sender + pair.sent.t, receiver + pair.received.t, pair.received) for pair in pairs]
    return sorted([*both, *(Past(_kind(row), sender + row.t) for row in lost)], key=lambda past: past.sent)


def _kind(row: Row) -> tuple[str, str | None]:
    return row.label, frame_of(row).get("request_id")


Place = tuple[int, int]
"""A log's place among the logs, and a row's seq in it."""


def recorded_rows(logs: Sequence[Log], alignment: Alignment) -> Iterator[tuple[int, Row]]:
    """The input rows of an exact replay, each with its log's place."""
    received = _received(alignment)
    return ((place, row) for place, row in _all(logs) if (place, row.seq) not in received)


def changed_rows(logs: Sequence[Log], alignment: Alignment, simulated: Collection[int]) -> Iterator[tuple[int, Row]]:
    """The input rows of a changed run: commands of users, link events, and frames of programs that are not replayed.

    Left out are frames between two replayed programs, rows of simulated workers (`simulated` has their connections),
    the last disconnect of each peer, which now stays until its jobs are done, and the ticks of the hub's log.
    """
    received = _received(alignment) | set(_between_replayed(logs, alignment))
    last = _last(logs, alignment)
    for place, row in _all(logs):
        of_hub = logs[place].header.program == "hub"
        fd = row.data.get("fd") if of_hub else None
        left = row.label == "tick" or fd in simulated or (row.label == "closed" and fd in last)
        if (place, row.seq) not in received and not (of_hub and left):
            yield place, row


def _all(logs: Sequence[Log]) -> Iterator[tuple[int, Row]]:
    return ((place, row) for place, log in enumerate(logs) for row in log.rows)


def _received(alignment: Alignment) -> set[Place]:
    """The received frames whose sending is in another log."""
    up = ((session.hub, pair.received) for session in alignment.sessions for pair in session.up)
    down = ((session.log, pair.received) for session in alignment.sessions for pair in session.down)
    return {(log, row.seq) for log, row in (*up, *down) if row.label not in LINK_FRAMES}


def _between_replayed(logs: Sequence[Log], alignment: Alignment) -> Iterator[Place]:
    """The received frames on connections whose two ends are both replayed."""
    fds = {(session.hub, session.fd) for session in alignment.sessions}
    firsts = {(session.log, session.first) for session in alignment.sessions}
    for place, log in enumerate(logs):
        if log.header.program == "hub":
            of_peers = (row for row in log.rows if (place, row.data.get("fd")) in fds)
        else:
            of_peers = (row for link in links(log) if (place, link[0].seq) in firsts for row in link)
        yield from ((place, row.seq) for row in of_peers if row.dir == "in" and row.label not in LINK_FRAMES)


def _last(logs: Sequence[Log], alignment: Alignment) -> set[int]:
    """The last connection of each peer, by the hub's number."""
    last = {place: links(log)[-1][0].seq for place, log in enumerate(logs) if log.rows and links(log)}
    return {session.fd for session in alignment.sessions if last[session.log] == session.first}
