"""GPUs at the hub: online, lost, booting, draining, and the questions about them. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import get_args

from msgspec.structs import replace

from wakestream.operators.model.ports import PowerWord
from wakestream.streams.hub import answers, holders, jobs, keep_warm, kinds, late_jobs, ledger, placement, relays
from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.local_time import time_text
from wakestream.streams.hub.needs import ANY_GPU, Need
from wakestream.streams.hub.old_workers import silently_ended
from wakestream.streams.hub.state import ALONE, THEN, TWIN, UNWATCHED, Connection, Gpu, HubJob, HubState
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import POWEROFF
from wakestream.streams.protocol.printable import is_name

REPLACED = 4409
"""Close code: the same GPU's worker connected again."""

LONGEST_CAUSE = 300
"""Characters that are kept of why a GPU is in its phase."""

LONGEST_RETRY = 86_400
"""Seconds to the next try for a machine that a monitor may tell."""

WORKER_NOT_REGISTERED = (
    "its worker says that it is ready, but has not come to this hub; if it does not, look at the worker's log"
)
"""Why a GPU is not online of which its monitor says so."""

AGAIN = "status-again"
"""The kind of a status query that was answered from memory: the monitor answers it again after a look."""

AGE = "power_age"
"""Announced by a monitor and its hub: `age` in `gpu.power.state`."""

MACHINES = "machines"
"""Announced by a monitor that reads in `gpu.power.state` that its machine is started for another GPU in it."""

LATE = 0.5
"""Seconds by which a switch may be reported late without being booked again."""

ONE_STOP = 20.0
"""Seconds for which a monitor that may stop its machine has no rival: less than monitors wait for an answer."""

STATES = get_args(PowerWord)

_Told = tuple[str, int]
"""A job, and a connection that has its answer."""

_UNSAID = m.Online()
"""Of a GPU that is online without a new message of its worker."""

# What a monitor may say of a GPU whose worker is online without being believed: it lags behind, or speaks of a start
# that is beside the point. That the machine drains, stops or is off, it knows better than an open connection does.
_STALE = ("unknown", "starting", "booted", "no_capacity", "failed")
_SAME_START = ("unknown", "booted", "online", "draining")
"""States in which a machine that is online has the address that it had."""
_STOPS = {("draining", "stopping"), ("draining", "off"), ("stopping", "off"), ("off", "off")}
"""Ways from one phase to the next in which a machine keeps the reason for which it was switched off."""
_WARM = ("online", "lost", "draining")  # coming online from these is no boot, and tells nothing of how long one takes
_HOPEFUL = ("online", "starting", "booted", "draining", "stopping")
_ON = ("starting", "booted", "online")
_STATUS = {
    "online": "running",
    "booted": "running",
    "lost": "running",
    "starting": "starting",
    "stopping": "stopping",
    "draining": "stopping",
    "off": "stopped",
}


def online(state: HubState, peer: Connection, message: m.Online, now: float, decision: HubDecision) -> None:
    """A worker is online: notify all clients and grant the GPU to all waiting jobs."""
    gpu = _gpu_of(state, peer, now, decision)
    if gpu is None:
        return
    if gpu.online and gpu.ready:
        if jobs.had_its_share(state, peer, now):
            return
        decision.fact(f.MonitorsTold(peer.fd, now))
    if not gpu.ready:
        jobs.settle_cancels(state, gpu, peer.fd, decision)
    kinds.of_worker(state, gpu, peer, now, decision)
    # Bring a GPU online when clients can find its worker.
    if message.url and message.url != state.worker_url(gpu):
        decision.fact(f.WorkerUrl(gpu.name, message.url))
    url = message.url or state.url_of(gpu)
    if (url is not None or gpu.machine_url != "") and not _may_stop(state, state.machine_with(gpu), now):
        _online(state, gpu, url, now, decision, message)
    elif gpu.unaddressed is None:
        decision.fact(f.GpuUnaddressed(gpu.name, now))


def _may_stop(
    state: HubState, gpus: Iterable[Gpu], now: float, phases: Collection[str] = ("draining", "stopping")
) -> bool:
    """Whether a monitor may be stopping these GPUs at this moment: then its word counts, not that of a worker."""
    return any(gpu.phase in phases and now - gpu.since <= state.limits.draining for gpu in gpus)


def _gpu_of(state: HubState, peer: Connection, now: float, decision: HubDecision) -> Gpu | None:
    """The GPU of a worker that says that it is online; it is given a free one if it has none, or told why not."""
    if peer.gpu is None:
        name = holders.claim_name(state, peer, now, decision)
        if name is None:
            return None
        former = state.gpus[name].worker
        if former is not None:
            replaced(state, state.connections[former], now, decision)
        decision.fact(f.GpuTaken(peer.fd, name))
        placement.label(state, peer, (name,), decision)
        return state.gpus[name]
    return state.gpus[peer.gpu]


