"""How long a job waits, and how often it tries: every number of the pipeline in one place. Seconds throughout."""

from __future__ import annotations

from dataclasses import dataclass, field

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import is_retryable


@dataclass(frozen=True, slots=True)
class Policy:
    """The waits of one job; each has its own name in `TimedOut.stage`.

    `hub` is how long a job looks for a hub it has never reached, in no attempt (None: for ever, as the daemon does),
    `reply` how long a hub may take to answer a submit, `online` the whole wait for the GPU since the first submit,
    `ready` how long an online worker may stay uninitialized, `lost` how long one may be unreachable before the
    job goes back to submit, `transfer` the longest silence within an upload or download,
    `execution` the synthesis, and each place in the worker's line before it, `total` the whole job. `call` is how one
    call to the worker is tried again, `again` how the whole job is, from submit. `straight` is how often a worker whose
    address is set is looked at while no hub can give it; None leaves it to the hub alone.
    """

    hub: float | None = None
    reply: float = 30.0
    online: float = 1800.0
    line_every: float = 10.0
    health_every: float = 1.0
    ready: float = 600.0
    lost: float = 30.0
    transfer: float = 60.0
    poll_every: float = 2.0
    execution: float = 4 * 3600.0
    total: float = 12 * 3600.0
    straight: float | None = None
    again: Backoff = field(
        default_factory=lambda: Backoff(max_retries=10, initial=1.0, max_delay=60.0, retry_on=is_retryable)
    )
    call: Backoff = field(
        default_factory=lambda: Backoff(max_retries=3, initial=0.5, max_delay=5.0, retry_on=is_retryable)
    )
