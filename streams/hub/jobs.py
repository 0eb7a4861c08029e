"""Jobs at the hub: submit, grant, release, expire. Pure; each function adds to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from msgspec.structs import replace

from wakestream.operators.model.events import MAX_PRIORITY
from wakestream.streams.hub import answers, capabilities, depot, depot_files, late_jobs, placement
from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.needs import need_of
from wakestream.streams.hub.old_workers import ends, says_done
from wakestream.streams.hub.state import Connection, Gpu, HubJob, HubState
from wakestream.streams.placement import requirements
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.features import HUB_STATUS
from wakestream.streams.protocol.kinds import KINDS

RELEASED = "released"
"""Announced to clients that announce it: they get a message when the end of a job is journaled."""

POWER_NOW = "power_now"
"""Announced by clients that want the state of each GPU right after registration."""

FEATURES = ("grant", "cancel", "done", "late_hashes", "power_state")
"""The additions that this hub announces; docs/protocol.md says what each means."""


def submit(state: HubState, peer: Connection, message: m.Submit, now: float, decision: HubDecision) -> None:
    """Queue or grant a job; the same id again gets the answer that is true now."""
    if depot.knows(state, peer, message.request_id, now, decision):
        return
    job = state.jobs.get(message.request_id)
    refusal = _refusal(state, peer, job, message)
    if refusal is not None:
        decision.refuse(peer.fd, *refusal, message.request_id)
        return
    owner, clean = _owner(peer), replace(message, key=None, license=None, sender_fd=None)
    if job is None and (left := _result_at(state, message.request_id, owner, now)) is not None:
        decision.send(peer.fd, answers.ack(clean, left, 1, state.url_of(left)))
        decision.send(left.worker or 0, capabilities.for_worker(state, left, clean, owner, peer.key, peer.fd))
        return
    held = state.gpus[job.gpu] if job is not None and job.gpu is not None else None
    payload, need = message.payload, state.need(need_of(message.task_type, message.payload), owner)
    usable = held is not None and held.online and not held.halted
    gpu, late = held if usable else placement.best_gpu(state, need), late_jobs.FEATURE in peer.features
    if gpu is None and (never := placement.refusal(state, need, now)) is not None:
        decision.refuse(peer.fd, *never, message.request_id)
        if message.request_id in state.jobs:
            decision.fact(f.JobRemoved(message.request_id, never[0], now))
        return
    lost = held is not None and not usable and (not late_jobs.may_be_back(held, now) if late else gpu is None)
    # A client of another version may have taken the job over.
    other = job is not None and late is not job.late and (held is None or not (late or usable))
    if job is None or lost or other:
        decision.fact(f.JobQueued(message.request_id, owner, peer.fd, message.task_type, payload, now, late))
    else:
        decision.fact(f.JobClaimed(job.id, peer.fd, payload, now))
    if late and not usable:
        _place(state, peer, clean, now, decision)
    elif gpu is None:
        expect, place = answers.outlook(state, need, now), state.position(state.jobs[message.request_id])
        if KINDS in peer.features and (why := placement.no_way(state, need)) is not None:
            expect = expect._replace(why=why)
        decision.send(peer.fd, answers.offline(clean, place, now, expect), old=peer.old)
        tell_monitors(state, peer, clean, now, decision, placement.wakers(state, need))
    elif gpu is held:
        decision.send(peer.fd, answers.ack(clean, gpu, list(gpu.leases).index(clean.request_id) + 1, state.url_of(gpu)))
    else:
        decision.fact(f.JobGranted(clean.request_id, gpu.name, now))
        answers.leave_halted(state, job, gpu, decision)
        decision.send(peer.fd, answers.ack(clean, gpu, len(gpu.leases), state.url_of(gpu)))
        if gpu.worker is not None:
            decision.send(gpu.worker, capabilities.for_worker(state, gpu, clean, owner, peer.key, peer.fd))
        tell_monitors(state, peer, clean, now, decision, monitors_of(state, gpu.name))


def _result_at(state: HubState, id_: str, owner: str, now: float) -> Gpu | None:
    """The GPU whose worker has the result of a job that was released while its client was away: it needs no lease."""
    license_, name, at = state.finished.get(id_, ("", "", now))
    gpu = state.gpus.get(name) if license_ == owner and now - at <= state.limits.granted_ttl else None
    return gpu if gpu is not None and gpu.online and not gpu.closed else None


def _place(state: HubState, peer: Connection, message: m.Submit, now: float, decision: HubDecision) -> None:
    """Have a job placed when its turn comes, which may be now."""
    job = state.jobs[message.request_id]
    if job.gpu is None:
        late_jobs.place_new(state, job, now, decision)
        job = state.jobs[message.request_id]
    if job.gpu is None or not state.gpus[job.gpu].online:
        decision.send(peer.fd, late_jobs.answer(state, job, now))
    # Other monitors are asked when their machine is needed.
    unnamed = [fd for fd in state.monitors if not state.connections[fd].gpus]
    if unnamed and placement.helps(state, (), state.need_of(job)):
        tell_monitors(state, peer, message, now, decision, unnamed)


def tell_monitors(
    state: HubState, peer: Connection, message: m.Message, now: float, decision: HubDecision, to: Sequence[int]
) -> bool:
    """Send a message to these monitors, unless its sender has had its share of this second; then return False.

    A submit that is left out has been preceded by many that woke the GPU.
    """
    if had_its_share(state, peer, now):
        return False
    if state.monitors:
        decision.fact(f.MonitorsTold(peer.fd, now))
    placement.tell(state, message, to, decision)
    return True


def monitors_of(state: HubState, gpu: str) -> list[int]:
    """The monitors of `gpu`, and those who name none: others would start their machine for it, or keep it on.

    If none names it, it may be the GPU of any of them under another name.
    """
    named = state.watching(gpu)
    return [fd for fd in state.monitors if not named or fd in named or not state.connections[fd].gpus]


def had_its_share(state: HubState, peer: Connection, now: float) -> bool:
    """Whether this connection has sent as many messages to others in this second as it may."""
    return peer.told_in(now) >= state.limits.passed_on


def _refusal(state: HubState, peer: Connection, job: HubJob | None, message: m.Submit) -> tuple[str, str] | None:
    known = job or state.delivered.get(message.request_id)
    if known is not None and known.owner != _owner(peer):
        return "conflict", "another license has a job with this request_id; submit with a fresh one"
    limit = state.limits
    # Whether the submit comes late over an older connection than the one that cancelled the job.
    owner, fd = state.cancelled.get(message.request_id, ("", 0))
    if job is None and (owner == _owner(peer) and peer.fd < fd):
        return "cancelled", "this job was cancelled over a newer connection; submit it there to run it after all"
    if job is None and state.disk_low:
        return "no_space", "the hub's disk is nearly full, so it takes no new jobs; its operator has to make room"
    if job is None and len(state.jobs_of.get(_owner(peer), ())) >= limit.jobs_per_key:
        why = f"this license has {limit.jobs_per_key} open jobs already; wait for one to end or cancel it"
        return "queue_full", why
    if wire.weight(message) > limit.batch:
        return "too_large", f"a job may have {limit.batch} bytes at most; send hashes in the payload, not files"
    return _wrong_input(peer, message)


def _wrong_input(peer: Connection, message: m.Submit) -> tuple[str, str] | None:
    try:
        requirements.all_of(message.payload.get("requires"))
    except ValueError as error:
        return "wrong_input", str(error)
    priority = message.payload.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < -MAX_PRIORITY:
        return "wrong_input", f'"priority" must be a whole number from {-MAX_PRIORITY} to {peer.max_priority}'
    if priority > peer.max_priority:
        return "wrong_input", (
            f"the priority {priority} is above {peer.max_priority}, the highest of this license; use a lower one, or "
            "ask the operator of the hub for a license with a higher --max-priority"
        )
    return None


def _owner(peer: Connection) -> str:
    return peer.owner or ""


def grant(state: HubState, gpu: Gpu, url: str | None, now: float, decision: HubDecision, *, again: bool) -> None:
    """Grant `gpu` to all waiting jobs that it can do, but to those that are placed late only as it has room for them.

    With `again` also to its holders: its worker may have lost them. Waiting jobs that no GPU can do, as is known now,
    are refused. While its budget is spent, jobs go on waiting.
    """
    held = [state.jobs[id_] for id_ in gpu.leases]
    fit = {need: placement.may(state, gpu, need) for need in (state.wanted if state.early else ())}
    queued = [job for job in map(state.jobs.__getitem__, state.early) if fit.get(state.need_of(job))]
    decision.fact(*(f.JobGranted(job.id, gpu.name, now) for job in queued))
    for position, job in enumerate([*held, *queued], 1):
        if job.gpu is None:
            answers.leave_halted(state, job, gpu, decision)
        if (again or job.gpu is None) and job.fd in state.connections and not gpu.fetches(job):
            decision.send(job.fd, answers.ack(job.submit, gpu, position, url))
    again_held = [job for job in held if placement.can(state, gpu, job.need)] if again else []
    answers.dispatch(state, gpu, [*again_held, *queued], now, decision)
    refuse_impossible(state, now, decision)
    late_jobs.plan(state, now, decision)


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Refuse the jobs that waited for a GPU that has not come back in time."""
    if state.wanted and placement.any_given_up(state, now):
        refuse_impossible(state, now, decision)


