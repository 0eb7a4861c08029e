"""The daemon's outbox as a decider: which jobs there are and how each ended.

A job begins with `JobAccepted` and ends with `JobEnded`; only `ReleaseConfirmed` and `JobForgotten` follow its end.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.lifecycle.reuse import OWN, reused
from wakestream.operators.model import events as e
from wakestream.streams.decider import Decider
from wakestream.streams.outbox import chains
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import CHANGES, Durable, Entry, OutboxState, job_of, reindex
from wakestream.streams.recording.event_json import kind
from wakestream.streams.recording.timeline import stage_after
from wakestream.streams.webhooks import MAX_PENDING, WebhookOwed, WebhookSettled, delivery_id


def _started(state: OutboxState, _: f.DaemonStarted, now: float, decision: f.OutboxDecision) -> None:
    due = (pending for pending in state.pending.values() if state.webhook or not pending.news)
    decision.command(*(f.Notify(pending.job, pending) for pending in due))
    for job in state.queue:
        entry = state.jobs[job]
        if entry.cancelling is None:
            _start_or_hold(state, entry.accepted, decision)
        else:
            stage = entry.stage or f.JobStage(job, "", now)
            decision.command(f.CancelNotice(job, stage.worker, stage.task))
    for job, entry in state.jobs.items():
        if entry.ended is not None and entry.released is None:
            decision.command(f.Release(job, entry.ended.outcome in ("cancelled", "timed_out")))


def _submitting(state: OutboxState, event: f.Submitting, now: float, decision: f.OutboxDecision) -> None:
    accepted = replace(event.asked, at=now)
    known = state.jobs.get(event.job)
    refusal = None if known is not None else _refusal(state, accepted)
    if known is not None and _work(known.accepted) != _work(accepted):
        refusal = (409, "conflict", f"there is another job with the id {event.job}; leave the id out for a new one")
    if refusal is not None:
        decision.command(f.Answer(event.ticket, refusal[0], event.job, *refusal[1:]))
    elif known is not None:
        decision.command(f.Answer(event.ticket, 200, event.job))
    else:
        # The new job first: it may follow or repeat a job that is forgotten otherwise.
        decision.fact(accepted)
        spare = len(state.ended) - len(state.unfetched) + 1 - state.ended_most
        decision.fact(*(f.JobForgotten(job, now) for job in islice(chains.unneeded(state), max(0, spare))))
        decision.command(f.Answer(event.ticket, 201, event.job))
        _start_or_hold(state, accepted, decision)


def _start_or_hold(state: OutboxState, accepted: f.JobAccepted, decision: f.OutboxDecision) -> None:
    waits = chains.waits_for(state, accepted)
    decision.command(f.Hold(accepted.job, tuple(waits)) if waits else f.Start(accepted.job))


def _work(accepted: f.JobAccepted) -> tuple[Any, ...]:
    """What tells one job from another; the files may have changed since."""
    paths = {name: file.path for name, file in accepted.inputs.items()}
    return paths, accepted.outputs, accepted.task_type, accepted.params


def _refusal(state: OutboxState, asked: f.JobAccepted) -> tuple[int, str, str] | None:
    for output in asked.outputs.values():
        writer = state.outputs.get(state.place(output))
        if writer is not None:
            why = f"job {writer} will write its result to {output}; choose another output, or wait for its end"
            return 409, "output_taken", why
    if len({*asked.after}) < len(asked.after):
        return 400, "bad_request", '"after" must be a list of different jobs'
    unknown_before = next((job for job in asked.after if job not in state.jobs), None)
    if unknown_before is not None:
        return 404, "unknown_job", unknown(unknown_before)
    before = chains.missing(state, asked)
    if before is not None:
        job = before.accepted.job
        why = f"job {job}, which this one is to follow, ended without a result; try it again: wakestream retry {job}"
        return 409, chains.FAILED, why
    if len(state.queue) >= state.open_most:
        why = f"the outbox is full: {state.open_most} jobs wait or run; submit it again when some have ended"
        return 429, "queue_full", why
    return None


def _cancelling(state: OutboxState, event: f.Cancelling, now: float, decision: f.OutboxDecision) -> None:
    entry = state.jobs.get(event.job)
    if entry is None:
        decision.command(f.Answer(event.ticket, 404, event.job, "unknown_job", unknown(event.job)))
    elif entry.ended is not None and entry.ended.outcome != "cancelled":
        why = f"job {event.job} has ended already ({entry.ended.outcome}); there is nothing left to cancel"
        decision.command(f.Answer(event.ticket, 409, event.job, "ended", why))
    else:
        if entry.state == "open":
            decision.fact(f.JobCancelling(event.job, now))
            decision.command(f.Stop(event.job))
        decision.command(f.Answer(event.ticket, 202 if entry.ended is None else 200, event.job))


def _moving(state: OutboxState, event: f.Moving, now: float, decision: f.OutboxDecision) -> None:
    """Move a job that waits. In place of one that was handed to the GPU or has ended, it becomes the first."""
    missing = next((job for job in (event.job, event.before, event.after) if job and job not in state.jobs), None)
    if missing is not None:
        decision.command(f.Answer(event.ticket, 404, missing, "unknown_job", unknown(missing)))
        return
    entry = state.jobs[event.job]
    if not entry.movable:
        why = f"job {event.job} {_doing(entry)}; only a job that waits can be moved"
        decision.command(f.Answer(event.ticket, 409, event.job, "not_movable", why))
        return
    if event.job not in (event.before, event.after):
        decision.fact(_place(state, event, entry, now))
        decision.command(f.Reorder(event.job))
    decision.command(f.Answer(event.ticket, 200, event.job))


def _doing(entry: Entry) -> str:
    if entry.ended is not None:
        return f"has ended ({entry.ended.outcome})"
    return "is being cancelled" if entry.cancelling is not None else "is at the GPU already"


def _place(state: OutboxState, event: f.Moving, entry: Entry, now: float) -> f.JobMoved:
    """It takes the priority of its new place: the user's order wins."""
    if event.before and state.jobs[event.before].movable:
        return f.JobMoved(event.job, event.before, state.jobs[event.before].priority, now)
    others = [job for job in state.in_turn() if job != event.job and state.jobs[job].movable]
    if event.after in others:
        others = others[others.index(event.after) :]
        if len(others) > 1:
            return f.JobMoved(event.job, others[1], state.jobs[others[1]].priority, now)
    elif others and (event.before or event.first or event.after):
        return f.JobMoved(event.job, others[0], state.jobs[others[0]].priority, now)
    last = state.jobs[others[-1]].priority if others else entry.priority
    return f.JobMoved(event.job, "", min(entry.priority, last), now)