def _online(
    state: HubState, gpu: Gpu, url: str | None, now: float, decision: HubDecision, said: m.Online = _UNSAID
) -> None:
    cold, again = gpu.phase not in _WARM, not gpu.ready
    kept = state.worker_url(gpu) if gpu.machine_url else url  # the machine's address is another one after each start
    if not (gpu.online and gpu.ready and gpu.url == kept):  # said again, it is nothing to be kept for good
        decision.fact(f.GpuOnline(gpu.name, kept, now, None, *_announced(state, gpu)))
    woken = gpu.started(now) or (state.waking if placement.waiting_for(state, (gpu,)) else None)
    if cold and woken is not None and not _is_counted(state, gpu):
        decision.fact(f.BootTook(gpu.name, round(max(0.0, now - woken), 3), now))
    note = _announcement(gpu.name, url, now, said)
    decision.send(state.clients, note, old=True)
    decision.send([fd for fd in state.monitors if state.connections[fd].gpus], note)
    jobs.grant(state, gpu, url, now, decision, again=again)
    if cold:  # for those that still wait, another time counts now
        late_jobs.tell(state, now, decision)


def _is_counted(state: HubState, gpu: Gpu) -> bool:
    """Whether this start of its machine was counted as a boot: its worker comes back, as after a restart of the hub."""
    began = gpu.account.running_since
    return began is not None and any(at > began and seconds in gpu.boots for at, seconds in state.boots)


def _announced(state: HubState, gpu: Gpu) -> tuple[bool, bool]:
    """Whether the worker says how long it works for each job, and whether it fetches files from the depot."""
    worker = state.worker_of(gpu)
    features = worker.features if worker is not None else frozenset()
    return m.JobWork.FEATURE in features, d.FEATURE in features


def _announcement(gpu: str, url: str | None, now: float, said: m.Online = _UNSAID) -> m.Online:
    id_, trace, text = said.request_id or gpu, said.trace_id or gpu, said.msg or "a GPU is online"
    return m.Online(request_id=id_, trace_id=trace, ts=int(now), msg=text, gpu=gpu, url=url)


def greet_monitor(state: HubState, monitor: Connection, now: float, decision: HubDecision) -> None:
    """Tell a new monitor which GPUs are online or lost, and whether jobs wait."""
    fd, gpus = monitor.fd, monitor.gpus
    for gpu in state.gpus.values():
        if gpus and gpu.online:
            decision.send(fd, _announcement(gpu.name, state.url_of(gpu), now))
        elif gpu.phase == "lost" and _watches(monitor, gpu.name):
            decision.send(fd, _lost(gpu.name, gpu.cause))
        if gpu.phase in _ON:
            _tell_neighbours(state, gpu, decision)
        if not gpus or gpu.name in gpus:
            tell_worker(state, gpu, decision)
    for said in (said for name, said in twins(state).items() if name in gpus):
        decision.refuse(fd, "machine_shared", said)
    boot_for_the_queue(state, monitor, decision)
    late_jobs.greet(state, monitor, now, decision)


def boot_for_the_queue(state: HubState, monitor: Connection, decision: HubDecision) -> None:
    """Have this monitor start its GPU if jobs wait that it could do."""
    wanted = state.early_wanted() if monitor.gpus else state.wanted  # the others are woken for as `late_jobs` says
    fit = {need: count for need, count in wanted.items() if placement.helps(state, monitor.gpus, need)}
    if fit:
        first = next(id_ for id_ in state.queue if state.need_of(state.jobs[id_]) in fit)
        text = f"{sum(fit.values())} jobs wait for a GPU"
        decision.send(monitor.fd, m.Boot(request_id=first, source="hub", msg=text))


def worker_gone(state: HubState, peer: Connection, now: float, decision: HubDecision) -> None:
    """The GPU of a closed worker connection is lost, unless it was going anyway."""
    gpu = state.gpus.get(peer.gpu or "")
    if gpu is not None and gpu.worker == peer.fd and gpu.phase == "online":
        why = "the connection to its worker broke"
        decision.fact(f.GpuPhase(gpu.name, "lost", now, why))
        decision.send([fd for fd in state.monitors if _watches(state.connections[fd], gpu.name)], _lost(gpu.name, why))