def refuse_impossible(state: HubState, now: float, decision: HubDecision) -> None:
    """Refuse the waiting jobs that no GPU can do."""
    never = {need: why for need in state.wanted if (why := placement.refusal(state, need, now)) is not None}
    for job in state.queued() if never else ():
        why, to = never.get(state.need_of(job)), state.listeners(job)
        if why is not None and to:  # an owner without a connection gets this answer to the next submit
            for fd in to:
                decision.refuse(fd, *why, job.id)
            decision.fact(f.JobRemoved(job.id, why[0], now))


def cancel(state: HubState, peer: Connection, message: m.Cancel, now: float, decision: HubDecision) -> None:
    """Release the job and have its worker stop it, also one that had let its GPU go for a while."""
    job = state.job_of(peer, message.request_id)
    owner, gpu = state.recently_released.get(message.request_id, (None, ""))
    if job is not None:
        stop(state, job, "cancelled", now, decision, peer.fd)
    elif depot.forget(state, peer, message.request_id, decision, unusable=True):
        pass
    elif owner == _owner(peer):
        decision.fact(f.CancelOwed(gpu, message.request_id, now))
        capabilities.cancel(state, state.gpus[gpu], message.request_id, owner, decision)
    else:
        decision.refuse(peer.fd, "unknown_job", "no open job of this license has that request_id", message.request_id)
        return
    _confirm(peer, message.request_id, decision)


