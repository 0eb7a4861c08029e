"""The worker's queue of tasks as a decider: pure, so that the queue that is tested is the queue that runs.

`decide(state, event)` says what becomes true (facts) and what is then to be done (commands); `evolve(state, fact)`
takes a fact in. One task runs at a time, the others wait in the order in which they were asked for. A task is named
after its pair of files, so asking for the same pair again finds it; jobs hold it, and it stops with the last of them.
Times are seconds since the Unix epoch, and come in with the events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal

from wakestream.operators.errors import WorkerRefused
from wakestream.operators.events import FileRef
from wakestream.operators.ports import Frame

Status = Literal["queued", "running", "done", "failed", "cancelled"]

MAX_UNFINISHED = 1000
"""Tasks that may wait or run; one more is refused."""

MAX_FINISHED = 1000
"""Finished tasks that are remembered, with their results; the oldest goes first."""

MAX_HOLDERS = 1000
"""Jobs that may hold one task."""

ANONYMOUS = ""
"""The holder that stands for all who gave no job id."""

NO_PROGRESS = Frame(0, 0, 0.0)
"""Of a task whose engine has not reported yet."""

CANCELLED = "cancelled: nobody holds this task any more"


@dataclass(frozen=True, slots=True)
class Task:
    """One pair of files on its way to a result. `attempt` grows when a failed or cancelled one is asked for again.

    `digest` (BLAKE3, hex) and `size` (bytes) are the finished result's; `error` says why there is none.
    """

    id: str
    video: FileRef
    audio: FileRef
    status: Status
    created_at: float
    attempt: int = 1
    holders: frozenset[str] = frozenset()
    started_at: float | None = None
    finished_at: float | None = None
    progress: Frame = NO_PROGRESS
    size: int = 0
    digest: str | None = None
    error: str | None = None

    @property
    def unfinished(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ("queued", "running")


@dataclass(frozen=True, slots=True)
class State:
    """All tasks, those that wait (first is next), and which attempt has the engine until it has really ended."""

    tasks: Mapping[str, Task] = field(default_factory=dict)
    line: tuple[str, ...] = ()
    busy: tuple[str, int] | None = None
    ready: bool = False

    def position(self, task_id: str) -> int:
        """Place in the line: 1 starts next, 0 is running or finished."""
        return self.line.index(task_id) + 1 if task_id in self.line else 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A job wants this pair. `kept`: the result of an earlier run is still on the disk."""

    video: FileRef
    audio: FileRef
    holder: str
    kept: bool
    now: float


@dataclass(frozen=True, slots=True)
class Drop:
    """A job no longer wants the task."""

    task_id: str
    holder: str
    now: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine can work."""

    now: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The engine is free again: with a result (`digest`, `size`), with an `error`, or because it was killed."""

    task_id: str
    attempt: int
    now: float
    size: int = 0
    digest: str | None = None
    error: str | None = None


Event = Ask | Drop | Ready | Ended


@dataclass(frozen=True, slots=True)
class Changed:
    """The task is now like this; to be kept on the disk before anyone is told."""

    task: Task


@dataclass(frozen=True, slots=True)
class Advanced:
    """The running engine's own report; not worth a write."""

    task_id: str
    attempt: int
    progress: Frame


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An old finished task made room."""

    task_id: str


@dataclass(frozen=True, slots=True)
class EngineFree:
    """No program runs any more."""


@dataclass(frozen=True, slots=True)
class EngineReady:
    """Tasks may be started from now on."""


Fact = Changed | Advanced | Forgotten | EngineFree | EngineReady

Kept = Changed | Forgotten
"""What a restart must know; the rest is about an engine that has gone by then."""


@dataclass(frozen=True, slots=True)
class Run:
    """Give the engine this task."""

    task: Task


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop the engine, which has this task."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Erase:
    """Remove what the disk holds of a forgotten task."""

    task_id: str


Command = Run | Kill | Erase


def task_id(video: FileRef, audio: FileRef) -> str:
    """The name of a pair: 32 hex digits, the same for the same files in every worker and after every restart."""
    text = f"{video.hash}{video.ext}|{audio.hash}{audio.ext}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(state: State, name: str) -> Task | None:
    """The task of this name. Deployed clients also name one by the hub's request that began it: the latest of these."""
    if name == ANONYMOUS or name in state.tasks:
        return state.tasks.get(name)
    held = [task for task in state.tasks.values() if name in task.holders]
    return max(held, key=lambda task: task.created_at, default=None)