def replaced(state: HubState, before: Connection, now: float, decision: HubDecision) -> None:
    """The worker of a GPU has reconnected: close its former connection."""
    why = "this GPU's worker connected again"
    decision.send(before.fd, m.Kicked(msg=why))
    worker_gone(state, before, now, decision)
    decision.fact(f.ConnectionClosed(before.fd, now))
    decision.command(f.Close(before.fd, REPLACED, why))


def _watches(monitor: Connection, gpu: str) -> bool:
    return gpu in monitor.gpus and "power_state" in monitor.features


def _tell_neighbours(state: HubState, gpu: Gpu, decision: HubDecision) -> None:
    """Tell the monitors of other GPUs in the machine that it is on: to them it is no machine that no job asked for."""
    for other in holders.neighbours(state, (gpu,)):
        to = [fd for fd in state.watching(other.name) if gpu.name not in state.connections[fd].gpus]
        text = f"its machine is on for the GPU {gpu.name}"
        decision.send(state.with_feature(MACHINES, to), m.PowerState(gpu=other.name, state="starting", msg=text))


def _lost(gpu: str, why: str) -> m.PowerState:
    # The machine may be gone with its worker: the monitor need not wait for its next look to find out.
    return m.PowerState(gpu=gpu, state="lost", msg=why)


def power_state(state: HubState, peer: Connection, message: m.PowerState, now: float, decision: HubDecision) -> None:
    """A monitor reports the state of its GPU."""
    if message.state not in STATES or not is_name(message.gpu):
        why = f'"state" is one of {", ".join(STATES)}, "gpu" a name of 1 to 100 printable characters'
        decision.refuse(peer.fd, "bad_request", why)
    elif holders.of_monitor(state, peer, (message.gpu,), now, decision):
        if message.orphan:
            decision.fact(f.OrphanFound(message.gpu, (message.msg or "")[:LONGEST_CAUSE], now))
        told = replace(message, url=None, url_follows=None, age=None)
        decision.send(state.with_feature("power_state", state.clients), told)
        gpu = state.gpus[message.gpu]
        url = "" if message.url_follows else message.url
        # A monitor that was restarted does not know yet what its worker, which is online, is reached by.
        keeps = not url and gpu.online and message.state in _SAME_START
        if url != gpu.machine_url and not keeps:
            # Note what a monitor says of its machine's address. A worker that waited for it is online now.
            before = state.url_of(gpu)
            decision.fact(f.MachineUrl(gpu.name, url))
            address = state.url_of(gpu)
            waits = gpu.unaddressed is not None and address is not None
            if waits or (gpu.online and gpu.ready and address is not None and address != before):
                _online(state, gpu, address, now, decision)
        before = gpu.phase
        _phase_seen(state, peer, gpu, message, now, decision)
        if gpu.phase != before and gpu.phase in _ON:
            _tell_neighbours(state, gpu, decision)
        if message.state == "off":
            # The machine may have gone by itself while jobs waited for it: their wake was spent on the one before.
            boot_for_the_queue(state, peer, decision)


def _phase_seen(
    state: HubState, peer: Connection, gpu: Gpu, message: m.PowerState, now: float, decision: HubDecision
) -> None:
    # Why the GPU is in its new state; while and after it stops, why it drained, not the provider's word for it.
    stops = (gpu.phase, message.state) in _STOPS and gpu.cause
    ready = gpu.ready or (gpu.unaddressed is not None and gpu.phase in ("draining", "stopping"))
    serving, cause = gpu.worker is not None and ready, (gpu.cause if stops else (message.msg or "")[:LONGEST_CAUSE])
    retry_at = None if message.retry_in is None else now + min(max(0, message.retry_in), LONGEST_RETRY)
    # When the machine was switched on or off; None if the ledger has it, or the monitor does not say it.
    running = gpu.account.running_since if message.state in ledger.RUNNING else None
    at = now - max(0, message.age or 0)
    switched = at if at < (now if running is None else running) - LATE else None
    if message.state == "online" and not gpu.online:
        others = holders.neighbours(state, (gpu,)) if gpu.phase == "draining" else ()
        if _another_stops(state, peer, others, now) or _may_stop(state, others, now, ("stopping",)):
            return  # it cannot know that the monitor of another GPU stops their machine
        if serving:
            _online(state, gpu, state.url_of(gpu), now, decision)
        elif not _is_unregistered(gpu):
            decision.fact(f.GpuPhase(gpu.name, "booted", now, WORKER_NOT_REGISTERED, switched=switched))
    elif message.state not in ("online", gpu.phase) and not _is_no_news(gpu, message.state):
        asked = late_jobs.asked_again(state, gpu)
        decision.fact(f.GpuPhase(gpu.name, message.state, now, cause, retry_at, switched))
        late_jobs.give_back(state, asked, now, decision)
    elif message.state == gpu.phase and ((cause and gpu.cause != cause) or (retry_at, gpu.retry_at) != (None, None)):
        decision.fact(f.GpuNote(gpu.name, cause or gpu.cause, retry_at))
    if switched is not None and message.state == "online" and serving:
        decision.fact(f.GpuOnline(gpu.name, gpu.url, now, switched, *_announced(state, gpu)))
    if message.state == "off":  # so are the other GPUs in the machine, also those without another source
        gone = [other for other in holders.neighbours(state, (gpu,)) if other.phase in ledger.RUNNING]
        unheard = _unheard(state) if gone else ()
        names = [other.name for other in gone if other.name in unheard]
        decision.fact(*(f.GpuPhase(name, "off", now, cause, switched=switched) for name in names))


