"""The times and retries of a job's stages. docs/timeouts.md lists the other times."""

from __future__ import annotations

from dataclasses import dataclass, field

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import is_retryable


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a job waits for each thing, and how often it tries. All times are seconds.

    Example:
        >>> Policy(online=600.0, poll_every=0.5)
    """

    hub: float | None = None
    """How long a job waits for a hub that it has not reached in any attempt; None (as in the daemon): no limit."""
    reply: float = 30.0
    """How long a hub may take to answer a submit (`TimedOut.stage` is `reply`)."""
    online: float = 1800.0
    """How long each attempt waits for the GPU, counted from its own start (`online`)."""
    line_every: float = 10.0
    """The interval of the `Waking` events during a wait."""
    health_every: float = 1.0
    """The interval at which a granted worker is asked for its health."""
    ready: float = 600.0
    """How long a worker that answers may stay uninitialized (`ready`)."""
    lost: float = 30.0
    """How long a worker may be unreachable before the job starts again from submit."""
    transfer: float = 60.0
    """The longest time without a byte in an upload or download (`transfer`)."""
    poll_every: float = 2.0
    """The interval at which the worker is asked about the task."""
    execution: float = 4 * 3600.0
    """How long the task may run (`execution`); its wait in the queue of the worker or of the engine does not count."""
    total: float = 12 * 3600.0
    """How long the whole job may take, counted from its start in the program that runs now (`total`)."""
    release: float = 10.0
    """How long a program that ends waits for a hub that is away, to tell it that its jobs have ended."""
    straight: float | None = None
    """The interval at which the worker at the configured address is asked for its health while no hub can grant the
    GPU; None: only the hub grants it."""
    again: Backoff = field(
        default_factory=lambda: Backoff(max_retries=10, initial=1.0, max_delay=60.0, retry_on=is_retryable)
    )
    """How the whole job is retried, from submit."""
    call: Backoff = field(
        default_factory=lambda: Backoff(max_retries=3, initial=0.5, max_delay=5.0, retry_on=is_retryable)
    )
    """How one call to the worker is retried."""
