"""Runs replays in virtual time; deadlocks and errors are results."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar, cast

from wakestream.adapters.testing.virtual_loop import VirtualDeadlock, run_virtual
from wakestream.operators.model.user_code import describe_error
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.replay.recorded_ports import Watch
from wakestream.streams.replay.replay import Settings, policy_of, replay
from wakestream.streams.replay.report import report
from wakestream.streams.simulation.replay_system import replay_system
from wakestream.streams.triage.replay_attempt import Trial

T = TypeVar("T")

OWN_FAULTS = (UnusableLog, MemoryError)
"""Errors that are raised, since they do not come from the replayed program."""


def run_log(
    log: Log,
    *,
    settings: Settings | None = None,
    lenient: bool = False,
    ignore_time: bool = False,
    build: Build = job_pipeline,
) -> Trial:
    """Replay one log on a new virtual loop. A deadlock, or an error of the program, is a result.

    Example:
        >>> run_log(log, settings={"online_timeout": 60.0}).result
        'diverged'

    Args:
        log: The log.
        settings: Settings of the program that are changed.
        lenient: Whether to ignore fields that the log does not have.
        ignore_time: Whether to compare no times.
        build: The pipeline of the jobs.

    Returns:
        The result.

    Raises:
        UnusableLog: the log cannot be replayed.
        ValueError: its program does not have one of the settings.
    """
    policy_of(log, settings)
    watch = Watch()
    again = replay(log, settings=settings, lenient=lenient, ignore_time=ignore_time, build=build, watch=watch)
    replayed = _run(again, watch)
    if isinstance(replayed, Trial):
        return replayed
    return Trial(replayed, report(replayed), unanswered=frozenset(watch.unanswered), asked=tuple(watch.asked))


def run_together(
    logs: Sequence[Log],
    *,
    settings: Settings | None = None,
    lenient: bool = False,
    ignore_time: bool = False,
    build: Build = job_pipeline,
) -> list[Trial]:
    """Replay the logs of one run against each other.

    Args:
        logs: The logs, one of each program.
        settings: Settings of the programs that are changed.
        lenient: Whether to ignore fields that the logs do not have.
        ignore_time: Whether to compare no times.
        build: The pipeline of the jobs.

    Returns:
        A result for each log; only one if there was a deadlock.

    Raises:
        UnusableLog: the logs cannot be replayed together.
    """
    again = replay_system(logs, settings=settings, lenient=lenient, ignore_time=ignore_time, build=build)
    replayed = _run(again, Watch())
    if isinstance(replayed, Trial):
        return [replayed]
    return [Trial(program, report(program)) for program in replayed.programs]


def _run(replaying: Coroutine[Any, Any, T], watch: Watch) -> T | Trial:
    try:
        return cast("T", run_virtual(replaying))
    except VirtualDeadlock as stuck:
        return Trial(trouble="deadlock", why=str(stuck), waiting=tuple(sorted(watch.open)))
    except OWN_FAULTS:
        raise
    except Exception as error:  # an error of the program is a result
        return Trial(trouble="crashed", why=describe_error(error), waiting=tuple(sorted(watch.open)))