def present(state: HubState, fd: int, decision: HubDecision) -> None:
    """Send the state of each known GPU to a client that has just registered."""
    for gpu in state.gpus.values():
        if gpu.phase != "unknown":
            decision.send(fd, m.PowerState(gpu=gpu.name, state=gpu.phase, msg=gpu.cause or None, present=True))


def _is_unregistered(gpu: Gpu) -> bool:
    return (gpu.phase, gpu.cause) == ("booted", WORKER_NOT_REGISTERED)


def _is_no_news(gpu: Gpu, state: str) -> bool:
    # A drain is only a question; it must not restart the time for which the worker has been away.
    return (gpu.online and state in _STALE) or (_is_unregistered(gpu) and state == "draining")


def booted(state: HubState, peer: Connection, message: m.Booted, now: float, decision: HubDecision) -> None:
    """The machine is up: news for all clients, but not `online` yet."""
    if message.gpu in state.gpus and not holders.of_monitor(state, peer, (message.gpu,), now, decision):
        return
    for name in _meant(state, peer, message.gpu):
        gpu = state.gpus.get(name)
        if gpu is not None and not gpu.online:
            decision.fact(f.GpuPhase(name, "booted", now, (message.msg or "")[:LONGEST_CAUSE]))
    decision.send(state.clients, message)
    if message.request_id is not None and ("boot", message.request_id) in state.asked:
        decision.fact(f.Answered("boot", message.request_id))


def _meant(state: HubState, peer: Connection, gpu: str | None) -> tuple[str, ...]:
    names = (gpu,) if gpu is not None else peer.gpus
    return tuple(name for name in names if holders.may_speak(state, "monitor", peer.owner, name))


def boot_result(state: HubState, peer: Connection, message: m.BootResult, now: float, decision: HubDecision) -> None:
    """A boot ended. If it failed and no other GPU is starting, fail the waiting jobs."""
    if message.gpu in state.gpus and not holders.of_monitor(state, peer, (message.gpu,), now, decision):
        return
    told = _tell_asker(state, message, decision)
    if message.success:
        return
    failed = _meant(state, peer, message.gpu)
    for name in failed:
        if name in state.gpus and not state.gpus[name].online:
            decision.fact(f.GpuPhase(name, "failed", now, (message.msg or "")[:LONGEST_CAUSE]))
    hopeless = [need for need in state.wanted if _only_these_could_start(state, failed, need)]
    # A monitor that names no GPU was asked for each job; the others for those that `late_jobs` woke their machine for.
    for job in [state.jobs[id_] for id_ in (state.early if peer.gpus else state.queue)] if hopeless else ():
        theirs = job.late and any(placement.helps(state, (name,), job.need) for name in state.named())
        if state.need_of(job) in hopeless and not (theirs or _is_yet_to_answer(state, peer, job, failed)):
            _fail_job(state, job, message, told, now, decision)
    if not fail_late(state, now, decision, message, told):
        late_jobs.plan(state, now, decision)


def fail_late(
    state: HubState,
    now: float,
    decision: HubDecision,
    message: m.BootResult | None = None,
    told: Collection[_Told] = (),
) -> bool:
    """Fail jobs that are placed late and came before the last GPU failed that could be woken for them: some at a time.

    Returns whether there are such jobs.
    """
    failed = {gpu.name: gpu for gpu in state.gpus.values() if gpu.phase == "failed"}
    to_fail: list[tuple[HubJob, Gpu]] = []
    for need, owner, priority in state.lines if failed else ():
        fit = (gpu for gpu in placement.able(state, need) if gpu.name in failed and placement.may(state, gpu, need))
        gpu = max(fit, key=lambda gpu: gpu.since, default=None)
        if gpu is None or late_jobs.others(state, failed, state.need(need, owner), now):
            continue
        waiting = (state.jobs[id_] for id_ in state.lines[need, owner, priority])
        before = ((job, gpu) for job in waiting if job.since <= gpu.since and not job.stored)
        to_fail += islice(before, MOST_FAILED - len(to_fail))
    for job, gpu in to_fail:
        said = message or m.BootResult(success=False, status="failed", msg=gpu.cause or None, gpu=gpu.name)
        _fail_job(state, job, said, told, now, decision)
    return bool(to_fail)