def restore(facts: Iterable[Kept]) -> State:
    """The state after a restart: what had not finished waits again, in the order in which it was asked for."""
    tasks: dict[str, Task] = {}
    for fact in facts:
        if isinstance(fact, Changed):
            tasks[fact.task.id] = fact.task
        else:
            tasks.pop(fact.task_id, None)
    ordered = sorted(tasks.values(), key=lambda task: task.created_at)
    again = [replace(task, status="queued", progress=NO_PROGRESS) if task.unfinished else task for task in ordered]
    return reduce(evolve, map(Changed, again), State())


def snapshot(state: State) -> list[Kept]:
    """The fewest facts that lead to the same state."""
    return [Changed(replace(task, progress=NO_PROGRESS)) for task in state.tasks.values()]


def evolve(state: State, fact: Fact) -> State:
    """Take one fact in."""
    match fact:
        case Changed(task):
            return _with(state, task)
        case Advanced():
            return _advance(state, fact)
        case Forgotten(name):
            return replace(state, tasks={key: task for key, task in state.tasks.items() if key != name})
        case EngineFree():
            return replace(state, busy=None)
        case EngineReady():
            return replace(state, ready=True)


def _with(state: State, task: Task) -> State:
    line = tuple(name for name in state.line if name != task.id or task.status == "queued")
    if task.status == "queued" and task.id not in line:
        line = (*line, task.id)
    busy = (task.id, task.attempt) if task.status == "running" else state.busy
    return replace(state, tasks={**state.tasks, task.id: task}, line=line, busy=busy)


def _advance(state: State, fact: Advanced) -> State:
    task = state.tasks.get(fact.task_id)
    if task is None or task.status != "running" or task.attempt != fact.attempt:
        return state
    return _with(state, replace(task, progress=fact.progress))


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
        case Ready():
            return [EngineReady()], []
        case Ended():
            return _ended(state, event), []


def _ask(state: State, ask: Ask) -> list[Fact]:
    name = task_id(ask.video, ask.audio)
    task = state.tasks.get(name)
    if task is not None and task.unfinished:
        return _hold(task, ask.holder)
    if task is not None and task.status == "done" and ask.kept:
        return _share(task, ask.holder)
    _admit(state)
    attempt = 1 if task is None else task.attempt + 1
    created = _created(state, ask.now)
    return [Changed(Task(name, ask.video, ask.audio, "queued", created, attempt, frozenset({ask.holder})))]


def _created(state: State, now: float) -> float:
    return _later(now, (task.created_at for task in state.tasks.values()))


def _finished(state: State, now: float) -> float:
    return _later(now, (task.finished_at or 0.0 for task in state.tasks.values()))


def _later(now: float, before: Iterable[float]) -> float:
    # Than all before: the line after a restart and what is forgotten first are told by it, and clocks may be set back.
    return max(now, *(time + 1e-6 for time in before), 0.0)


def _admit(state: State) -> None:
    if sum(task.unfinished for task in state.tasks.values()) >= MAX_UNFINISHED:
        raise WorkerRefused(f"the queue is full ({MAX_UNFINISHED} tasks): try again later", code="queue_full")


def _hold(task: Task, holder: str) -> list[Fact]:
    if holder in task.holders:
        return []
    if len(task.holders) >= MAX_HOLDERS:
        raise WorkerRefused(f"{MAX_HOLDERS} jobs wait for this very task: try again later", code="queue_full")
    return [Changed(replace(task, holders=task.holders | {holder}))]


def _share(task: Task, holder: str) -> list[Fact]:
    """A result that is here already is this job's too; when too many share it, the earlier ones have had it."""
    if holder == ANONYMOUS or holder in task.holders:
        return []
    before = task.holders if len(task.holders) < MAX_HOLDERS else frozenset[str]()
    return [Changed(replace(task, holders=before | {holder}))]


def _drop(state: State, drop: Drop) -> _Step:
    task = state.tasks.get(drop.task_id)
    if task is None:
        raise WorkerRefused(f"there is no task {drop.task_id[:64]!r} here", code="not_found")
    if not task.unfinished or drop.holder not in task.holders:
        return [], []
    holders = task.holders - {drop.holder}
    if holders:
        return [Changed(replace(task, holders=holders))], []
    at = _finished(state, drop.now)
    stopped = replace(task, holders=holders, status="cancelled", finished_at=at, error=CANCELLED)
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
    task = replace(state.tasks[state.line[0]], status="running", started_at=now)
    return [Changed(task)], [Run(task)]


def _make_room(state: State, now: float) -> _Step:
    finished = [task for task in state.tasks.values() if not task.unfinished]
    surplus = len(finished) - MAX_FINISHED
    if surplus <= 0:
        return [], []
    oldest = sorted(finished, key=lambda task: task.finished_at or now)[:surplus]
    return [Forgotten(task.id) for task in oldest], [Erase(task.id) for task in oldest]
