"""The jobs that are placed late: each waits in the hub until its turn at a GPU comes. Pure.

Which job goes where, and which machine is woken or not needed any more, decides `place`; here is what it must know, and
what follows. All other jobs are granted as soon as a GPU is online.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from msgspec.structs import replace

from wakestream.streams.hub import answers, keep_warm, placement
from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.ledger import boot_times
from wakestream.streams.hub.local_time import day_of
from wakestream.streams.hub.needs import STORING, Need
from wakestream.streams.hub.state import NOT_COMING, RESTARTED, UNANSWERED, Connection, Gpu, HubJob, HubState, Shape
from wakestream.streams.placement import place as p
from wakestream.streams.placement.waiting import Line
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import ON_THE_WAY, UPLOADED

FEATURE: Final = m.JobQueued.FEATURE

RELEASE: Final = "release"
"""The feature of monitors that read `gpu.power.release`."""

AGAIN: Final = 60.0
"""Seconds after which the message to a monitor that its GPU is not needed is repeated."""

LOST: Final = 30.0
"""Seconds in which the worker or the monitor of a GPU comes back, usually, whose connection broke."""

BOOT: Final = 120.0
"""Seconds that a boot takes, until one was seen."""

WORK: Final = 60.0
"""Seconds that a job takes, until one was seen."""

FIRST_BACKOFF: Final = 60.0
LONGEST_BACKOFF: Final = 1800.0
"""Seconds for which a machine that did not start is woken only if there is no other; they double with each failure."""

NEAR: Final = 20.0
"""Seconds that a GPU which had the job, or one with the same file, may be free later than another one."""

EVERY: Final = 10
"""Seconds after which the client of a waiting job gets its place again."""

MENTIONED: Final = 1200.0
"""Seconds in which all clients of waiting jobs get the news that no GPU is on any more."""

A_TICK: Final = 100
"""The most jobs whose clients get their place in one second."""

GONE_AFTER: Final = 90.0
"""Seconds after which the jobs of a GPU that is off go back to their places, if their clients do not ask before."""

OFF_FOR: Final = 5.0
"""The same for jobs that the hub does by itself, while the connection to its worker still seems to stand."""

LOST_AFTER: Final = 600.0
"""The same for a GPU whose worker is gone, and for jobs whose client is gone too."""

_SERVES: Final = ("online", "lost")


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Place what waits, and tell some of it where it is."""
    for gpu in state.gpus.values():
        gone = gpu.phase == "off" or (gpu.phase == "unknown" and gpu.account.running_since is None)
        if gpu.leases and gone and (gpu.worker is None or now - gpu.since >= OFF_FOR):
            held = (state.jobs[id_] for id_ in gpu.leases)
            all_ = now - gpu.since >= GONE_AFTER
            give_back(state, [job.id for job in held if all_ or gpu.fetches(job)], now, decision)
        elif gpu.leases and gpu.worker is None:  # whatever its monitor says meanwhile
            back = asked_again(state, gpu) if gpu.cause == RESTARTED and not may_be_back(gpu, now) else []
            if now - gpu.away >= LOST_AFTER:
                # A client that is here sees by itself whether its job goes on there; what goes on must not begin again.
                held = (state.jobs[id_] for id_ in gpu.leases)
                back += [job.id for job in held if job.fd is None or gpu.fetches(job)]
            give_back(state, back, now, decision)
    if not (state.lines or any(_may_stop(gpu, now) for gpu in state.gpus.values())):
        if state.planned is not None and (state.planned.machines or state.planned.needless):
            decision.fact(f.Planned(now, {}, frozenset(), {}))
        return
    plan(state, now, decision)
    tell(state, now, decision, int(now) % EVERY)


def tell(state: HubState, now: float, decision: HubDecision, turn: int | None = None) -> None:
    """Send clients the places of waiting jobs: of those whose turn it is in these `EVERY` seconds, or of the first."""
    told, size = 0, A_TICK * EVERY
    for (need, _, _), line in state.lines.items():
        if not need.depot and not any(
            _was_on(gpu, now) and placement.can(state, gpu, need) for gpu in state.gpus.values()
        ):
            continue  # what was said when they came is still true
        outlook = outlook_of(state, line, state.jobs[line.next], now)
        # In turn the first ones, and others.
        at = int(now) // EVERY // 2 % -(-len(line) // size) * size if int(now) // EVERY % 2 else 0
        for job in map(state.jobs.__getitem__, islice(line, at, at + size)):
            if told >= A_TICK:
                return
            if turn in (None, job.seq % EVERY) and job.fd is not None:
                decision.send(job.fd, answer(state, job, now, outlook))
                told += 1


