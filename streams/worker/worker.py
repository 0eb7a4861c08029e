"""The worker's queue of tasks as a decider.

`slots` tasks run at a time (usually one) and the others wait: those of one license in the order of the requests, and
the licenses take turns. A task is named after its spec, so that a second request for the same finds it. Jobs hold
a task, and it stops when the last of them drops it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import reduce

from msgspec.structs import replace

from wakestream.operators.model.errors import WorkerRefused
from wakestream.streams.decider import Decider, Decision
from wakestream.streams.worker import shares
from wakestream.streams.worker import state as w

WorkerDecision = Decision[w.Fact, w.Command]


def _ask(state: w.QueueState, ask: w.Ask, now: float, decision: WorkerDecision) -> None:
    """Raises `WorkerRefused` (`queue_full`) when there are too many tasks or holders."""
    name = w.task_id(ask.spec)
    task = state.tasks.get(name)
    if task is not None and task.unfinished:
        decision.fact(*_hold(task, ask))
    elif task is not None and task.status == "done" and ask.kept:
        if state.has(ask.license, *task.files):
            decision.fact(*_hold(task, ask), w.Used(name, now), *_results_of(state, task, {ask.license}))
    else:
        shares.admit(state, ask.license, now)
        attempt = 1 if task is None else task.attempt + 1
        created = _later(now, (known.created_at for known in state.tasks.values()))
        decision.fact(w.Changed(_held(w.Task.of(ask.spec, created, attempt), ask)))


def _held(task: w.Task, ask: w.Ask) -> w.Task:
    owners = task.owners | {(ask.holder, ask.license)} if ask.license else task.owners
    return replace(task, holders=task.holders | {ask.holder}, owners=owners)


def _finished(state: w.QueueState, now: float) -> float:
    return _later(now, (task.finished_at or 0.0 for task in state.tasks.values()))


def _later(now: float, before: Iterable[float]) -> float:
    # Later than all before, also after a small correction of the clock: the order after a restart depends on it.
    return max(now, *(time + 1e-6 for time in before), 0.0)


def _hold(task: w.Task, ask: w.Ask) -> list[w.Fact]:
    held, mine = _held(task, ask), task.jobs_of(ask.license)
    if held == task or (ask.holder == w.ANONYMOUS and not task.unfinished):
        return []
    if len(mine) >= shares.MAX_HOLDERS and task.unfinished:
        raise WorkerRefused(f"{shares.MAX_HOLDERS} jobs wait for this very task: try again later", code="queue_full")
    if len(mine) >= shares.MAX_HOLDERS:  # the earlier jobs of the license have had the result
        held = _held(reduce(lambda left, job: _without(left, job, ask.license), mine, task), ask)
    return [w.Changed(held)]


def _without(task: w.Task, job: str, license_: str) -> w.Task:
    """Without this holder; another license's of the same id stays."""
    owners = {pair for pair in task.owners if pair[0] != job or license_ not in (w.ANONYMOUS, pair[1])}
    others = any(name == job for name, _ in owners)
    return replace(task, holders=task.holders if others else task.holders - {job}, owners=frozenset(owners))


def _show(state: w.QueueState, show: w.Show, now: float, decision: WorkerDecision) -> None:
    if not state.has(show.license, show.file):
        decision.fact(w.Shown(w.file_name(show.file), show.license))


def _drop(state: w.QueueState, drop: w.Drop, now: float, decision: WorkerDecision) -> None:
    """Raises `WorkerRefused` (`not_found`) when there is no such task."""
    task = state.tasks.get(drop.task_id)
    if task is None:
        raise WorkerRefused(f"there is no task {drop.task_id[:64]!r} here", code="not_found")
    mine = task.jobs_of(drop.license) if drop.license else task.holders
    if not task.unfinished or drop.holder not in mine:
        return
    left = _without(task, drop.holder, drop.license)
    if left.holders:
        decision.fact(w.Changed(left))
        return
    decision.fact(w.Changed(replace(left, status="cancelled", finished_at=_finished(state, now), error=w.CANCELLED)))
    if task.status == "running":
        decision.command(w.Kill(task.id))


