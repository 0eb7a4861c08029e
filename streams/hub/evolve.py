"""How each fact changes the hub's state, and how the state is restored from a snapshot."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from wakestream.streams.hub import events as f
from wakestream.streams.hub.holders import watched_by
from wakestream.streams.hub.ledger import KEPT_MONTHS, RUNNING, Account, Meter
from wakestream.streams.hub.local_time import UTC, begin_of, day_of, first_of_month
from wakestream.streams.hub.needs import weight
from wakestream.streams.hub.state import NEVER, RESTARTED, UNWATCHED, Connection, Gpu, HubJob, HubState, JobFiles, Tied
from wakestream.streams.moments import Mover, mover
from wakestream.streams.placement.waiting import Entry, Line
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol.kinds import flat_kind

_STOPPED = ("cancelled", "expired", "revoked")  # reasons for which a worker must stop the job

_REMEMBERED = 1000
"""Entries of each list of ended jobs; the oldest is removed first."""

_BOOTS = 100
"""Boots that are remembered."""


def _gpu(state: HubState, name: str) -> Gpu:
    return state.gpus.get(name) or state.gpus.setdefault(name, Gpu(name))


def _detach(state: HubState, job: HubJob, at: float, *, served: bool = False) -> HubJob:
    """Take the job out of the queue, or from its GPU; returns it without that GPU."""
    if job.id in state.queue:
        del state.queue[job.id]
        del state.arrivals[bisect_left(state.arrivals, job.seq)]
        _want(state, job, -1)
        state.early.pop(job.id, None)
        state.absent.pop(job.id, None)
        _leave_line(state, job, served=served)
    if job.gpu is None:
        return job
    state.seen.pop(job.id, None)
    gpu = state.gpus[job.gpu]
    gpu.metered(at)
    used = state.used_by(job, at)
    gpu.leases.pop(job.id, None)
    gpu.changed = at
    return replace(job, last=job.gpu, gpu=None, used=used, works=None)


def _job_worked(state: HubState, fact: f.JobWorked) -> None:
    job = state.jobs[fact.id]
    seconds = fact.seconds / state.gpus[fact.gpu].parts
    used = {**job.used, fact.gpu: job.used.get(fact.gpu, 0.0) + seconds} if fact.ended else job.used
    state.jobs[fact.id] = replace(job, used=used, works=None if fact.ended else fact.at - fact.seconds)


def _job_seen(state: HubState, fact: f.JobSeen) -> None:
    state.seen.pop(fact.id, None)
    if fact.id in state.jobs and fact.state:
        state.seen[fact.id] = fact.state, fact.at
    elif not fact.state:
        state.finished.pop(fact.id, None)


def _want(state: HubState, job: HubJob, by: int) -> None:
    """Count a waiting job by what it needs."""
    need = state.need_of(job)
    count = state.wanted.pop(need, 0) + by
    if count:
        state.wanted[need] = count


def _job_queued(state: HubState, fact: f.JobQueued) -> None:
    job = state.jobs.get(fact.id)
    state.serial += 1
    gone = None if fact.fd in state.connections else fact.at
    if job is None:
        job = HubJob(fact.id, fact.owner, fact.fd, fact.task_type, fact.payload, state.serial, fact.at, None, gone)
        job = replace(job, arrived=fact.at, order=state.serial)
    else:
        job = _detach(state, job, fact.at)
        job = replace(job, fd=fact.fd, payload=fact.payload, since=fact.at, seq=state.serial, gone=gone)
    job = replace(job, late=fact.late)
    state.jobs[job.id] = job
    _forget_cancels(state, job.id)
    _enqueue(state, job)
    if state.waking is None:
        state.waking = fact.at


def _enqueue(state: HubState, job: HubJob) -> None:
    state.jobs_of.setdefault(job.owner, {})[job.id] = None
    state.queue[job.id] = None
    state.arrivals.append(job.seq)
    _want(state, job, 1)
    if not job.late:
        state.early[job.id] = None
    _line_up(state, job)


def _line_up(state: HubState, job: HubJob) -> None:
    """A job that is placed late waits in line while its client is here, or the depot has its files."""
    if job.gone is None or job.stored:
        state.absent.pop(job.id, None)
    elif job.id not in state.absent:
        last = state.jobs.get(next(reversed(state.absent), ""))
        state.absent[job.id] = None
        if last is not None and (last.gone or 0.0) > job.gone:  # for example, the depot lost its files
            state.absent = dict.fromkeys(sorted(state.absent, key=lambda id_: state.jobs[id_].gone or 0.0))
    if job.late and (job.stored or job.fd in state.connections):
        line = state.lines.get(job.shape) or state.lines.setdefault(job.shape, Line())
        line.add(job.fd, Entry(job.order, job.arrived, job.id))


def _leave_line(state: HubState, job: HubJob, *, served: bool = False) -> None:
    line = state.lines.get(job.shape) if job.late else None
    if line is not None and job.id in line:
        line.remove(*line.where(job.id), served=served)
        if not line:
            del state.lines[job.shape]


def _jobs_ordered(state: HubState, fact: f.JobsOrdered) -> None:
    """They exchange their places; so they come neither before nor after other jobs than before."""
    jobs = [job for id_ in fact.ids if (job := state.jobs.get(id_)) is not None and job.gpu is None and job.late]
    for job, order in zip(jobs, sorted(job.order for job in jobs), strict=True):
        _leave_line(state, job)
        state.jobs[job.id] = replace(job, order=order)
        _line_up(state, state.jobs[job.id])


def _job_claimed(state: HubState, fact: f.JobClaimed) -> None:
    job = state.jobs.get(fact.id)
    if job is None:
        return
    _change(state, job, fd=fact.fd, payload=fact.payload, since=fact.at, gone=None)


def _change(state: HubState, job: HubJob, **fields: Any) -> None:
    """Change a job, which may then wait in another line."""
    changed = state.jobs[job.id] = replace(job, **fields)
    if job.id in state.queue:
        _leave_line(state, job)
        if changed.payload is not job.payload or (job.depot or changed.depot) is not None:  # else its need is the same
            _want(state, job, -1)
            _want(state, changed, 1)
        _line_up(state, changed)


def _job_storing(state: HubState, fact: f.JobStoring) -> None:
    job = state.jobs.get(fact.id)
    if job is not None:
        state.stored.pop(job.id, None)
        _change(state, job, depot=JobFiles(fact.files, None, fact.again), direct=False)
        _use(state, job.owner, fact.files, fact.at)


def _job_stored(state: HubState, fact: f.JobStored) -> None:
    job = state.jobs.get(fact.id)
    if job is not None and job.depot is not None:
        _leave_depot(state, job.id)
        state.stored[job.id] = None
        month = first_of_month(day_of(fact.at, state.limits.zone))
        state.depot_saved[month] = state.depot_saved.get(month, 0.0) + fact.saved
        for old in sorted(state.depot_saved)[:-KEPT_MONTHS]:
            del state.depot_saved[old]
        _change(state, job, depot=replace(job.depot, stored=fact.at))
        _use(state, job.owner, job.depot.files, fact.at)


def _job_direct(state: HubState, fact: f.JobDirect) -> None:
    job = state.jobs.get(fact.id)
    if job is not None:
        _leave_depot(state, job.id)
        _change(state, job, depot=None, direct=True)
        if fact.why:
            _remember(state.refusals, job.id, fact.why)


def _upload_seen(state: HubState, fact: f.UploadSeen) -> None:
    state.saving[fact.id] = state.upload_saved(fact.id, fact.left, fact.rate, fact.at)
    state.uploads[fact.id] = fact.left, fact.rate, fact.at
    job = state.jobs.get(fact.id)
    if fact.rate and job is not None:
        state.rates.pop(job.owner, None)
        _remember(state.rates, job.owner, fact.rate)


def _leave_depot(state: HubState, id_: str) -> None:
    state.uploads.pop(id_, None)
    state.saving.pop(id_, None)
    state.stored.pop(id_, None)


def _use(state: HubState, owner: str, files: Iterable[d.DepotFile], at: float) -> None:
    """Note files of a license in the depot, and that they are used now."""
    kept = state.in_depot.setdefault(owner, {})
    last = next(reversed(kept.values()), (0, NEVER, ""))[1]
    for file in files:
        kept.pop(file.blake3, None)
        kept[file.blake3] = file.size, at, file.ext
        state.removed.get(owner, {}).pop(file.blake3, None)
    if at < last:
        state.in_depot[owner] = dict(sorted(kept.items(), key=lambda entry: entry[1][1]))


def _job_delivered(state: HubState, fact: f.JobDelivered) -> None:
    if (before := state.delivered.pop(fact.id, None)) is not None:  # an id may come again, of another license too
        _forget_of(state.delivered_of, before.owner, fact.id)
    state.delivered[fact.id] = fact
    state.delivered_of.setdefault(fact.owner, {})[fact.id] = None
    _use(state, fact.owner, fact.files, fact.at)


def _deliveries_gone(state: HubState, fact: f.DeliveriesGone) -> None:
    for id_ in fact.ids:
        state.expiry_told.pop(id_, None)
        if (record := state.delivered.pop(id_, None)) is not None:
            _forget_of(state.delivered_of, record.owner, id_)


def _depot_unused(state: HubState, fact: f.DepotUnused) -> None:
    kept = state.in_depot.get(fact.owner, {})
    kept.update({blake3: (size, NEVER, ext) for blake3, (size, _, ext) in kept.items()})


def _depot_removed(state: HubState, fact: f.DepotRemoved) -> None:
    for blake3 in fact.files:
        was, late = _forget_of(state.in_depot, fact.owner, blake3), _forget_of(state.removed, fact.owner, blake3)
        if was and not late and state.limits.depot:
            state.removed.setdefault(fact.owner, {})[blake3] = fact.at


def _forget_of(known: dict[str, dict[str, Any]], owner: str, key: str) -> bool:
    """Remove the entry of an owner, and the owner with the last one; returns whether it was there."""
    mine = known.get(owner, {})
    was = key in mine
    mine.pop(key, None)
    if not mine:
        known.pop(owner, None)
    return was


def _swept(state: HubState, fact: f.DepotSwept) -> None:
    state.swept = fact.at
    state.expiry_told.update(dict.fromkeys(fact.told))


def _depot_leaves(state: HubState, fact: f.DepotLeaves) -> None:
    for blake3 in fact.files:
        count = state.leaving.pop((fact.owner, blake3), 0) + (-1 if fact.ended else 1)
        if count > 0:
            state.leaving[fact.owner, blake3] = count


def _depot_held(state: HubState, fact: f.DepotHeld) -> None:
    state.depot_of = (fact.license, fact.at) if fact.name else None


def _job_granted(state: HubState, fact: f.JobGranted) -> None:
    job = state.jobs.get(fact.id)
    if job is None:
        return
    job = _detach(state, job, fact.at, served=True)
    _forget_cancels(state, job.id)
    if job.last is not None and job.last != fact.gpu:
        # Another GPU makes it now, so the worker that lost it must not.
        _add_pending_cancel(state, job.last, job.id, fact.at)
    gpu = _gpu(state, fact.gpu)
    state.serial += 1
    began = gpu.metered(fact.at)
    state.jobs[job.id] = replace(job, gpu=fact.gpu, since=fact.at, seq=state.serial, began=began)
    if not gpu.leases:
        gpu.changed = fact.at
    gpu.leases[job.id], gpu.active = None, fact.at
    gpu.orphan = gpu.orphan if gpu.orphan == UNWATCHED else ""
    _remember(gpu.served, job.owner, None)
    if job.depot is not None and job.stored:
        _use(state, job.owner, job.depot.files, fact.at)
        for file in job.depot.files:
            _remember(gpu.seen, file.blake3, None)
    if not state.queue:
        state.waking = None


def _job_released(state: HubState, fact: f.JobRemoved) -> None:
    job = state.jobs.pop(fact.id, None)
    state.capabilities.pop(fact.id, None)
    if job is None:
        return
    _leave_depot(state, job.id)
    gpu = state.gpus[job.gpu] if job.gpu is not None else None
    holder = job.gpu or job.last  # a lost worker may still have the job and would render it on its return
    if holder is not None and fact.why in _STOPPED:
        _add_pending_cancel(state, holder, job.id, fact.at)
    if job.gpu is not None and fact.why == "finished":
        _remember(state.finished, job.id, (job.owner, job.gpu, fact.at))
    if job.gpu is not None and fact.why in ("done", "finished"):
        _recently_released(state, f.LeaseReleased(job.id, job.owner, job.gpu))
    if fact.fd is not None:
        _remember(state.cancelled, job.id, (job.owner, fact.fd))
    _book(state, _detach(state, job, fact.at), fact.at, unsaid=fact.why == "finished")
    if gpu is not None and not gpu.leases:
        gpu.active = float("-inf")  # the work has ended: its last sign of life does not matter any more
    mine = state.jobs_of[job.owner]
    del mine[job.id]
    if not mine:
        del state.jobs_of[job.owner]
        _forget_key(state, job.owner)
    if not state.queue:
        state.waking = None


def _book(state: HubState, job: HubJob, at: float, *, unsaid: bool) -> None:
    used = tuple((gpu, seconds) for gpu, seconds in job.used.items() if seconds > 0)
    if used:
        day = day_of(at, state.limits.zone)
        booked = f.JobUsed(job.id, job.owner, job.kind, used, first_of_month(day), at, unsaid)
        took = sum(seconds * (state.gpus[gpu].parts if gpu in state.gpus else 1) for gpu, seconds in used)
        state.usage.book(booked, day, took)
        arrived = day_of(job.arrived, UTC)
        state.usage.arrived(job.need._replace(depot=""), arrived, job.arrived - begin_of(arrived, UTC), took)


def _usage_kept(state: HubState, fact: f.UsageKept) -> None:
    state.usage.keep(fact.owner, {(gpu, month): seconds for gpu, month, seconds in fact.months})


def _job_used_kept(state: HubState, fact: f.JobUsedKept) -> None:
    if fact.used not in state.usage.jobs:
        state.usage.jobs.append(fact.used)


def _meter_kept(state: HubState, fact: f.MeterKept) -> None:
    _gpu(state, fact.gpu).meter = Meter(fact.at, fact.share)


def _job_metered(state: HubState, fact: f.JobMetered) -> None:
    job = state.jobs.get(fact.id)
    if job is not None:
        state.jobs[job.id] = replace(job, used=dict(fact.used), began=fact.began)


def _result_kept(state: HubState, fact: f.ResultKept) -> None:
    results = state.kept.setdefault(fact.owner, [])
    results.append((fact.at, fact.result))
    del results[: -state.limits.kept_results]


def _add_pending_cancel(state: HubState, gpu: str, id_: str, at: float) -> None:
    _remember(state.pending_cancels.setdefault(gpu, {}), id_, at)


def _recently_released(state: HubState, fact: f.LeaseReleased) -> None:
    _remember(state.recently_released, fact.id, (fact.owner, fact.gpu))


def _remember(known: dict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        del known[next(iter(known))]


def _forget_cancels(state: HubState, id_: str) -> None:
    """The job was submitted again, so no worker may stop it because of an earlier cancel."""
    state.cancelled.pop(id_, None)
    state.recently_released.pop(id_, None)
    state.finished.pop(id_, None)
    for pending in state.pending_cancels.values():
        pending.pop(id_, None)


def _cancel_owed(state: HubState, fact: f.CancelOwed) -> None:
    state.recently_released.pop(fact.id, None)
    state.finished.pop(fact.id, None)
    _add_pending_cancel(state, fact.gpu, fact.id, fact.at)


def _cancels_settled(state: HubState, fact: f.CancelsSettled) -> None:
    pending = state.pending_cancels.get(fact.gpu, {})
    for id_ in fact.ids:
        pending.pop(id_, None)
    if not pending:
        state.pending_cancels.pop(fact.gpu, None)


def _gpu_online(state: HubState, fact: f.GpuOnline) -> None:
    gpu = _gpu(state, fact.gpu)
    if gpu.phase != "online":
        gpu.since, gpu.cause, gpu.changed = fact.at, "", fact.at
    gpu.phase, gpu.ready, gpu.unaddressed, gpu.failures = "online", True, None, 0
    gpu.url, gpu.tells_work, gpu.depot = fact.url or gpu.url, fact.tells_work, fact.depot
    _enter(state, gpu, "online", fact.at, fact.switched)


def _gpu_phase(state: HubState, fact: f.GpuPhase) -> None:
    gpu = _gpu(state, fact.gpu)
    # Also by way of `unknown`, as a restarted monitor says it; but it may say that while the wake is on its way.
    stops = fact.phase == "off" and (gpu.phase not in ("off", "unknown") or gpu.account.running_since is not None)
    if fact.phase == "failed" or stops or gpu.started(fact.at) is None:
        gpu.woken = NEVER
    failed = fact.phase == "failed" != gpu.phase
    gpu.failures, gpu.failed_boots = gpu.failures + failed, gpu.failed_boots + failed
    gpu.phase, gpu.since, gpu.cause, gpu.retry_at = fact.phase, fact.at, fact.cause, fact.retry_at
    gpu.orphan = "" if fact.phase == "off" else gpu.orphan
    _enter(state, gpu, fact.phase, fact.at, fact.switched)


def _enter(state: HubState, gpu: Gpu, phase: str, at: float, switched: float | None = None) -> None:
    """Book what the machine ran, and what its holders used of it until it was switched off."""
    account, group, said = gpu.account, state.machine_with(gpu), phase
    ran = account.running_since is not None
    if any(other.phase in RUNNING for other in group if other is not gpu) and phase not in RUNNING:
        phase, switched = "online", None  # its machine runs for another GPU
    until = account.enter(phase, at, state.limits.zone, switched)
    for member in group:
        meter, holders = member.meter, len(member.leases)
        counted = meter.at if member.worked_until is None else min(meter.at, member.worked_until)
        if ran and holders and until < counted:  # it was off already when its holders were counted last
            meter.share -= (counted - until) / holders
        meter.advance(until, holders, running=ran and member.worked_until is None)
        member.metered(at)
    if said == "online":
        gpu.worked_until = None
    elif said not in ("draining", "stopping"):
        gpu.worked_until = until if gpu.worked_until is None else min(until, gpu.worked_until)


def _machine_known(state: HubState, fact: f.MachineKnown) -> None:
    gpu = _gpu(state, fact.gpu)
    gpu.machine, gpu.price, gpu.currency, gpu.idle_after = fact.machine, fact.price, fact.currency, fact.idle_after
    if gpu.host == fact.host:
        return
    if gpu.account.gpus > 1:  # what its machine ran stays with the GPUs that are left in it
        _leave(gpu)
        gpu.host = ""
        _enter(state, gpu, gpu.phase, fact.at)
    gpu.host = fact.host
    _share(gpu, next((other for other in state.machine_with(gpu) if other is not gpu), None))


def _leave(gpu: Gpu) -> None:
    gpu.account.gpus -= 1
    gpu.account = Account()


def _share(gpu: Gpu, other: Gpu | None) -> None:
    """Give the GPU the account of another one in its machine."""
    if other is not None:
        other.account.absorb(gpu.account)
        if other.account.running_since is None:
            other.account.at, other.account.running_since = gpu.account.at, gpu.account.running_since
        gpu.account = other.account


def _abandoned(state: HubState, fact: f.GpuAbandoned) -> None:
    gpu = _gpu(state, fact.gpu)
    gpu.phase, gpu.since, gpu.cause = "unknown", fact.at, "nothing was heard of its monitor and its worker"
    _enter(state, gpu, "off", fact.at, fact.last)


def _boot_took(state: HubState, fact: f.BootTook) -> None:
    gpu = _gpu(state, fact.gpu)
    gpu.failed_boots *= len(gpu.boots) < _BOOTS or 1 - 1 / _BOOTS
    gpu.boots = [*gpu.boots, fact.seconds][-_BOOTS:]
    state.boots = [*state.boots, (fact.at, fact.seconds)][-_BOOTS:]
    state.waking = None


def _boot_times(state: HubState, fact: f.BootTimes) -> None:
    state.boots, state.waking = [*fact.boots], fact.waking


def _account_kept(state: HubState, fact: f.AccountKept) -> None:
    days = dict(fact.days)
    _gpu(state, fact.gpu).account = Account(fact.since, fact.at, fact.running_since, days, fact.before)


def _gpu_held(state: HubState, fact: f.GpuHeld) -> None:
    _gpu(state, fact.gpu)
    state.holders[fact.role, fact.gpu] = fact.license, fact.at


def _gpu_forgotten(state: HubState, fact: f.GpuForgotten) -> None:
    if fact.gpu in state.gpus and state.gpus[fact.gpu].leases:
        return  # never while jobs have it
    if (gpu := state.gpus.pop(fact.gpu, None)) is not None:
        state.kinds_bytes -= weight((gpu.kinds or {}).values())
        _leave(gpu)
    state.pending_cancels.pop(fact.gpu, None)
    for id_ in [id_ for id_, (_, gpu) in state.recently_released.items() if gpu == fact.gpu]:
        del state.recently_released[id_]
    for role in ("worker", "monitor"):
        state.holders.pop((role, fact.gpu), None)


def _gpu_described(state: HubState, fact: f.GpuDescribed) -> None:
    gpu = _gpu(state, fact.gpu)
    flat = map(flat_kind, fact.kinds or ())  # 0.1.0 wrote them whole
    kinds = None if fact.kinds is None else {str(kind["name"]): kind for kind in flat}
    state.kinds_bytes += weight((kinds or {}).values()) - weight((gpu.kinds or {}).values())
    gpu.kinds, gpu.pairs_only, gpu.described_at = kinds, fact.pairs_only, fact.at


def _gpu_labelled(state: HubState, fact: f.GpuLabelled) -> None:
    gpu = _gpu(state, fact.gpu)
    gpu.told = {**gpu.told, fact.role: fact.labels}
    if fact.role == "worker":
        gpu.slots = fact.slots


def _gpu_ordered(state: HubState, fact: f.GpuOrdered) -> None:
    gpu = state.gpus[fact.gpu]
    gpu.kept_until = fact.until
    gpu.stopped_at = fact.at if fact.action == "stop" else NEVER


def _kinds_heard(state: HubState, fact: f.KindsHeard) -> None:
    peer = state.connections[fact.fd]
    state.kinds_bytes += weight(fact.kinds) - weight(peer.kinds)
    peer.kinds, peer.described = fact.kinds, fact.complete


def _gpus_tied(state: HubState, fact: f.GpusTied) -> None:
    state.tied = Tied.of(fact.tied, fact.weights)


def _hub_started(state: HubState, fact: f.HubStarted) -> None:
    state.cancelled.clear()
    state.finished.clear()
    state.jobs = {id_: replace(job, fd=None, gone=fact.at) for id_, job in state.jobs.items()}
    state.lines.clear()
    state.absent.clear()
    state.uploads.clear()
    state.saving.clear()
    state.restarted = fact.at
    for id_ in state.queue:
        _line_up(state, state.jobs[id_])
    if state.stored:
        state.wanted = state.count_wanted()
    for gpu in state.gpus.values():
        gpu.worker, gpu.ready, gpu.unaddressed, gpu.away = None, False, None, fact.at
        gpu.unwatched = fact.at if gpu.idle_after is not None or ("monitor", gpu.name) in state.holders else None
        gpu.active = gpu.let_go = gpu.warmed = gpu.changed = float("-inf")
        gpu.failures = 0
        gpu.seen.clear()
        if gpu.tells_work and gpu.worked_until is None:
            gpu.worked_until = fact.at
        gpu.machine_url = None if gpu.machine_url is None else ""  # another machine may have that address by now
        if gpu.phase == "online":
            gpu.phase, gpu.since, gpu.cause = "lost", fact.at, RESTARTED
        if gpu.account.at > fact.at:
            gpu.account.moved(fact.at, fact.at - gpu.account.at, state.limits.zone)
    _MOVER(state, lambda at: min(at, fact.at))  # the clock may have been ahead before the restart


def _opened(state: HubState, fact: f.ConnectionOpened) -> None:
    state.connections[fact.fd] = Connection(fact.fd, fact.at)


def _registered(state: HubState, fact: f.ConnectionRegistered) -> None:
    peer = state.connections[fact.fd]
    peer.role, peer.owner, peer.key, peer.features = fact.role, fact.owner, fact.key, fact.features
    peer.gpu, peer.url, peer.gpus, peer.device = fact.gpu, fact.url, fact.gpus, fact.device
    peer.instance = fact.instance
    peer.admin, peer.labels, peer.slots, peer.max_priority = fact.admin, fact.labels, fact.slots, fact.max_priority
    if fact.owner is not None:
        state.by_owner.setdefault(fact.owner, {})[fact.fd] = None
        if fact.key is not None:
            state.keys[fact.owner] = fact.key
    if fact.role == "client":
        state.clients[fact.fd] = None
    elif fact.role == "monitor":
        state.monitors[fact.fd] = None
        for gpu in watched_by(state, peer):
            gpu.unwatched = None
    elif fact.role == "depot":
        state.depot, state.restarted = fact.fd, float("-inf")
    elif fact.gpu is not None:
        _take_gpu(state, peer, fact.gpu)


def _take_gpu(state: HubState, peer: Connection, name: str) -> None:
    gpu = state.gpus[name]
    gpu.worker, gpu.ready, gpu.unaddressed = peer.fd, False, None


def _taken(state: HubState, fact: f.GpuTaken) -> None:
    peer = state.connections[fact.fd]
    peer.gpu = fact.gpu
    _take_gpu(state, peer, fact.gpu)


def _closed(state: HubState, fact: f.ConnectionClosed) -> None:
    peer = state.connections.pop(fact.fd, None)
    if peer is None:
        return
    state.kinds_bytes -= weight(peer.kinds)
    state.clients.pop(fact.fd, None)
    if fact.fd in state.monitors:
        del state.monitors[fact.fd]
        named = state.named()
        for name in peer.gpus:
            if name in state.gpus and name not in named:
                state.gpus[name].unwatched = fact.at
    state.texts.end(lambda text: text.worker == fact.fd)
    state.depot = None if state.depot == fact.fd else state.depot
    if peer.owner is not None:
        fds = state.by_owner[peer.owner]
        fds.pop(peer.fd, None)
        if not fds:
            del state.by_owner[peer.owner]
        for id_ in state.jobs_of.get(peer.owner, ()):
            job = state.jobs[id_]
            if job.fd == peer.fd:
                _change(state, job, fd=None, gone=fact.at)
        _forget_key(state, peer.owner)
    gpu = state.gpus.get(peer.gpu) if peer.gpu is not None else None
    if gpu is not None and gpu.worker == fact.fd:
        gpu.worker, gpu.ready, gpu.unaddressed, gpu.away = None, False, None, fact.at


def _forget_key(state: HubState, owner: str) -> None:
    """Forget a license key when no job or connection of the license is left."""
    if owner not in state.by_owner and owner not in state.jobs_of:
        state.keys.pop(owner, None)


def _refused(state: HubState, fact: f.FrameRefused) -> None:
    state.connections[fact.fd].refused += 1


def _old(state: HubState, fact: f.OldNamesSpoken) -> None:
    state.connections[fact.fd].old = True


def _monitors_told(state: HubState, fact: f.MonitorsTold) -> None:
    peer = state.connections[fact.fd]
    peer.told = int(fact.at), peer.told_in(fact.at) + 1


def _worker_url(state: HubState, fact: f.WorkerUrl) -> None:
    worker = state.gpus[fact.gpu].worker
    if worker is not None and worker in state.connections:
        state.connections[worker].url = fact.url


def _stop_allowed(state: HubState, fact: f.StopAllowed) -> None:
    state.connections[fact.fd].stops_at = fact.at


def _asked(state: HubState, fact: f.Asked) -> None:
    since, fds = state.asked.get((fact.kind, fact.request_id), (fact.at, ()))
    if fact.fd not in fds:
        fds = (*fds, fact.fd)
    state.asked[(fact.kind, fact.request_id)] = (since, fds)


def _capability_given(state: HubState, fact: f.CapabilityGiven) -> None:
    state.capabilities.pop(fact.id, None)
    if fact.expires is not None and fact.id in state.jobs:
        state.capabilities[fact.id] = fact.expires


def _license_gone(state: HubState, fact: f.LicenseGone) -> None:
    for id_ in [id_ for id_, at in state.revoked.items() if fact.at - at > 2 * state.limits.capability_ttl + 600]:
        del state.revoked[id_]
    state.revoked[fact.license] = fact.at
    state.texts.end(lambda text: text.owner == fact.license)


def _clock_set(state: HubState, fact: f.ClockSet) -> None:
    """Keep all durations; renew all capabilities, since they contain times of the old clock."""
    for gpu in state.gpus.values():
        gpu.metered(fact.at - fact.by)
        gpu.retry_at = None if gpu.retry_at is None else gpu.retry_at + fact.by
    for account in {id(gpu.account): gpu.account for gpu in state.gpus.values()}.values():
        account.moved(fact.at, fact.by, state.limits.zone)
    _MOVER(state, lambda at: min(at + fact.by, fact.at))  # one in the future would make a duration endless
    state.capabilities = dict.fromkeys(state.capabilities, fact.at)
    waiting = [id_ for line in state.lines.values() for id_ in line]
    state.lines.clear()
    for id_ in waiting:
        _line_up(state, state.jobs[id_])


def _blocked(state: HubState, fact: f.GpusBlocked) -> None:
    state.blocked = fact.until


def _unpaid(state: HubState, fact: f.LicensesUnpaid) -> None:
    state.unpaid, state.unpaid_until = fact.licenses, fact.until
    state.wanted = state.count_wanted()


def _disk_low(state: HubState, fact: f.DiskLow) -> None:
    state.disk_low = fact.low


def _set_gpu(**fields: str) -> Callable[[HubState, Any], None]:
    """A change that copies fields of a fact to its GPU; `fields` has the fact's field for each of the GPU's."""

    def change(state: HubState, fact: Any) -> None:
        gpu = _gpu(state, fact.gpu)
        for name, field in fields.items():
            setattr(gpu, name, getattr(fact, field))

    return change


_MOVER: Mover = mover(HubState)  # type: ignore[assignment] # it has moments


def reindex(state: HubState) -> None:
    """Make the indexes of what a snapshot has restored."""
    for job in sorted(state.jobs.values(), key=lambda job: job.seq):
        if not job.order:  # its snapshot is from before jobs had places
            job = state.jobs[job.id] = replace(job, arrived=job.since, order=job.seq)
        if job.stored:
            state.stored[job.id] = None
        if job.gpu is None:
            _enqueue(state, job)
        else:
            state.jobs_of.setdefault(job.owner, {})[job.id] = None
            state.gpus[job.gpu].leases[job.id] = None
    for record in state.delivered.values():
        state.delivered_of.setdefault(record.owner, {})[record.id] = None
    state.kinds_bytes = sum(weight((gpu.kinds or {}).values()) for gpu in state.gpus.values())
    accounts = {gpu.host: gpu.account for gpu in state.gpus.values() if gpu.host}
    for gpu in state.gpus.values():
        gpu.account = accounts.get(gpu.host, gpu.account)
    state.usage.add_up()


CHANGES: dict[type[f.Fact], Callable[[HubState, Any], object]] = {
    f.JobQueued: _job_queued,
    f.JobClaimed: _job_claimed,
    f.JobGranted: _job_granted,
    f.JobWorked: _job_worked,
    f.JobSeen: _job_seen,
    f.JobRemoved: _job_released,
    f.JobStoring: _job_storing,
    f.JobStored: _job_stored,
    f.JobDirect: _job_direct,
    f.JobDelivered: _job_delivered,
    f.DeliveriesGone: _deliveries_gone,
    f.DepotUsed: lambda state, fact: _use(state, fact.owner, fact.files, fact.at),
    f.DepotUnused: _depot_unused,
    f.DepotRemoved: _depot_removed,
    f.DepotHeld: _depot_held,
    f.UploadSeen: _upload_seen,
    f.DepotSwept: _swept,
    f.DepotLeaves: _depot_leaves,
    f.ResultKept: _result_kept,
    f.ResultsGone: lambda state, fact: state.kept.pop(fact.owner, None),
    f.GpuOnline: _gpu_online,
    f.GpuPhase: _gpu_phase,
    f.GpuAlone: _set_gpu(alone_since="at"),
    f.GpuAbandoned: _abandoned,
    f.GpuNote: _set_gpu(cause="cause", retry_at="retry_at"),
    f.BootTook: _boot_took,
    f.BootTimes: _boot_times,
    f.AccountKept: _account_kept,
    f.GpuNamed: lambda state, fact: _gpu(state, fact.gpu),
    f.GpuHeld: _gpu_held,
    f.GpuReleased: lambda state, fact: state.holders.pop((fact.role, fact.gpu), None),
    f.GpuForgotten: _gpu_forgotten,
    f.GpusTied: _gpus_tied,
    f.GpuDescribed: _gpu_described,
    f.GpuLabelled: _gpu_labelled,
    f.GpuHalted: _set_gpu(halted="state", halt_cause="cause", halted_at="at"),
    f.GpuOrdered: _gpu_ordered,
    f.GpuSuspended: _set_gpu(suspended="by"),
    f.GpuWoken: _set_gpu(woken="at"),
    f.JobsOrdered: _jobs_ordered,
    f.Planned: lambda state, fact: setattr(state, "planned", fact),
    f.KindsHeard: _kinds_heard,
    f.CancelOwed: _cancel_owed,
    f.LeaseReleased: _recently_released,
    f.CancelsSettled: _cancels_settled,
    f.HubStarted: _hub_started,
    f.ConnectionOpened: _opened,
    f.ConnectionRegistered: _registered,
    f.GpuTaken: _taken,
    f.ConnectionClosed: _closed,
    f.FrameRefused: _refused,
    f.OldNamesSpoken: _old,
    f.MonitorsTold: _monitors_told,
    f.GpuActive: _set_gpu(active="at"),
    f.WorkerUrl: _worker_url,
    f.MachineUrl: _set_gpu(machine_url="url"),
    f.GpuUnaddressed: _set_gpu(unaddressed="at"),
    f.StopAllowed: _stop_allowed,
    f.Asked: _asked,
    f.Answered: lambda state, fact: state.asked.pop((fact.kind, fact.request_id), None),
    f.ClockSet: _clock_set,
    f.UsageKept: _usage_kept,
    f.JobUsedKept: _job_used_kept,
    f.MeterKept: _meter_kept,
    f.JobMetered: _job_metered,
    f.MachineKnown: _machine_known,
    f.GpuWarmed: _set_gpu(warmed="at"),
    f.OrphanFound: _set_gpu(orphan="cause"),
    f.PowerNews: lambda state, fact: _remember(state.news, fact.delivery, fact),
    f.NewsOver: lambda state, fact: state.news.pop(fact.delivery, None),
    f.BudgetReached: lambda state, fact: state.reached.update({(fact.gpu, fact.period): fact}),
    f.GpusBlocked: _blocked,
    f.LicensesUnpaid: _unpaid,
    f.GpuUnneeded: _set_gpu(let_go="at"),
    f.DiskLow: _disk_low,
    f.CapabilityGiven: _capability_given,
    f.LicenseGone: _license_gone,
    f.TextAsked: lambda state, fact: state.texts.asked(fact),
    f.TextGiven: lambda state, fact: state.texts.given(fact),
    f.TextEnded: lambda state, fact: state.texts.ended(fact),
}
"""For each type of fact, how it changes the state."""
