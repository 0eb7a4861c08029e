"""Replay a log of any program: a client's pipelines, or the decider of a hub or a monitor.

On a virtual loop (`wakestream.adapters.testing.virtual_loop`), thirty minutes take milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wakestream.operators.model.policy import Policy
from wakestream.streams.hub import hub
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.recording.config_json import changed, config_from
from wakestream.streams.recording.log_checks import check_policy
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.replay.divergence import Divergence, crashes, divergences
from wakestream.streams.replay.network import Network
from wakestream.streams.replay.programs import ClientProgram, HubProgram, MonitorProgram, Program, run
from wakestream.streams.replay.recorded_ports import Watch

PROGRAMS = ("daemon", "hub", "monitor")
Settings = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log, the log of its replay, and their differences."""

    recorded: Log
    again: Log
    divergences: tuple[Divergence, ...]

    @property
    def crashes(self) -> Mapping[str, str]:
        """The jobs whose pipeline crashes in the replay only, with the text of the error."""
        return crashes(self.recorded, self.again) if self.divergences else {}


async def replay(
    log: Log,
    *,
    settings: Settings | None = None,
    lenient: bool = False,
    ignore_time: bool = False,
    build: Build = job_pipeline,
    watch: Watch | None = None,
) -> Replayed:
    """Run `log` again, in the time of the running loop.

    Args:
        log: The log of a daemon, a hub or a monitor.
        settings: Changes to the program's policy, by name.
        lenient: Whether to ignore fields that only the replay has.
        ignore_time: Whether to compare no times.
        build: Makes the pipeline of a client's job.
        watch: Collects what happens, for the case that the replay does not end.

    Returns:
        The log, the log of its replay, and their differences.

    Raises:
        UnusableLog: The program cannot be replayed, or a row cannot be read.
        ValueError: The program does not have one of the settings.

    Example:
        >>> run_virtually(replay(read_log(path), settings={"online": 60.0})).divergences
        ()
    """
    policy, net = policy_of(log, settings), Network(alone=True)
    program: Program
    match log.header.program:
        case "daemon":
            program = ClientProgram(net, log, policy, build, watch=watch)
        case "hub":
            program = HubProgram(net, log, policy)
        case _:
            program = MonitorProgram(net, log, policy, ticking=bool(settings))
    (again,) = await run(net, ((program, row) for row in log.rows), [program])
    return Replayed(log, again, tuple(divergences(log, again, lenient=lenient, ignore_time=ignore_time)))


def policy_of(log: Log, settings: Settings | None = None) -> Any:
    """The policy in the header of `log`, with the changes of `settings`; raises as `replay` does."""
    today = _TODAY.get(log.header.program)
    if today is None:
        raise UnusableLog(
            f"a log of {log.header.program!r} cannot be replayed; only those of {', '.join(PROGRAMS)} can"
        )
    try:
        policy = config_from(today, log.header.config.get("policy", {}))
    except (AttributeError, TypeError) as error:
        raise UnusableLog(f"the policy in the header is not valid: {error}") from None
    check_policy(policy)
    for name, value in (settings or {}).items():
        policy = changed(policy, name, value)
    return policy


_TODAY: Mapping[str, Any] = {
    "daemon": Policy(),
    "hub": hub.Limits(),
    "monitor": PowerPolicy("", asks_first=False),  # older monitors drained without asking first
}
"""The policies where a log does not have one."""