def stop(state: HubState, job: HubJob, why: str, now: float, decision: HubDecision, fd: int | None = None) -> None:
    """Release a job and have the worker that holds it, or gave it back, stop it: now, and again when it reconnects."""
    decision.fact(f.JobRemoved(job.id, why, now, fd))
    if (gpu := state.gpus.get(job.gpu or job.last or "")) is not None:
        capabilities.cancel(state, gpu, job.id, job.owner, decision)


def order(state: HubState, peer: Connection, message: m.JobOrder, now: float, decision: HubDecision) -> None:
    """A client wants its waiting jobs in this order."""
    mine = state.jobs_of.get(peer.owner or "", {})
    ids = tuple(id_ for id_ in dict.fromkeys(message.jobs) if id_ in mine)
    if had_its_share(state, peer, now):
        decision.refuse(peer.fd, "too_fast", "this connection sends too much; send the order again in a second")
        return
    decision.fact(f.MonitorsTold(peer.fd, now))
    if len(ids) > 1:
        decision.fact(f.JobsOrdered(ids))


def settle_cancels(state: HubState, gpu: Gpu, fd: int, decision: HubDecision) -> None:
    """Notify a reconnected worker of jobs that have ended: it may have missed or lost that."""
    for id_ in state.pending_cancels.get(gpu.name, ()):
        decision.send(fd, m.Cancel(request_id=id_))
    if capabilities.hears_ends(state, fd):
        for id_, (owner, held) in state.recently_released.items():
            if held == gpu.name:
                decision.send(fd, m.JobDone(request_id=id_, license=owner or None))


