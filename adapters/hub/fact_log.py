"""What the hub logs about its facts."""

from __future__ import annotations

from loguru import logger

from wakestream.streams.hub import events as f
from wakestream.streams.hub.local_time import UTC, time_text
from wakestream.streams.hub.state import HubState


def log_fact(fact: f.Fact, zone: str = UTC) -> None:
    """Log what happens to jobs, connections, GPUs and money. `zone` is the hub's time zone."""
    if isinstance(fact, f.BudgetReached | f.OrphanFound):
        said = _budget(fact, zone) if isinstance(fact, f.BudgetReached) else f"{fact.gpu}: {fact.cause}"
        logger.warning("{}", said, stage="hub")
    match fact:
        case f.JobQueued():
            logger.debug("queued", job=fact.id, stage="hub")
        case f.JobGranted():
            logger.debug("granted {gpu}", gpu=fact.gpu, job=fact.id, stage="hub")
        case f.JobRemoved():
            logger.debug("released ({why})", why=fact.why, job=fact.id, stage="hub")
        case f.ConnectionRegistered():
            logger.info("connection {} is a {}", fact.fd, fact.role, stage="hub")
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
    """Warn about two monitors of one GPU: they contradict each other, and jobs would wait for a GPU that is on."""
    for gpu in monitor.gpus:
        for fd in state.monitors:
            if fd != monitor.fd and gpu in state.connections[fd].gpus:
                logger.warning(
                    "connections {} and {} are monitors of one GPU, {}: if the first is no former one of the second, "
                    "stop one of them", fd, monitor.fd, gpu, stage="hub",
                )  # fmt: skip
