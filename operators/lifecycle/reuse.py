"""Whether a job's result was rendered for it or existed before, from the job's own events."""

from __future__ import annotations

from typing import Final

from wakestream.operators.model.events import Granted, JobEvent, Note, Queued, Submitted

OWN: Final = "this job"
AT_WORKER: Final = "the worker"
"""Not an id of a job: an id has no space."""


def reused(known: str, event: JobEvent) -> str:
    """Where the result comes from, after one more event of the job.

    Args:
        known: What this function returned for the event before; empty at first.
        event: The next event.

    Returns:
        Empty while unknown; `OWN` if this job rendered it, even if the worker still had it later; `AT_WORKER`; or the
        id of the job that did the same work.
    """
    match event:
        case Note(data=data) if data.get("same_as"):
            return str(data["same_as"])
        case Submitted(cached=cached) if known != OWN:
            return AT_WORKER if cached else OWN
        case Queued() | Granted() if known != OWN:
            return ""
        case _:
            return known