MOST_FAILED = 500
"""The most jobs that fail at one time, since each one needs a message."""


def _is_yet_to_answer(state: HubState, peer: Connection, job: HubJob, failed: Collection[str]) -> bool:
    """Whether another monitor has not reported since this job began to wait; it may be starting its GPU."""
    others = {name for fd in state.monitors if fd != peer.fd for name in state.connections[fd].gpus}
    fit = [gpu for gpu in state.gpus.values() if gpu.name in others and gpu.name not in failed]
    return any(gpu.since < job.since and placement.can(state, gpu, job.need) for gpu in fit)


def _only_these_could_start(state: HubState, failed: Collection[str], need: Need) -> bool:
    """Whether only the failed GPUs could have done such a job."""
    if not placement.helps(state, failed, need):
        return False
    watched, fit = state.named(), placement.able(state, need)
    if failed and fit and not any(gpu.name in failed for gpu in fit):
        return False  # another one is known to do it
    hopeful = [gpu for gpu in fit if gpu.phase in _HOPEFUL]
    return all(gpu.name in failed or (_is_unregistered(gpu) and gpu.name not in watched) for gpu in hopeful)


def _fail_job(
    state: HubState, job: HubJob, message: m.BootResult, told: Collection[_Told], now: float, decision: HubDecision
) -> None:
    if job.stored:
        return  # it is the hub's, which tries again
    to = [fd for fd in state.listeners(job) if (job.id, fd) not in told]
    text = message.msg or "the monitor could not start the GPU"
    decision.send(to, replace(message, request_id=job.id, success=False, status=message.status or "failed", msg=text))
    if to or (job.id == message.request_id and told):
        decision.fact(f.JobRemoved(job.id, "boot_failed", now))


def _tell_asker(state: HubState, message: m.BootResult, decision: HubDecision) -> set[_Told]:
    """Answer the source of this boot: a client's own `boot`, or the job whose copy caused it if it still waits."""
    if message.request_id is None:
        return set()
    _, fds = state.asked.get(("boot", message.request_id), (0.0, ()))
    to = tuple(fd for fd in fds if fd in state.connections)
    job = state.jobs.get(message.request_id)
    if job is not None and message.success:
        to = (*to, *(fd for fd in state.listeners(job) if fd not in to))
    decision.send(to, message)
    if fds:
        decision.fact(f.Answered("boot", message.request_id))
    return {(message.request_id, fd) for fd in to}


def boot(state: HubState, peer: Connection, message: m.Boot, now: float, decision: HubDecision) -> None:
    """A client asks to start the GPU. If it is online, the hub answers by itself."""
    of_budget = (gpu for gpu in state.gpus.values() if gpu.online and not state.blocks(gpu.name))
    if peer.owner in state.unpaid:
        when = time_text(state.unpaid_until, state.limits.zone)
        decision.refuse(
            peer.fd, answers.BUDGET, f"{answers.UNPAID}; it can wake GPUs again at {when}", message.request_id
        )
        return
    awake = next((gpu for gpu in of_budget if message.gpu in (None, gpu.name)), None)
    if awake is not None:
        # Notify its monitor too, since the GPU will be used.
        if jobs.tell_monitors(state, peer, message, now, decision, jobs.monitors_of(state, awake.name)):
            text = "the GPU is online already"
            decision.send(peer.fd, m.Booted(msg=text, source="hub", request_id=message.request_id, gpu=awake.name))
        else:
            too_fast(peer, message.request_id, decision)
    elif not state.monitors:
        why = "no monitor is connected, so the GPU cannot be started; start `wakestream monitor`"
        decision.refuse(peer.fd, "no_monitor", why, message.request_id)
    elif not (to := _to_boot(state, message.gpu)):
        when = time_text(placement.free_at(state, ANY_GPU) or now, state.limits.zone)
        why = f"the budget is spent, so no GPU is started before {when}; raise it to go on now"
        decision.refuse(peer.fd, answers.BUDGET, why, message.request_id)
    else:
        _ask(state, peer, message, to, now, decision)