def done(state: HubState, peer: Connection, message: m.JobDone, now: float, decision: HubDecision) -> None:
    """Release the job. A repeated `done` changes nothing."""
    job = state.job_of(peer, message.request_id)
    if job is not None:
        decision.fact(f.JobRemoved(job.id, "done", now))
        worker = state.gpus[job.gpu].worker if job.gpu is not None else None
        if worker is not None and capabilities.hears_ends(state, worker):
            decision.send(worker, m.JobDone(request_id=job.id, license=job.owner or None))
    elif state.finished.get(message.request_id, ("",))[0] == _owner(peer):
        decision.fact(f.JobSeen(message.request_id, "", now))
    depot.forget(state, peer, message.request_id, decision)
    _confirm(peer, message.request_id, decision)


def told_state(state: HubState, peer: Connection, message: m.JobState, now: float, decision: HubDecision) -> None:
    """A worker says what has become of a job that it was given. If that is over, it says how long it worked for it."""
    job = state.jobs.get(message.request_id)
    if job is None or job.gpu is None or job.gpu != peer.gpu:
        return
    if message.state in _OVER and (job.works is not None or job.gpu not in job.used):  # else it is booked
        worked(state, peer, m.JobWork(request_id=job.id, seconds=message.seconds, ended=True), now, decision)
    if state.seen.get(job.id, ("",))[0] != message.state:
        decision.fact(f.JobSeen(job.id, message.state, now))


def worked(state: HubState, peer: Connection, message: m.JobWork, now: float, decision: HubDecision) -> None:
    """A worker says how long it works for a job; it cannot have worked for longer than its machine ran."""
    job = state.jobs.get(message.request_id)
    if job is not None and job.gpu is not None and job.gpu == peer.gpu:
        ran = now - (state.gpus[job.gpu].account.running_since or now)
        seconds = round(min(max(0.0, message.seconds), ran), 3)
        decision.fact(f.JobWorked(job.id, job.gpu, seconds, bool(message.ended), now))


def _confirm(peer: Connection, request_id: str, decision: HubDecision) -> None:
    """Confirm that the end of a job is journaled; without it the client repeats the end at each connection."""
    if RELEASED in peer.features:
        decision.send(peer.fd, m.JobReleased(request_id=request_id))


def result(state: HubState, peer: Connection, message: m.Result, now: float, decision: HubDecision) -> None:
    """Send a worker's result to the connection that submitted the job, or else to its owner's others."""
    job = state.jobs.get(message.request_id)
    if job is not None and (peer.gpu is None or peer.gpu not in (job.gpu, job.last)):
        why = "this job is not this worker's: only the one that was given a job sends its result"
        decision.refuse(peer.fd, "forbidden", why, message.request_id)
        return
    if job is not None and peer.gpu is not None and state.gpus[peer.gpu].fetches(job):
        return  # it delivers the results
    clean = replace(message, key=None, license=None, sender_fd=None)
    owner = job.owner if job is not None else _owner_of(state, peer, message)
    to = _addressees(state, job, message, owner)
    if job is not None and job.gpu in (None, peer.gpu) and ends(state, peer, job, message, now):
        decision.fact(f.JobRemoved(job.id, "result", now))
    if message.request_id in state.pending_cancels.get(peer.gpu or "", ()):
        decision.fact(f.CancelsSettled(peer.gpu or "", (message.request_id,)))
    if to:
        decision.send(to, clean, old=True)
    elif owner is not None:
        decision.fact(f.ResultKept(owner, clean, now))


def _owner_of(state: HubState, peer: Connection, message: m.Result) -> str | None:
    """The license of a result, by the key in its frame or by the license's id.

    The id is no secret, so only a worker that had jobs of this license may name it. An unknown key is taken as an id.
    """
    owner = next((owner for owner, key in state.keys.items() if message.key == key), None)
    if message.license is None and owner is not None:
        return owner
    owner = message.license or message.key
    gpu = state.gpus.get(peer.gpu or "")
    here = owner in state.by_owner or owner in state.jobs_of
    return owner if gpu is not None and owner in gpu.served and here else None


