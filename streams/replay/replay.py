"""Any recorded log runs again: by the header's `program` the client's pipelines, or the hub's or monitor's decider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wakestream.operators.model.policy import Policy
from wakestream.streams.hub import hub
from wakestream.streams.jobs.job import job_pipeline
from wakestream.streams.jobs.job_runner import Build
from wakestream.streams.recording.config_json import changed, config_from
from wakestream.streams.recording.log_checks import check_policy
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.replay.divergence import Divergence, crashes, divergences
from wakestream.streams.replay.recorded_ports import Watch
from wakestream.streams.replay.replay_client import replay_client
from wakestream.streams.replay.replay_hub import replay_hub
from wakestream.streams.replay.replay_monitor import RECORDED, replay_monitor

PROGRAMS = ("daemon", "hub", "monitor")
Settings = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log, the log of what the same program does on it now, and where the two part (empty: nowhere)."""

    recorded: Log
    again: Log
    divergences: tuple[Divergence, ...]

    @property
    def crashes(self) -> Mapping[str, str]:
        """The jobs whose pipeline breaks now and did not then, and why."""
        return crashes(self.recorded, self.again) if self.divergences else {}


async def replay(
    log: Log,
    *,
    settings: Settings | None = None,
    lenient: bool = False,
    build: Build = job_pipeline,
    watch: Watch | None = None,
) -> Replayed:
    """Run `log` again on the loop's time: on a virtual loop without waiting.

    `settings` changes numbers of the program's policy, to ask "what if"; `build` is the pipeline of a client's jobs,
    `watch` tells its giver how far it came, should it not come to an end.
    `UnusableLog` for a program that cannot be replayed, `ValueError` for a setting that it does not have.
    """
    again = await _run(log, settings or {}, build, watch)
    return Replayed(log, again, tuple(divergences(log, again, lenient=lenient)))


def policy_of(log: Log, settings: Settings | None = None) -> Any:
    """The policy that `log` was recorded under, with `settings` in its place; raises as `replay` does."""
    today = _TODAY.get(log.header.program)
    if today is None:
        raise UnusableLog(
            f"a log of {log.header.program!r} cannot be replayed; only those of {', '.join(PROGRAMS)} can"
        )
    try:
        policy = config_from(today, log.header.config.get("policy", {}))
    except (AttributeError, TypeError) as error:
        raise UnusableLog(f"the header's policy is none: {error}") from None
    check_policy(policy)
    for name, value in (settings or {}).items():
        policy = changed(policy, name, value)
    return policy


_TODAY: Mapping[str, Any] = {"daemon": Policy(), "hub": hub.Limits(), "monitor": RECORDED}


async def _run(log: Log, settings: Settings, build: Build, watch: Watch | None) -> Log:
    policy = policy_of(log, settings)
    match log.header.program:
        case "daemon":
            return await replay_client(log, policy, build, watch)
        case "hub":
            return replay_hub(log, policy)
        case _:
            return replay_monitor(log, policy if settings else None)