def _to_boot(state: HubState, gpu: str | None) -> list[int]:
    """The monitors that may start this GPU; without a name one for each machine, and those that name no GPU."""
    if gpu is not None and state.blocks(gpu):
        return []
    fit = state.monitors if gpu is None else jobs.monitors_of(state, gpu)
    known: set[str] = set()
    monitors = []
    for fd in (fd for fd in state.may_wake() if fd in fit):
        named = (state.gpus.get(name) for name in state.connections[fd].gpus)
        hosts = {other.host or other.name for other in named if other is not None}
        if not hosts or hosts - known:
            monitors.append(fd)
        known |= hosts
    return monitors


def too_fast(peer: Connection, request_id: str | None, decision: HubDecision) -> None:
    """Refuse what a connection sends too often."""
    decision.refuse(peer.fd, "too_fast", "this connection asks the monitors too often; try again in 1 s", request_id)


def _crowded(state: HubState, fd: int, *, again: bool = False) -> bool:
    """Whether this connection has reached its limit of open questions; `again` counts those that were answered once."""
    open_ = (fds for (kind, _), (_, fds) in state.asked.items() if (kind == AGAIN) is again)
    return sum(fd in fds for fds in open_) >= state.limits.open_queries


def _ask(
    state: HubState, peer: Connection, message: m.Boot | m.StatusQuery, to: list[int], now: float, decision: HubDecision
) -> None:
    """Pass a question on to these monitors."""
    id_ = message.request_id
    if id_ is not None and _crowded(state, peer.fd):
        decision.refuse(peer.fd, "queue_full", "too many questions of this connection are open; ask again later", id_)
    elif not jobs.tell_monitors(state, peer, message, now, decision, to):
        too_fast(peer, id_, decision)
    elif id_ is not None:
        decision.fact(f.Asked("boot" if isinstance(message, m.Boot) else "status", id_, peer.fd, now))


def status_query(state: HubState, peer: Connection, message: m.StatusQuery, now: float, decision: HubDecision) -> None:
    """Ask one monitor, that of the GPU if one is named; if none is connected, answer from the hub's state."""
    names = {fd: state.connections[fd].gpus for fd in state.monitors}
    to = [fd for fd, gpus in names.items() if message.gpu is None or message.gpu in gpus or not gpus]
    if not to:
        _pass_on(state, [peer.fd], _own_answer(state, message.request_id), decision)
    else:
        _ask(state, peer, message, to[:1], now, decision)


def _pass_on(state: HubState, askers: Iterable[int], message: m.StatusResponse, decision: HubDecision) -> None:
    """wakestream's own clients get the answers to their queries; deployed clients get each answer for their license.

    A deployed client begins to upload at `running`, so the hub sends that only while a worker is online.
    """
    peers = [state.connections[fd] for fd in askers if fd in state.connections]
    decision.send([peer.fd for peer in peers if peer.features], message)
    old = dict.fromkeys(peer.fd for peer in peers if not peer.features)
    for owner in dict.fromkeys(peer.owner for peer in peers):
        old |= dict.fromkeys(fd for fd in state.of_owner(owner or "") if not state.connections[fd].features)
    status = message.status.lower()
    if status in ("running", "online"):
        status = "running" if any(gpu.online for gpu in state.gpus.values()) else "starting"
    answer = {"type": message.TYPE, "status": status, "State": "", "request_id": message.request_id}
    decision.send(old, m.Unknown(type=message.TYPE, frame={**answer, "fresh": bool(message.fresh)}))


def _own_answer(state: HubState, request_id: str) -> m.StatusResponse:
    known = [_STATUS.get(gpu.phase, "unknown") for gpu in state.gpus.values() if gpu.phase != "lost"]
    order = ("running", "starting", "stopping", "stopped", "unknown")
    status = min(known, key=order.index, default="unknown")
    return m.StatusResponse(request_id=request_id, status=status, source="hub")


def status_response(
    state: HubState, peer: Connection, message: m.StatusResponse, now: float, decision: HubDecision
) -> None:
    """Send the answer to the clients that asked; after one from memory also the one after the next inspect."""
    id_ = message.request_id
    first, again = (state.asked.get((kind, id_), (0.0, ()))[1] for kind in ("status", AGAIN))
    _pass_on(state, dict.fromkeys((*first, *again)), message, decision)
    if first:
        decision.fact(f.Answered("status", id_))
    if again and message.fresh:
        decision.fact(f.Answered(AGAIN, id_))
    if not message.fresh:
        here = [fd for fd in first if fd in state.connections and not _crowded(state, fd, again=True)]
        decision.fact(*(f.Asked(AGAIN, id_, fd, now) for fd in here))


