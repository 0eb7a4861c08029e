"""What the hub logs about its facts."""

from __future__ import annotations

from loguru import logger

from wakestream.adapters.config.addresses import host_of, is_loopback
from wakestream.streams.hub import events as f
from wakestream.streams.hub.local_time import time_text
from wakestream.streams.hub.state import HubState


def log_fact(fact: f.Fact, state: HubState, host: str) -> None:
    """Log what happens to jobs, connections, GPUs and money, and warn of what will not work.

    `state` is the hub's after the fact, `host` is where it listens.
    """
    match fact:
        case f.BudgetReached():
            logger.warning("{}", _budget(fact, state.limits.zone), stage="hub")
        case f.OrphanFound() if fact.cause:
            logger.warning("{}: {}", fact.gpu, fact.cause, stage="hub")
        case f.JobQueued():
            logger.debug("queued", job=fact.id, stage="hub")
        case f.JobGranted():
            logger.debug("granted {gpu}", gpu=fact.gpu, job=fact.id, stage="hub")
        case f.JobRemoved():
            logger.debug("released ({why})", why=fact.why, job=fact.id, stage="hub")
        case f.ConnectionRegistered():
            logger.info("connection {} is a {}", fact.fd, fact.role, stage="hub")
            if fact.role == "monitor":
                warn_of_twins(state, fact)
            elif fact.role == "depot" and is_loopback(host_of(fact.url or "")) and not is_loopback(host):
                logger.warning(
                    "the address of the depot, {}, leads other machines to themselves; start it with --public-url",
                    fact.url, stage="hub",
                )  # fmt: skip
        case f.GpuOnline():
            logger.info("{} is online", fact.gpu, stage="hub")
        case f.GpuPhase():
            logger.info("{} is {}", fact.gpu, fact.phase, stage="hub")


def _budget(fact: f.BudgetReached, zone: str) -> str:
    of = f" of {fact.gpu}" if fact.gpu else ""
    said = f"{fact.percent} % of the budget{of} for this {fact.period} is spent: {fact.spent} of {fact.limit}"
    if fact.percent < 100:
        return said
    return f"{said}; no job wakes {fact.gpu or 'a GPU'} before {time_text(fact.until, zone)}"


def warn_of_twins(state: HubState, monitor: f.ConnectionRegistered) -> None:
    """Warn about two monitors of one GPU, and of one machine with different licenses: they contradict each other."""
    for gpu in [state.gpus[name] for name in monitor.gpus if name in state.gpus]:
        same = (other for other in state.gpus.values() if gpu.machine and other.machine == gpu.machine)
        ours = gpu.host
        if apart := [other.name for other in same if other.host != ours]:
            logger.warning(
                "the monitors of {} and {} have one --machine and different licenses, so each switches it off when its "
                "own GPU is idle: give both one key, or start one monitor with both names", gpu.name, apart[0],
                stage="hub",
            )  # fmt: skip
    for name in monitor.gpus:
        for fd in state.monitors:
            if fd != monitor.fd and name in state.connections[fd].gpus:
                logger.warning(
                    "connections {} and {} are monitors of one GPU, {}: if the first is no former one of the second, "
                    "stop one of them", fd, monitor.fd, name, stage="hub",
                )  # fmt: skip