def _was_on(gpu: Gpu, now: float) -> bool:
    return gpu.online or now - gpu.changed < MENTIONED


def may_be_back(gpu: Gpu, now: float) -> bool:
    """Whether the hub was restarted so short a time ago that the worker of a GPU may not be back yet."""
    return gpu.phase == "lost" and gpu.cause == RESTARTED and now - gpu.since < LOST


def asked_again(state: HubState, gpu: Gpu) -> list[str]:
    """The jobs of a lost GPU whose clients have asked for one since: they do not follow their jobs there."""
    lost = (state.jobs[id_] for id_ in gpu.leases) if gpu.phase == "lost" else ()
    asked = (job for job in lost if job.late and job.since >= gpu.since and job.fd is not None)
    return [job.id for job in asked if not gpu.fetches(job)]


def give_back(state: HubState, ids: Iterable[str], now: float, decision: HubDecision) -> None:
    """These jobs, which hold a GPU, wait again, those that are placed late in their places."""
    for job in [state.jobs[id_] for id_ in ids]:
        decision.fact(f.JobQueued(job.id, job.owner, job.fd, job.task_type, job.payload, now, job.late))


def plan(state: HubState, now: float, decision: HubDecision, only: Iterable[Gpu] | None = None) -> None:
    """Place the waiting jobs: grant, wake, and call back. With `only`, just grant what these GPUs have room for."""
    gpus = [*(state.gpus.values() if only is None else only)]
    if only is not None:  # what is not on may start a job sooner than a GPU that is at work
        gpus += [gpu for gpu in state.gpus.values() if not gpu.online]
    machines = [_machine(state, gpu, now) for gpu in gpus]
    fits = {
        need: frozenset(gpu.name for gpu in gpus if placement.may(state, gpu, need))
        for need in dict.fromkeys(state.need(need, owner) for need, owner, _ in state.lines)
    }
    keys = [key for key in state.lines if only is None or key[0].depot != STORING]
    today = day_of(now, state.limits.zone)
    holding = Counter(state.jobs[id_].owner for gpu in state.gpus.values() for id_ in gpu.leases)
    shapes = [_shape(state, key, fits[state.need(key[0], key[1])], today, holding, now) for key in keys]
    placing = p.place(machines, shapes, state.limits.place, now)
    _grant(state, placing, now, decision)
    if only is None:
        _wake(state, placing, now, decision)
        _call_back(state, placing, now, decision)
        decision.fact(_summary(state, placing, now))


def _machine(state: HubState, gpu: Gpu, now: float) -> p.Machine:
    seen = gpu.boots or [seconds for _, seconds in state.boots]
    boots = boot_times(seen) or {"p50": BOOT, "p90": 2 * BOOT}
    asked = gpu.phase in NOT_COMING and now - gpu.woken < UNANSWERED
    coming = asked or gpu.phase in ("starting", "booted", "lost")
    retrying = gpu.phase == "no_capacity" and gpu.retry_at is not None
    lost = gpu.phase == "lost"
    # The longest of few boots is often exceeded.
    boot, longest = (LOST, 2 * LOST) if lost else (boots["p50"], boots["p90"] * (1 + 2 / max(1, len(seen))))
    spent = now - (gpu.woken if gpu.woken > 0 and not lost else gpu.since) if coming else 0.0
    watched = bool(state.watching(gpu.name))
    held, first = len(gpu.leases), next(iter(gpu.leases), None)
    work = _work(state, state.jobs[first].need) if first is not None else WORK
    off = gpu.phase in NOT_COMING or (gpu.phase == "no_capacity" and not retrying)
    return p.Machine(
        name=gpu.name,
        host=gpu.host,
        on=gpu.online and not gpu.closed,
        coming=coming or retrying,
        wakeable=off and watched and not asked,
        backed_off=gpu.phase == "no_capacity" or _backs_off(gpu, now),
        price=float(state.price_of(gpu.name) or 0),
        slots=gpu.slots,
        held=_room_taken(state, gpu),
        backlog=max(0.0, held * work - min(now - gpu.changed, 0.9 * work)) if held else 0.0,
        boot=max(0.0, boot - spent),
        late=retrying or (coming and spent > longest),
        idle=now - gpu.changed if _may_stop(gpu, now) and not keep_warm.keeps(state, gpu, now) else 0.0,
    )


def _backs_off(gpu: Gpu, now: float) -> bool:
    return gpu.phase == "failed" and now - gpu.since < backoff(gpu)