def task_active(state: HubState, peer: Connection, message: m.TaskActive, now: float, decision: HubDecision) -> None:
    """The worker reports work; notify its monitor, which keeps the GPU on."""
    if peer.gpu is None:
        return
    decision.fact(f.GpuActive(peer.gpu, now))
    jobs.tell_monitors(state, peer, message, now, decision, jobs.monitors_of(state, peer.gpu))


def task_query(state: HubState, peer: Connection, message: m.TaskQuery, now: float, decision: HubDecision) -> None:
    """Answer whether jobs need a GPU. With `drain`, a GPU that no job needs gets no more work from now on."""
    names = (message.gpu,) if message.gpu is not None else peer.gpus
    named = state.named()
    # A GPU without a monitor may be this machine under another name: its work must not be stopped.
    gpus = [gpu for gpu in state.gpus.values() if gpu.name in names or not names or gpu.name not in named]
    own = [gpu for gpu in gpus if holders.may_speak(state, "monitor", peer.owner, gpu.name)]
    ended = [id_ for gpu in own if message.idle for id_ in silently_ended(state, gpu, now)]
    # A stop of the machine stops all GPUs in it.
    others = holders.neighbours(state, own)
    gpus, own = [*gpus, *(gpu for gpu in others if gpu not in gpus)], [*own, *others]
    recent = any(now - gpu.active <= state.limits.recent and gpu.active > gpu.stopped_at for gpu in gpus)
    recent = recent or any(keep_warm.keeps(state, gpu, now) for gpu in own)
    # A worker that is not back yet may do a job that a hub with a restored database does not know.
    recent = recent or any(gpu.worker is None and now - gpu.away < placement.BACK_WITHIN for gpu in own)
    decision.fact(*(f.JobRemoved(id_, "result", now) for id_ in ended))
    active = sum(len(gpu.leases) for gpu in gpus)
    if not state.blocks(*(gpu.name for gpu in gpus)):
        active += placement.waiting_for(state, gpus) + relays.active(state)
    free = message.drain and active == 0 and not recent
    if free and _another_stops(state, peer, own, now):
        return  # without an answer, this monitor gives its GPU no job and sees the stop; otherwise it asks again
    answer = m.TaskQueryResponse(request_id=message.request_id, active_count=active, has_recent_active=recent)
    decision.send(peer.fd, answer)
    if free:
        decision.fact(f.StopAllowed(peer.fd, now))
        decision.fact(*(f.GpuPhase(gpu.name, "draining", now, "no job holds it") for gpu in own if gpu.online))


def _another_stops(state: HubState, peer: Connection, gpus: Iterable[Gpu], now: float) -> bool:
    """Whether another monitor of the machine was allowed a moment ago to stop it: one stop is enough."""
    names = {gpu.name for gpu in gpus}
    monitors = (state.connections[fd] for fd in state.monitors if fd != peer.fd)
    return any(now - monitor.stops_at < ONE_STOP and not names.isdisjoint(monitor.gpus) for monitor in monitors)


def abandoned(state: HubState, now: float, decision: HubDecision) -> None:
    """End the time of GPUs of which nothing is heard: without worker and monitor it is unknown whether they are on."""
    unheard = _unheard(state)
    for gpu in state.gpus.values():
        alone = gpu.account.running_since is not None and gpu.name in unheard
        alone = alone and all(other.name in unheard or other.phase == "off" for other in state.machine_with(gpu))
        if alone is (gpu.alone_since is None):
            decision.fact(f.GpuAlone(gpu.name, now if alone else None))
        elif gpu.alone_since is not None and now - gpu.alone_since >= state.limits.abandoned:
            decision.fact(f.GpuAbandoned(gpu.name, now, gpu.alone_since))


def _unheard(state: HubState) -> Collection[str]:
    """The GPUs without worker and monitor."""
    return {gpu.name for gpu in state.gpus.values() if gpu.worker is None} - holders.watched(state)


def unwatched(state: HubState, now: float, decision: HubDecision) -> None:
    """Tell people and the worker that the monitor of a GPU that is on has gone, so that nothing switches it off."""
    for gpu in state.gpus.values():
        if gpu.orphan != UNWATCHED and (left := gone_in(state, gpu, now)) is not None and left <= 0:
            decision.fact(f.OrphanFound(gpu.name, UNWATCHED, now))
            tell_worker(state, gpu, decision)


