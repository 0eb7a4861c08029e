"""Jobs that wait for other jobs of the outbox, whose results they have as inputs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wakestream.operators.model.errors import WrongInput
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import Entry, OutboxState, handed_on

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
        The id of the job, or of its latest retry; the path of the result; whether it is there already, as one file:
        several are found when the job starts.

    Raises:
        WrongInput: There is no such job or result.
    """
    job, colon, result = text.partition(":")
    name = result.partition("[")[0]
    entry = latest(state, field, job)
    absent = entry.ended.absent if entry.ended is not None else ()
    results = {name: path for name, path in {**entry.accepted.outputs, **entry.made}.items() if name not in absent}
    files = handed_on(entry, result)
    if colon and (name not in results or (name != result and entry.made and not files)):
        have = ", ".join(results)
        raise WrongInput(field, f"{field}: job {job} has no result {result[:40]!r}; it has {have}")
    path = results[name if colon else next(iter(results))]
    return entry.accepted.job, (files or [path])[0], entry.state == "done" and len(files) < 2


def latest(state: OutboxState, field: str, job: str) -> Entry:
    """The job of this name, or the latest job that retries it. Raises `WrongInput` unless the name means one job."""
    matching = state.named(job)
    entry = state.jobs.get(matching[0]) if len(matching) == 1 else None  # another thread may have forgotten it since
    if entry is None:
        unknown = f"there is no job {job[:80]!r} here; `wakestream jobs --all` lists all"
        raise WrongInput(field, f"{field}: {ambiguous(job, matching) if len(matching) > 1 else unknown}")
    for other in list(state.jobs.values()):  # in the order of their acceptance: a retry comes after its job
        if other.accepted.retry_of == entry.accepted.job:
            entry = other
    return entry


def ambiguous(job: str, ids: Sequence[str]) -> str:
    """The error text for the beginning of several ids."""
    named = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
    return f"{job[:80]!r} is the beginning of {len(ids)} ids: {named}; give more characters"


def missing(state: OutboxState, asked: f.JobAccepted) -> Entry | None:
    """The first of the jobs before this one that ended without a result that it needs."""
    entries = (state.jobs[job] for job in asked.after)
    return next((entry for entry in entries if entry.ended is not None and _lacks(asked, entry, entry.ended)), None)


def _lacks(accepted: f.JobAccepted, entry: Entry, ended: f.JobEnded) -> bool:
    """Whether a job after the one that ended gets no input."""
    results = [
        result for job, _, result in (each.partition(":") for each in accepted.sources.values()) if job == ended.job
    ]
    lacking = (result in ended.absent or ("[" in result and not handed_on(entry, result)) for result in results)
    return ended.outcome != "done" or any(lacking)


def waits_for(state: OutboxState, accepted: f.JobAccepted) -> list[str]:
    """The jobs that have not ended and that this job waits for. One that an earlier version forgot had ended."""
    return [job for job in accepted.after if job in state.jobs and state.jobs[job].ended is None]


def waiting(state: OutboxState, ended: str) -> list[Entry]:
    """The jobs after this one that wait for no other job."""
    return [entry for entry in _behind(state, ended) if not waits_for(state, entry.accepted)]


def failing(state: OutboxState, ended: f.JobEnded) -> list[Entry]:
    """The jobs that get no input after this end, and those that wait for these."""
    left = [entry for entry in _behind(state, ended.job) if _lacks(entry.accepted, state.jobs[ended.job], ended)]
    entries: dict[str, Entry] = {}
    while left:
        entry = left.pop()
        if entries.setdefault(entry.accepted.job, entry) is entry:
            left += _behind(state, entry.accepted.job)
    return list(entries.values())


def _behind(state: OutboxState, job: str) -> list[Entry]:
    return [entry for name in state.after.get(job, ()) if (entry := state.jobs[name]).state == "open"]


def unneeded(state: OutboxState) -> Iterator[str]:
    """The ended jobs, the earliest first, without those that open jobs follow, or whose results or webhook are due."""
    shown = {pending.job for pending in state.pending.values() if not pending.news}
    yield from (job for job in state.ended if not (job in state.after or job in shown or job in state.unfetched))


def why(ended: f.JobEnded) -> str:
    """The reason of a job that ended because this one, which it waits for, has no result."""
    how = {
        "cancelled": "was cancelled",
        "timed_out": "timed out",
        "done": f"has made no {', '.join(ended.absent) or 'such file'}",
    }
    more = f": {ended.why}" if ended.why and ended.outcome == "failed" else ""
    return f"job {ended.job}, whose result it needs, {how.get(ended.outcome, 'failed')}{more}"