def backoff(gpu: Gpu) -> float:
    """Seconds after a failed start in which other machines are woken rather than this one."""
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** max(0, gpu.failures - 1))


def _may_stop(gpu: Gpu, now: float) -> bool:
    """Whether the hub may have this machine stopped before its idle time: it runs because a job needed it."""
    return gpu.started(now) is not None and not gpu.leases


def _work(state: HubState, need: Need) -> float:
    known = state.usage.work
    return known.get(need.kind or "") or (sum(known.values()) / len(known) if known else WORK)


def _shape(
    state: HubState, key: Shape, fits: frozenset[str], today: int, holding: Mapping[str, int], now: float
) -> p.Shape:
    need, owner, priority = key
    line, work = state.lines[key], _work(state, need)
    first, last = line.arrivals
    weight = state.tied.weights.get(owner, 1)
    used = (sum(state.usage.on_day(owner, today).values()) + work * holding[owner]) / weight
    head = state.jobs[line.next]
    if head.stored:  # each try of a machine that does not start costs money, perhaps unseen
        fits = frozenset(name for name in fits if not _backs_off(state.gpus[name], now))
    unsure = frozenset(name for name in fits if not placement.known(state.gpus[name], need))
    near = {head.last: NEAR} if head.last in fits else {}
    if head.depot is not None:
        files = {file.blake3 for file in head.depot.files}
        have = (name for name, gpu in state.gpus.items() if name in fits and not files.isdisjoint(gpu.seen))
        near |= dict.fromkeys(have, NEAR)
    said = fits, work, first, last, priority, used, work / weight, near
    if need.depot == STORING or (need.depot and not state.depot_up):  # the others come later
        ready = placement.ready_in(state, line, now)
        return p.Shape(key, 1, *said, ready, grantable=False, unsure=unsure)
    ready = math.inf if placement.will_offer(state, head, now) else 0.0
    return p.Shape(key, len(line), *said, ready, unsure=unsure)


def _grant(state: HubState, placing: p.Placing, now: float, decision: HubDecision) -> None:
    given: dict[str, list[HubJob]] = {}
    for key, name in placing.grants:
        job, gpu = state.jobs[state.lines[key].next], state.gpus[name]  # type: ignore[index] # the keys are shapes
        decision.fact(f.JobGranted(job.id, name, now))
        answers.leave_halted(state, job, gpu, decision)
        if job.fd is not None and not gpu.fetches(job):
            decision.send(job.fd, answers.ack(job.submit, gpu, len(gpu.leases), state.url_of(gpu)))
        given.setdefault(name, []).append(job)
    for name, granted in given.items():
        answers.dispatch(state, state.gpus[name], granted, now, decision, alone=len(granted) == 1)


def _wake(state: HubState, placing: p.Placing, now: float, decision: HubDecision) -> None:
    for name, key, _ in placing.wakes:
        if _cheaper_back_in(state, name, key, now):
            continue
        decision.fact(f.GpuWoken(name, now))
        for fd in state.watching(name):
            _start(state, state.connections[fd], name, state.lines[key], decision)  # type: ignore[index]


def _cheaper_back_in(state: HubState, name: str, key: object, now: float) -> float:
    """Seconds in which the monitor of a cheaper machine for such jobs may still come back; 0 if none is awaited."""
    price, need = state.price_of(name) or 0, state.need(key[0], key[1])  # type: ignore[index] # the keys are shapes
    away = (
        (gpu, LOST - (now - gpu.unwatched))
        for gpu in state.gpus.values()
        if gpu.unwatched is not None and (state.price_of(gpu.name) or 0) < price
    )
    fit = (
        left
        for gpu, left in away
        if left > 0 and gpu.phase in NOT_COMING and not _backs_off(gpu, now) and placement.may(state, gpu, need)
    )
    return max(fit, default=0.0)


def _start(state: HubState, monitor: Connection, gpu: str, line: Line, decision: HubDecision) -> None:
    if monitor.gpus == (gpu,):
        placement.tell(state, state.jobs[line.next].submit, [monitor.fd], decision)
    else:  # a copy of a submit does not name the GPU
        text = f"{len(line)} jobs wait for a GPU"
        decision.send(monitor.fd, m.Boot(request_id=line.next, source="hub", msg=text, gpu=gpu))