def gone_in(state: HubState, gpu: Gpu, now: float) -> float | None:
    """In how many seconds the monitor of a GPU that is on counts as gone; None if it is there, or the GPU is off."""
    on = gpu.worker is not None or gpu.account.running_since is not None
    if not on or gpu.unwatched is None or any(near.unwatched is None for near in holders.neighbours(state, (gpu,))):
        return None
    return gpu.unwatched + state.limits.unwatched - now


def alone(state: HubState, gpu: Gpu, now: float) -> str:
    """What happens next to a GPU that is on and whose monitor is not connected; empty if that is sure or not so."""
    left, worker = gone_in(state, gpu, now), state.worker_of(gpu)
    if left is None or gpu.orphan == UNWATCHED:
        return ""
    return ALONE.format(left=max(0, math.ceil(left)), then=THEN[worker is not None and POWEROFF in worker.features])


def twins(state: HubState) -> Mapping[str, str]:
    """For each GPU whose machine a monitor of another license starts and stops too: a sentence about it."""
    named, machines = state.named(), defaultdict[str, dict[str, str]](dict)
    watched = [gpu for gpu in state.gpus.values() if gpu.machine and gpu.name in named]
    for gpu in watched:
        machines[gpu.machine].setdefault(gpu.host, gpu.name)
    return {
        gpu.name: TWIN.format(machine=gpu.machine, gpu=other)
        for gpu in watched
        for other in [name for host, name in machines[gpu.machine].items() if host != gpu.host][:1]
    }


def monitor_back(state: HubState, monitor: Connection, now: float, decision: HubDecision) -> None:
    """Note that the monitor of a GPU is back, or that one has come that may be its monitor."""
    gone = [gpu.name for gpu in holders.watched_by(state, monitor) if gpu.orphan == UNWATCHED]
    decision.fact(*(f.OrphanFound(name, "", now) for name in gone))


def tell_worker(state: HubState, gpu: Gpu, decision: HubDecision) -> None:
    """Tell the worker of a GPU whether a monitor can switch its machine off."""
    if gpu.worker is not None and m.MonitorState.FEATURE in state.connections[gpu.worker].features:
        decision.send(gpu.worker, m.MonitorState(gpu=gpu.name, connected=gpu.orphan != UNWATCHED))


def unregistered(state: HubState, now: float, decision: HubDecision) -> None:
    """Fail queued jobs if the GPU is on but its worker does not register in time.

    The monitor reports it online, so nothing else would happen; and while jobs wait for it, it is not switched off.
    """
    late = [
        gpu.name
        for gpu in state.gpus.values()
        if _is_unregistered(gpu) and now - gpu.since >= state.limits.unregistered
    ]
    watched = sorted(state.named().intersection(late))  # others may be off by now
    hopeless = [need for need in state.wanted if watched and _only_these_could_start(state, late, need)]
    if not hopeless:
        return
    why = (
        f"the GPU {watched[0]} is on and its worker says that it is ready, but it did not come to the hub within "
        f"{state.limits.unregistered:g} s; look at the worker's log: is its key refused, its --hub another?"
    )
    message = m.BootResult(success=False, status="failed", msg=why, gpu=watched[0])
    hopeless_late = {need for need in hopeless if not late_jobs.others(state, late, need, now)}
    for job in state.queued():
        if state.need_of(job) not in (hopeless_late if job.late else hopeless):
            continue
        if now - job.since >= state.limits.unregistered:
            _fail_job(state, job, message, (), now, decision)


def overdue(state: HubState, now: float, decision: HubDecision) -> None:
    """Answer questions that a monitor left open, and cancel a stop that never began."""
    for (kind, request_id), (since, fds) in [*state.asked.items()]:
        here = [fd for fd in fds if fd in state.connections]
        limits = {"status": state.limits.status_reply, AGAIN: state.limits.inspect_reply}
        late = now - since > limits.get(kind, state.limits.queued_ttl)
        if late and kind == "status":
            _pass_on(state, here, _own_answer(state, request_id), decision)
        if late or not here:
            decision.fact(f.Answered(kind, request_id))
    for gpu in state.gpus.values():
        if gpu.worker is not None and _is_stuck(state, gpu, now):
            _online(state, gpu, state.url_of(gpu), now, decision)
            return  # one at a time: what waits is granted once


def _is_stuck(state: HubState, gpu: Gpu, now: float) -> bool:
    """Whether an announced stop never began, or the address of the machine never came."""
    undrained = gpu.phase == "draining" and gpu.ready and now - gpu.since > state.limits.draining
    late = gpu.unaddressed is not None and now - gpu.unaddressed > state.limits.unaddressed
    return undrained or (late and not _may_stop(state, state.machine_with(gpu), now))