def unknown(job: str) -> str:
    """The error text for an unknown job."""
    return f"there is no job {job[:80]!r} here; `wakestream jobs --all` lists those that are"


def _happened(state: OutboxState, event: f.Happened, now: float, decision: f.OutboxDecision) -> None:
    entry = state.jobs.get(event.job)
    if entry is None or entry.ended is not None:
        return  # too late: an end is final
    if is_outcome(event.event):
        ended = _ended(event, entry.stage.reused if entry.stage is not None else "", now)
        decision.fact(ended)
        decision.command(f.Tell(event.job, event.event))
        _notify_later(state, entry, ended, decision)
        _go_on(state, ended, now, decision)
    elif isinstance(event.event, e.Fingerprinted):
        decision.fact(_read(state, entry, event.event))
    else:
        # A new stage, or new details of it; most events have neither.
        before = entry.stage or f.JobStage(event.job, "", now)
        stage = stage_after(before.stage, kind(event.event))
        moved = replace(before, stage=stage, reused=reused(before.reused, event.event))
        match event.event:
            case e.Uploaded(_, more):
                moved = replace(moved, sent=before.sent + more)
            case e.Submitted(online, task_id):
                moved = replace(moved, worker=online.url, task=task_id)
            case e.Downloading(_, of):
                moved = replace(moved, size=of)
            case e.Queued() | e.Granted():
                moved = replace(moved, worker="", task="", size=None)
        if moved != before:
            decision.fact(replace(moved, at=now))


def _read(state: OutboxState, entry: Entry, read: e.Fingerprinted) -> f.JobRead:
    files = dict(zip(job_of(entry, state.jobs).inputs, read.files, strict=False))
    digests = {name: dict(file.digests) for name, file in files.items()}
    dates = {name: file.mtime_ns for name, file in files.items()}
    return f.JobRead(entry.accepted.job, inputs=digests, mtimes_ns=dates)


def _go_on(state: OutboxState, ended: f.JobEnded, now: float, decision: f.OutboxDecision) -> None:
    """Start the jobs that waited for this end; without the result that they need, they end too."""
    failed = e.Failed(chains.why(ended), chains.FAILED)
    for entry in chains.failing(state, ended):
        end = _ended(f.Happened(entry.accepted.job, failed), "", now)
        decision.fact(end)
        decision.command(f.Tell(end.job, failed))
        _notify_later(state, entry, end, decision)
    decision.command(*(f.Start(entry.accepted.job) for entry in chains.waiting(state, ended.job)))


