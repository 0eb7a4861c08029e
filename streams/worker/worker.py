"""The worker's queue of tasks as a decider: pure, so that the queue that is tested is the queue that runs.

`decide(state, event)` says what becomes true (facts) and what is then to be done (commands); `evolve(state, fact)`
takes a fact in. One task runs at a time, the others wait: those of one license in the order in which they were asked
for, the licenses by turns. A task is named after its pair of files, so asking for the same pair again finds it; jobs
hold it, and it stops with the last of them. Times are seconds since the Unix epoch, and come in with the events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from wakestream.operators.model.errors import WorkerRefused
from wakestream.streams.worker import shares
from wakestream.streams.worker.shares import PROMISED, position, turns
from wakestream.streams.worker.state import (
    ANONYMOUS,
    CANCELLED,
    Advanced,
    Ask,
    Changed,
    Command,
    Drop,
    Ended,
    EngineFree,
    EngineReady,
    Erase,
    Event,
    Fact,
    Forgotten,
    Kept,
    Kill,
    Ready,
    Run,
    Show,
    Shown,
    State,
    Status,
    Task,
    Used,
    evolve,
    file_name,
    find,
    restore,
    snapshot,
    task_id,
)

__all__ = [
    "ANONYMOUS", "CANCELLED", "PROMISED", "Advanced", "Ask", "Changed", "Command", "Drop", "Ended", "EngineFree",
    "EngineReady", "Erase", "Event", "Fact", "Forgotten", "Kept", "Kill", "Ready", "Run", "Show", "Shown", "State",
    "Status", "Task", "Used", "decide", "evolve", "file_name", "find", "position", "restore", "snapshot", "task_id",
    "turns",
]  # fmt: skip


def decide(state: State, event: Event) -> tuple[tuple[Fact, ...], tuple[Command, ...]]:
    """What the event changes, and what is to be done once that is kept.

    `WorkerRefused` with code `queue_full` or `not_found` when the answer is no.
    """
    facts, commands = _decide(state, event)
    for follow_up in (_start_next, _make_room):
        more, orders = follow_up(reduce(evolve, facts, state), event.now)
        facts, commands = facts + more, commands + orders
    return tuple(facts), tuple(commands)


_Step = tuple[list[Fact], list[Command]]


def _decide(state: State, event: Event) -> _Step:
    match event:
        case Ask():
            return _ask(state, event), []
        case Drop():
            return _drop(state, event)
        case Show():
            return _show(state, event), []
        case Ready():
            return [EngineReady()], []
        case Ended():
            return _ended(state, event), []


def _ask(state: State, ask: Ask) -> list[Fact]:
    name = task_id(ask.video, ask.audio)
    task = state.tasks.get(name)
    if task is not None and task.unfinished:
        return _hold(task, ask)
    if task is not None and task.status == "done" and ask.kept:
        mine = state.has(ask.license, task.video, task.audio)
        return [*_share(task, ask), Used(name, ask.now)] if mine else []
    shares.admit(state, ask.license, ask.now)
    attempt = 1 if task is None else task.attempt + 1
    task = Task(name, ask.video, ask.audio, "queued", _created(state, ask.now), attempt)
    return [Changed(_held(task, ask))]


def _held(task: Task, ask: Ask) -> Task:
    owners = task.owners | {(ask.holder, ask.license)} if ask.license else task.owners
    return replace(task, holders=task.holders | {ask.holder}, owners=owners)


def _created(state: State, now: float) -> float:
    return _later(now, (task.created_at for task in state.tasks.values()))


def _finished(state: State, now: float) -> float:
    return _later(now, (task.finished_at or 0.0 for task in state.tasks.values()))


def _later(now: float, before: Iterable[float]) -> float:
    # Than all before: the line after a restart and what is forgotten first are told by it, and clocks may be set back.
    return max(now, *(time + 1e-6 for time in before), 0.0)


def _hold(task: Task, ask: Ask) -> list[Fact]:
    held = _held(task, ask)
    if held == task:
        return []
    if len(task.jobs_of(ask.license)) >= shares.MAX_HOLDERS:
        most = shares.MAX_HOLDERS
        raise WorkerRefused(f"{most} jobs wait for this very task: try again later", code="queue_full")
    return [Changed(held)]


def _share(task: Task, ask: Ask) -> list[Fact]:
    """A result that is here is this job's too; when too many of its license share it, the earlier ones have had it."""
    held = _held(task, ask)
    if ask.holder == ANONYMOUS or held == task:
        return []
    mine = task.jobs_of(ask.license)
    if len(mine) < shares.MAX_HOLDERS:
        return [Changed(held)]
    before = reduce(lambda left, job: _without(left, job, ask.license), mine, task)
    return [Changed(_held(before, ask))]


def _without(task: Task, job: str, license_: str) -> Task:
    """Without this holder; another license's of the same id stays."""
    owners = {pair for pair in task.owners if pair[0] != job or license_ not in (ANONYMOUS, pair[1])}
    others = any(name == job for name, _ in owners)
    return replace(task, holders=task.holders if others else task.holders - {job}, owners=frozenset(owners))


def _show(state: State, show: Show) -> list[Fact]:
    return [] if state.has(show.license, show.file) else [Shown(file_name(show.file), show.license)]


def _drop(state: State, drop: Drop) -> _Step:
    task = state.tasks.get(drop.task_id)
    if task is None:
        raise WorkerRefused(f"there is no task {drop.task_id[:64]!r} here", code="not_found")
    mine = task.jobs_of(drop.license) if drop.license else task.holders
    if not task.unfinished or drop.holder not in mine:
        return [], []
    left = _without(task, drop.holder, drop.license)
    if left.holders:
        return [Changed(left)], []
    at = _finished(state, drop.now)
    stopped = replace(left, status="cancelled", finished_at=at, error=CANCELLED)
    return [Changed(stopped)], [Kill(task.id)] if task.status == "running" else []


def _ended(state: State, ended: Ended) -> list[Fact]:
    if state.busy != (ended.task_id, ended.attempt):
        return []
    task = state.tasks.get(ended.task_id)
    # A task that was cancelled, and perhaps asked for again, has already moved on: only the engine becomes free.
    if task is None or task.status != "running" or task.attempt != ended.attempt:
        return [EngineFree()]
    at = _finished(state, ended.now)
    finished = replace(task, finished_at=at, size=ended.size, digest=ended.digest, error=ended.error)
    return [EngineFree(), Changed(replace(finished, status="done" if ended.digest else "failed"))]


def _start_next(state: State, now: float) -> _Step:
    if state.busy or not state.ready or not state.line:
        return [], []
    task = replace(state.tasks[next(iter(turns(state)))], status="running", started_at=now)
    return [Changed(task)], [Run(task)]


def _make_room(state: State, now: float) -> _Step:
    gone = shares.surplus(state, now)
    return [Forgotten(task.id) for task in gone], [Erase(task.id) for task in gone]