def greet(state: HubState, monitor: Connection, now: float, decision: HubDecision) -> None:
    """Have a new monitor start the machines that were woken a moment ago: the former one may not have heard it."""
    for name in monitor.gpus:
        gpu = state.gpus.get(name)
        if gpu is not None and gpu.phase in NOT_COMING and now - gpu.woken < UNANSWERED:
            fit = (line for (need, *_), line in state.lines.items() if placement.may(state, gpu, need))
            if (line := next(fit, None)) is not None:
                _start(state, monitor, name, line, decision)


def _call_back(state: HubState, placing: p.Placing, now: float, decision: HubDecision) -> None:
    early = state.early_wanted()
    causes = ((placing.unwanted, CALLED_BACK), (placing.surplus, SURPLUS))
    for name, why in ((name, why) for names, why in causes for name in names):
        gpu = state.gpus[name]
        needed = gpu.started(now) is None or any(placement.may(state, gpu, need) for need in early)
        if needed or now - gpu.let_go < AGAIN or keep_warm.warm_until(state, gpu, now) is not None:
            continue
        if to := state.with_feature(RELEASE, state.watching(name)):
            decision.fact(f.GpuUnneeded(name, now))
            decision.send(to, m.Release(gpu=name, msg=why))


CALLED_BACK: Final = "no job needs it any more"
SURPLUS: Final = "another GPU is free too, and no job waits"


def _summary(state: HubState, placing: p.Placing, now: float) -> f.Planned:
    """What is planned, for people."""
    machines: dict[str, tuple[str, float | None, str]] = {}
    for name, (key, after) in placing.planned.items():
        stores = key[0].depot == STORING  # type: ignore[index] # the keys are shapes
        machines[name] = "wake", round(after, 1), UPLOADED if stores else "unless another GPU gets free before"
    for name, key, _ in placing.wakes:
        if left := _cheaper_back_in(state, name, key, now):
            machines[name] = "wake", round(left, 1), "unless another GPU gets free before"
    for gpu in state.gpus.values():
        if gpu.suspended:
            machines[gpu.name] = "held", None, gpu.closed_cause
        elif gpu.phase == "failed" and (left := backoff(gpu) - (now - gpu.since)) > 0:
            machines[gpu.name] = "backed_off", round(left, 1), f"it did not start: {gpu.cause}"
        elif gpu.started(now) is not None and gpu.phase not in (*_SERVES, "no_capacity"):
            machines[gpu.name] = "wake", None, "it is started for jobs that wait"
    machines |= {name: ("call_back", None, CALLED_BACK) for name in placing.unwanted if state.gpus[name].started(now)}
    machines |= {name: ("stop", None, SURPLUS) for name in placing.surplus if state.gpus[name].started(now)}
    needless = frozenset((*placing.unwanted, *placing.surplus))
    starts = {key: (_known(placing.begins[key]), _known(last)) for key, last in placing.expected.items()}
    return f.Planned(now, machines, needless, starts, frozenset(placing.near))


def _known(seconds: float) -> float | None:
    return None if math.isinf(seconds) else round(seconds, 1)


def place_new(state: HubState, job: HubJob, now: float, decision: HubDecision) -> None:
    """A job has come: grant it a GPU that has room, or wake one if none is on or coming."""
    need = state.need_of(job)
    fit = [gpu for gpu in state.gpus.values() if placement.may(state, gpu, need)]
    room = [gpu for gpu in fit if _has_room(state, gpu)]
    if room:
        plan(state, now, decision, room)
    elif state.limits.place.wake_when == "ready" and placement.will_offer(state, job, now):
        pass  # no machine is woken for it yet, and a plan looks at all uploads
    elif not any(gpu.online or ((machine := _machine(state, gpu, now)).coming and not machine.late) for gpu in fit):
        plan(state, now, decision)


def others(state: HubState, failed: Collection[str], need: Need, now: float) -> bool:
    """Whether another GPU than these is on or coming for such a job, or may be woken for it."""
    fit = (gpu for gpu in state.gpus.values() if gpu.name not in failed and placement.may(state, gpu, need))
    machines = (_machine(state, gpu, now) for gpu in fit)
    return any(machine.on or machine.coming or (machine.wakeable and not machine.backed_off) for machine in machines)


def fill(state: HubState, decision: HubDecision, now: float) -> None:
    """Give the GPUs that a decision has freed the jobs whose turn it is."""
    if state.lines and any(type(fact) in _FREES for fact in decision.facts):
        room = [gpu for gpu in state.gpus.values() if _has_room(state, gpu)]
        if room:
            plan(state, now, decision, room)


_FREES: Final = (f.JobRemoved, f.JobQueued)


def _has_room(state: HubState, gpu: Gpu) -> bool:
    return gpu.online and _room_taken(state, gpu) < gpu.slots + state.limits.place.ahead


