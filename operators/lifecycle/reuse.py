"""Whether a job's result was made for it, or was there before: what its own events tell."""

from __future__ import annotations

from typing import Final

from wakestream.operators.model.events import Granted, JobEvent, Note, Queued, Submitted

OWN: Final = "this job"
AT_WORKER: Final = "the worker"
"""No job is called so: an id is one word."""


def reused(known: str, event: JobEvent) -> str:
    """Where the result comes from, after one more event: empty while that is open, `OWN`, `AT_WORKER`, or the id of
    the job of the same work. What this job had rendered once stays its own, also where the worker has it by then."""
    match event:
        case Note(data=data) if data.get("same_as"):
            return str(data["same_as"])
        case Submitted(cached=cached) if known != OWN:
            return AT_WORKER if cached else OWN
        case Queued() | Granted() if known != OWN:
            return ""
        case _:
            return known