def _ready(state: w.QueueState, ready: w.Ready, now: float, decision: WorkerDecision) -> None:
    decision.fact(w.EngineReady())
    if "not_ready" in state.halts:
        decision.fact(w.Halted("not_ready", None))


def _unready(state: w.QueueState, unready: w.Unready, now: float, decision: WorkerDecision) -> None:
    halt = w.Halt("not_ready", unready.reason)
    if state.halts.get("not_ready") != halt:
        decision.fact(w.Halted("not_ready", halt))


def _room(state: w.QueueState, room: w.Room, now: float, decision: WorkerDecision) -> None:
    if (paused := state.halts.get("paused")) is not None and paused.room <= room.free:
        decision.fact(w.Halted("paused", None))
    decision.fact(*(w.Short(name, 0) for name, need in state.short.items() if need <= room.free))


def _ended(state: w.QueueState, ended: w.Ended, now: float, decision: WorkerDecision) -> None:
    if state.busy.get(ended.task_id) != ended.attempt:
        return
    decision.fact(w.EngineFree(ended.task_id))
    task = state.tasks.get(ended.task_id)
    # A task that was cancelled, and perhaps requested again, has already moved on: only the engine becomes free.
    if task is None or task.status != "running":
        return
    if ended.again is not None:
        decision.fact(w.Short(task.id, ended.again.room) if ended.alone else w.Halted(ended.again.word, ended.again))
        decision.fact(w.Changed(replace(task, status="queued", started_at=None, progress=w.NO_PROGRESS)))
        decision.command(w.Watch())
    else:
        status: w.Status = "done" if ended.digest else "cancelled" if ended.lost else "failed"
        done = replace(
            task, status=status, finished_at=_finished(state, now), size=ended.size, digest=ended.digest,
            error=ended.error, made=ended.made,
        )  # fmt: skip
        decision.fact(w.Changed(done), *_results_of(state, done, task.licenses()))


def _results_of(state: w.QueueState, task: w.Task, licenses: Collection[str]) -> list[w.Shown]:
    """The results of a task are files of those who may fetch them: a next task may have them as inputs."""
    return [
        w.Shown(w.file_name(ref), license_)
        for license_ in sorted(licenses)
        if state.has(license_, *task.files)  # through the hub, a job may name files that others sent
        for ref in task.results
        if not state.has(license_, ref)
    ]


def _follow_up(state: w.QueueState, decision: WorkerDecision, now: float) -> None:
    """After each event, start the next tasks if the engine has room for them, then forget the oldest results."""
    while state.ready and not state.halts and len(state.busy) < state.slots:
        # The engine may still have an earlier attempt of a task, which is being stopped.
        able = (name for name in shares.turns(state) if name not in state.short and name not in state.busy)
        if (name := next(able, None)) is None:
            break
        task = replace(state.tasks[name], status="running", started_at=now)
        decision.fact(w.Changed(task))
        decision.command(w.Run(task))
    gone = shares.surplus(state, now)
    decision.fact(*(w.Forgotten(task.id) for task in gone))
    decision.command(*(w.Erase(task.id) for task in gone))


DECIDER: Decider[w.QueueState, w.Event, w.Fact, w.Command] = Decider(
    w.QueueState,
    {
        w.Ask: _ask,
        w.Drop: _drop,
        w.Hide: lambda state, hide, now, decision: decision.fact(w.Hidden(hide.files, hide.license)),
        w.Show: _show,
        w.Ready: _ready,
        w.Unready: _unready,
        w.Room: _room,
        w.Ended: _ended,
        w.ClockMoved: lambda state, moved, now, decision: decision.fact(w.ClockSet(moved.by, now)),
    },
    w.CHANGES,
    w.Durable,
    finish=_follow_up,
    copy=w.QueueState.copy,
    restart=w.restart,
)
"""The worker's queue. `now` is UNIX seconds."""