def _addressees(state: HubState, job: HubJob | None, message: m.Result, owner: str | None) -> tuple[int, ...]:
    if owner is None:
        return ()
    mine = state.of_owner(owner)
    # The number in the frame may be from before a restart of the hub, and belong to another client now.
    fd = message.sender_fd if job is None else job.fd
    if fd in mine and (job is not None or HUB_STATUS not in state.connections[fd].features):
        return (fd,)
    return tuple(fd for fd in mine if hears_results(state.connections[fd].features))


def hears_results(features: frozenset[str]) -> bool:
    """Whether a result of another connection's job is of use to a client: those that follow their jobs at the worker
    (they say `done`), and those that only ask, pass over it.
    """
    return features.isdisjoint((HUB_STATUS, "done"))  # programs that only query the GPUs do not wait for results


def deliver(state: HubState, fd: int, owner: str, decision: HubDecision) -> None:
    """Send the stored results of `owner` to its first connection that reads results."""
    kept = state.kept.get(owner)
    if kept:
        for _, message in kept:
            decision.send(fd, message, old=True)
        decision.fact(f.ResultsGone(owner))


def expire(state: HubState, now: float, decision: HubDecision) -> None:
    """Expire abandoned jobs and notify the owner's open connections."""
    waiting = takewhile(lambda job: _expired(state, job, now), map(state.jobs.__getitem__, state.absent))
    held = (state.jobs[id_] for gpu in state.gpus.values() for id_ in gpu.leases)
    for job in [
        *waiting,
        *(job for job in held if _expired(state, job, now)),
        *depot_files.sweep(state, now, decision),
    ]:
        if job.gone is not None and state.seen.get(job.id, ("",))[0] == "done":
            decision.fact(f.JobRemoved(job.id, "finished", now))  # its client may still fetch the result
            continue
        stop(state, job, "expired", now, decision)
        for fd in state.of_owner(job.owner) if job.gone is not None or says_done(state, job) else ():
            decision.refuse(fd, "expired", _GONE if job.gone is not None else _SILENT, job.id)
    for name, pending in [*state.pending_cancels.items()]:
        late = tuple(id_ for id_, at in pending.items() if now - at > state.limits.granted_ttl)
        if late:
            decision.fact(f.CancelsSettled(name, late))
    for owner, kept in [*state.kept.items()]:
        if now - kept[-1][0] > state.limits.granted_ttl:
            decision.fact(f.ResultsGone(owner))


_GONE = "the job was given up: the connection that asked for it has been gone for too long"
_SILENT = "the job's GPU was given up: neither its client nor the GPU has shown any work for too long; submit it again"


_OVER = ("done", "failed", "cancelled")


def _expired(state: HubState, job: HubJob, now: float) -> bool:
    limit = state.limits
    worked = state.gpus[job.gpu].active if job.gpu is not None else float("-inf")
    if job.stored:  # the hub does it
        return job.gpu is not None and now - max(job.since, worked) > limit.silent_ttl
    word, at = state.seen.get(job.id, ("", now))
    if job.gone is not None and (word in _OVER or word == "unknown"):
        early = word == "unknown" and now - job.gone <= limit.unreached_ttl
        return not early and now - max(job.gone, at) > limit.over_ttl
    if job.gone is not None:
        return now - max(job.gone, worked) > (limit.queued_ttl if job.gpu is None else limit.granted_ttl)
    if job.gpu is None or job.fd not in state.connections:
        return False
    return now - max(job.since, worked) > (limit.silent_ttl if says_done(state, job) else limit.granted_ttl)


def revoke(state: HubState, owner: str, now: float, decision: HubDecision) -> None:
    """Release all jobs of a revoked license."""
    for id_ in [*state.jobs_of.get(owner, ())]:
        stop(state, state.jobs[id_], "revoked", now, decision)
    if owner in state.kept:
        decision.fact(f.ResultsGone(owner))
    depot_files.revoke(state, owner, decision)