def _room_taken(state: HubState, gpu: Gpu) -> int:
    """How many jobs it holds. Those that are granted at once never take the last place: with a steady flow of them
    those that are placed late would never have their turn.
    """
    most = gpu.slots + state.limits.place.ahead - 1
    return max(min(len(gpu.leases), most), sum(state.jobs[id_].late for id_ in gpu.leases))


class LineOutlook(NamedTuple):
    """What the jobs of one line can expect: the GPUs that are at work, those that come, and what is before the line.

    `above` are the jobs that come first, `beside` has how many wait in each line that takes turns with this one.
    """

    on: list[str]
    coming: list[str]
    expect: answers.Outlook | None
    above: int
    beside: list[int]
    starts: tuple[float | None, float | None]


def outlook_of(state: HubState, line: Line | None, job: HubJob, now: float) -> LineOutlook:
    """What the jobs of this line can expect, of which `job` is one."""
    need = state.need_of(job)
    fit = {gpu.name: gpu for gpu in state.gpus.values() if placement.may(state, gpu, need)}
    on = sorted(name for name, gpu in fit.items() if gpu.online)
    expect = None
    if not on:
        expect = answers.outlook(state, need, now)
        expect = expect._replace(why=placement.no_way(state, need) or expect.why)
    planned = state.planned
    coming = [
        f"{name} {why.removeprefix('it ')}"
        if after is None
        else f"{name} is started in {after:.0f} s{',' * (why == UPLOADED)} {why}"
        for name, (do, after, why) in sorted(planned.machines.items() if planned is not None else ())
        if do == "wake" and name in fit
    ]
    own = _level(job.priority, job.arrived, now)
    levels = [
        (_level(key[2], other.arrivals[0], now), len(other)) for key, other in state.lines.items() if other is not line
    ]
    above, beside = sum(size for level, size in levels if level > own), [size for level, size in levels if level == own]
    starts = planned.starts.get(job.shape, (None, None)) if planned is not None else (None, None)
    return LineOutlook(on, coming, expect, above, beside, starts)


def answer(state: HubState, job: HubJob, now: float, known: LineOutlook | None = None) -> m.Offline | m.JobQueued:
    """What a waiting job can expect now."""
    said, peer = _answer(state, job, now, known), state.connections.get(job.fd or 0)
    may = state.depot_up and not job.direct and peer is not None and d.FEATURE in peer.features
    return replace(said, depot=True) if may else said


def _answer(state: HubState, job: HubJob, now: float, known: LineOutlook | None) -> m.Offline | m.JobQueued:
    line = state.lines.get(job.shape)
    if line is None or job.id not in line:
        return answers.offline(job.submit, state.position(job), now, answers.outlook(state, state.need_of(job), now))
    known = known or outlook_of(state, line, job, now)
    inside = line.before(job.id)
    position = inside + known.above + sum(min(size, inside + 1) for size in known.beside) + 1
    first, last = known.starts
    eta = None if first is None or last is None else round(first + (last - first) * inside / max(1, len(line) - 1), 1)
    stores = state.need_of(job).depot == STORING
    if (expect := known.expect) is not None:  # it starts when a GPU is on and those before it have one
        later = {name: max(seconds, eta or 0.0) for name, seconds in (expect.eta or {}).items()}
        later = {} if stores and eta is None else later  # the boot begins some time after now
        why = "; ".join(known.coming[:3]) or None if stores else None
        if expect.phase == "booting" and _starts_later(state, job, now):
            expect = expect._replace(phase=STORING)
        return answers.offline(job.submit, position, now, expect._replace(eta=later or None, why=expect.why or why))
    if stores:
        return m.JobQueued(request_id=job.id, position=position, eta_s=eta, reason=ON_THE_WAY)
    reason = "; ".join((f"at work: {', '.join(known.on[:5])}", *known.coming[:3]))
    return m.JobQueued(request_id=job.id, position=position, eta_s=eta, reason=reason)


def _starts_later(state: HubState, job: HubJob, now: float) -> bool:
    """Whether no machine is started for this job yet, since its files are not in the depot."""
    need = state.need_of(job)
    if need.depot != STORING and not placement.will_offer(state, job, now):
        return False
    fit = (gpu for gpu in state.gpus.values() if placement.may(state, gpu, need))
    return not any(gpu.started(now) is not None or gpu.phase in ("starting", "booted") for gpu in fit)


def _level(priority: int, arrived: float, now: float) -> float:
    return priority + max(0.0, now - arrived) // p.LEVEL