def _released(state: OutboxState, event: f.Released, now: float, decision: f.OutboxDecision) -> None:
    """No later start has to release it. A cancelled job may be released before its end, if the program was killed."""
    entry = state.jobs.get(event.job)
    if entry is not None and entry.released is None and (entry.ended or entry.cancelling) is not None:
        decision.fact(f.ReleaseConfirmed(event.job, now))


def _notify_later(state: OutboxState, entry: Entry, ended: f.JobEnded, decision: f.OutboxDecision) -> None:
    """Add the webhooks in the same commit as the end, so that a kill cannot lose them."""
    sent = entry.stage.sent if entry.stage is not None else 0
    ours = webhook_of(entry.accepted, ended, sent) if state.webhook else None
    for pending in (ours, webhook_of_caller(entry.accepted, ended)):
        if pending is None:
            continue
        if len(state.pending) >= MAX_PENDING:
            first = next(iter(state.pending.values()))
            decision.fact(f.WebhookGivenUp(first.job, first.delivery, ended.at, "too many wait"))
        decision.fact(pending)
        decision.command(f.Notify(pending.job, pending))


EVENTS: Final = {"done": "job.done", "failed": "job.failed", "timed_out": "job.failed"}
"""The webhook event of each outcome; a cancelled job has none."""


def webhook_of(accepted: f.JobAccepted, ended: f.JobEnded, sent: int) -> WebhookOwed | None:
    """The webhook that this end makes due, if any. `sent` is how many bytes went to workers."""
    event = EVENTS.get(ended.outcome)
    if event is None:
        return None
    files = accepted.inputs
    news: dict[str, Any] = {
        "id": accepted.job,
        "event": event,
        "outcome": ended.outcome,
        "files": {"output": accepted.output},
        "times": {"accepted": accepted.at, "ended": ended.at},
        "bytes": {"sent": sent, "result": ended.size},
    }
    if accepted.old_shape:
        news["files"] = {**{name: file.path for name, file in files.items()}, **news["files"]}
        news["bytes"] = {**{name: file.size for name, file in files.items()}, **news["bytes"]}
    else:  # an input may have any name, also "output" or "sent"
        inputs = {name: {"path": file.path, "bytes": file.size} for name, file in files.items()}
        news |= {"kind": accepted.task_type, "inputs": inputs, "params": accepted.params, "outputs": accepted.outputs}
    if ended.outcome != "done":
        news |= {"why": ended.why or f"{ended.stage}: nothing within {ended.seconds:g} s", "code": ended.code}
    return WebhookOwed(accepted.job, delivery_id(accepted.job, ended.at), ended.at, news)


def webhook_of_caller(accepted: f.JobAccepted, ended: f.JobEnded) -> WebhookOwed | None:
    """The webhook that this end makes due for the program that asked for the job.

    It has no `news`: the program gets the job as its API shows it at that time.
    """
    caller = accepted.caller
    if caller is None or not caller.webhook:
        return None
    if "completed" not in caller.events and ("output" not in caller.events or ended.outcome != "done"):
        return None
    return WebhookOwed(accepted.job, delivery_id(f"{accepted.job} {caller.webhook}", ended.at), ended.at, {})


def _webhook_settled(state: OutboxState, event: WebhookSettled, now: float, decision: f.OutboxDecision) -> None:
    pending = state.pending.get(event.delivery)
    if pending is None:
        return
    if event.reason:
        decision.fact(f.WebhookGivenUp(pending.job, pending.delivery, now, event.reason))
    else:
        decision.fact(f.WebhookDelivered(pending.job, pending.delivery, now))


def _ended(event: f.Happened, whose: str, now: float) -> f.JobEnded:
    ended = {field.name: getattr(event.event, field.name) for field in fields(event.event)}
    if isinstance(event.event, e.Done):
        ended |= {"path": str(event.event.path), "mtime_ns": event.mtime_ns, "reused": whose if whose != OWN else ""}
        ended["files"] = tuple(
            {"name": file.name, "path": str(file.path), "size": file.size} for file in event.event.files
        )
    return f.JobEnded(event.job, kind(event.event), now, **ended)


DECIDER: Decider[OutboxState, f.OutboxEvent, f.OutboxFact, f.OutboxCommand] = Decider(
    OutboxState,
    {
        f.DaemonStarted: _started, f.Submitting: _submitting, f.Cancelling: _cancelling, f.Moving: _moving,
        f.Happened: _happened, f.Released: _released, WebhookSettled: _webhook_settled,
    },
    CHANGES,
    Durable,
    reindex=reindex,
)  # fmt: skip
"""The outbox. `now` is UNIX seconds."""
