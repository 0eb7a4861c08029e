"""Jobs that wait for other jobs of the outbox, whose results they have as inputs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wakestream.operators.model.errors import WrongInput
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import Entry, OutboxState

SHOWN = 5
"""Ids that an error text lists."""

FAILED = "after_failed"
"""The code of a job that ended because a job before it has no result."""


def source(state: OutboxState, field: str, text: str) -> tuple[str, str, bool]:
    """Find the result that `JOB:NAME` names.

    Args:
        state: The outbox.
        field: The input, for the message, such as `inputs.video`.
        text: The job's id, a colon and the name of its result; without a colon, its main result.

    Returns:
        The id of the job, or of its latest retry; the path of the result; whether it is there already.

    Raises:
        WrongInput: There is no such job or result.
    """
    job, colon, name = text.partition(":")
    entry = latest(state, field, job)
    results = {**entry.accepted.outputs, **entry.made}
    if colon and name not in results:
        have = ", ".join(results)
        raise WrongInput(field, f"{field}: job {job} has no result {name[:40]!r}; it has {have}")
    path = results[name if colon else next(iter(results))]
    return entry.accepted.job, path, entry.state == "done"


def latest(state: OutboxState, field: str, job: str) -> Entry:
    """The job of this name, or the latest job that retries it. Raises `WrongInput` unless the name means one job."""
    matching = state.named(job)
    if len(matching) != 1:
        unknown = f"there is no job {job[:80]!r} here; `wakestream jobs --all` lists all"
        raise WrongInput(field, f"{field}: {ambiguous(job, matching) if matching else unknown}")
    entry = state.jobs[matching[0]]
    for other in list(state.jobs.values()):  # in the order of their acceptance: a retry comes after its job
        if other.accepted.retry_of == entry.accepted.job:
            entry = other
    return entry


def ambiguous(job: str, ids: Sequence[str]) -> str:
    """The error text for the beginning of several ids."""
    named = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
    return f"{job[:80]!r} is the beginning of {len(ids)} ids: {named}; give more characters"


def missing(state: OutboxState, after: Sequence[str]) -> Entry | None:
    """The first of these jobs that ended without a result."""
    entries = (state.jobs[job] for job in after if job in state.jobs)
    return next((entry for entry in entries if entry.ended is not None and entry.ended.outcome != "done"), None)


def waits_for(state: OutboxState, accepted: f.JobAccepted) -> list[str]:
    """The jobs that have not ended and that this job waits for. One that was forgotten had ended."""
    return [job for job in accepted.after if job in state.jobs and state.jobs[job].ended is None]


def waiting(state: OutboxState, ended: str) -> Iterator[Entry]:
    """The jobs that wait for the job `ended` and for no other job."""
    for job in state.after.get(ended, ()):
        entry = state.jobs[job]
        if entry.state == "open" and waits_for(state, entry.accepted) in ([], [ended]):
            yield entry


def failing(state: OutboxState, ended: str) -> list[Entry]:
    """The jobs that get no input because the job `ended` has no result, and those that wait for these."""
    entries: dict[str, Entry] = {}
    left = [ended]
    while left:
        for job in state.after.get(left.pop(), ()):
            if job not in entries and state.jobs[job].state == "open":
                entries[job] = state.jobs[job]
                left.append(job)
    return list(entries.values())


def why(job: str, outcome: str, reason: str) -> str:
    """The reason of a job that ended because `job`, which it waits for, has no result."""
    ended = {"cancelled": "was cancelled", "timed_out": "timed out"}.get(outcome, "failed")
    more = f": {reason}" if reason and ended == "failed" else ""
    return f"job {job}, whose result it needs, {ended}{more}"
