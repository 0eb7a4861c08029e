"""The recorded system of tests/logs/system, replayed with its second job at another time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.support.streams.log_library import log
from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.replay.network import Hop
from wakestream.streams.simulation.replay_system import Latency, Perturb, SystemReplayed, replay_system

SYSTEM = tuple(log(f"system/{program}.jsonl") for program in ("daemon", "hub", "monitor"))
SECOND = "job-2"
LATE = 60.0
"""Seconds of the client's log at which the machine has long been off again."""


def as_recorded(hop: Hop) -> float:
    """Every message takes the time that it took."""
    return hop.recorded


def asked_at(client: Log, job: str, t: float) -> Log:
    """The client's log with one job asked for at another time."""
    wish = next(row for row in client.rows if row.label == "job.accept" and row.job == job)
    rows = [replace(row, t=t) if row is wish else row for row in client.rows]
    return replace(client, rows=tuple(sorted(rows, key=lambda row: row.t)))


@dataclass(frozen=True)
class Ended:
    """What became of a job, and of the machine meanwhile."""

    outcome: str | None
    branches: tuple[str, ...]
    retried: bool
    faults: tuple[str, ...]


async def second_job_at(
    t: float, latency: Latency = as_recorded, perturb: Perturb | None = None, seed: int = 0, **pace: float
) -> SystemReplayed:
    """The whole system, with the second job asked for at `t` of the client's log."""
    client, hub, monitor = SYSTEM
    logs = (asked_at(client, SECOND, t), hub, monitor)
    return await replay_system(logs, latency=latency, perturb=perturb, pace=pace, seed=seed)


def ended(replayed: SystemReplayed, job: str = SECOND) -> Ended:
    """How it went for a job. Faults are: a task that was switched off, a machine that was started twice."""
    told = [row for row in replayed.of("daemon").again.rows if row.job == job and "event" in row.data]
    outcomes = [row.label for row in told if row.label in ("done", "failed", "timed_out", "cancelled")]
    branches = tuple(str(row.data["branch"]) for row in told if row.label == "granted")
    faults = tuple(row.label for row in replayed.machines if row.label in ("task.killed", "start.twice"))
    return Ended(outcomes[-1] if outcomes else None, branches, any(row.label == "retrying" for row in told), faults)


def states(replayed: SystemReplayed) -> list[tuple[float, str]]:
    """What the monitor said of its machine and when, on the client's clock."""
    monitor, client = replayed.alignment.offsets[2], replayed.alignment.offsets[0]
    said = (row for row in replayed.of("monitor").again.rows if row.label == "gpu.power.state" and row.dir == "out")
    return [(row.t + monitor - client, str(row.data["state"])) for row in said]


async def stop_window(latency: Latency = as_recorded) -> tuple[float, float, float]:
    """When the machine drains, stops and is off, where no second job comes; on the client's clock."""
    said = states(await second_job_at(LATE, latency))
    stopping = next(n for n, (_, state) in enumerate(said) if state == "stopping")
    return said[stopping - 1][0], said[stopping][0], next(t for t, state in said[stopping:] if state == "off")


def rows_of(replayed: SystemReplayed, label: str) -> Sequence[Row]:
    """What happened to the simulated machine."""
    return [row for row in replayed.machines if row.label == label]
