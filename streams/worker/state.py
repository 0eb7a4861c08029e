"""The worker's state, events, facts and commands, and how facts change the state."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from msgspec.structs import replace

from wakestream.operators.model.engine import Frame, Waits
from wakestream.operators.model.events import LIPSYNC, FileRef, JobSpec
from wakestream.operators.model.ports import Output
from wakestream.streams.moments import Moment, Mover, mover
from wakestream.streams.protocol.structs import Frozen

Status = Literal["queued", "running", "done", "failed", "cancelled"]

HaltWord = Literal["not_ready", "paused"]
"""Why no task begins: the engine cannot work, or the disk is full. The same words are on the wire."""

ANONYMOUS = ""
"""The holder of requests without a job id, and the license of callers with the worker's secret."""

MAX_FILES = 10_000
"""Files of a license that are remembered; the earliest is forgotten first."""

NO_PROGRESS = Frame(0, 0, 0.0)
"""Of a task whose engine has not reported yet."""

CANCELLED = "cancelled: no job holds this task"


class TaskSpec(Frozen, JobSpec, frozen=True):
    """The work that a job wants: the kind, the files by name, the parameters, and the names of the results.

    `version` is the fingerprint of the kind. `once` is the job whose own work it is: it finds no other job's task.
    """

    inputs: dict[str, FileRef]
    kind: str = LIPSYNC
    params: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    outputs: tuple[str, ...] = ("video",)
    version: str = ""
    once: str = ""

    @property
    def as_pair(self) -> tuple[FileRef, FileRef] | None:
        """The video and the audio, if that is all of it: ids and journals have such work as those of 0.1.0 had it."""
        return (self.inputs["video"], self.inputs["audio"]) if self.old_shape and not self.once else None


def pair(video: FileRef, audio: FileRef) -> TaskSpec:
    """What deployed clients ask for."""
    return TaskSpec({"video": video, "audio": audio})


class Task(Frozen, frozen=True):
    """The work of a spec on its way to its results. `attempt` grows when a failed or cancelled one is requested again.

    `digest` (BLAKE3, hex) and `size` (bytes) are the finished main result's; `error` says why there is no result.
    `video` and `audio` are those of `TaskSpec.as_pair`, whose result is only in `digest` and `size`; `other` is any
    other spec, and `made` all its results.
    `owners` has the license (its public id) of each job in `holders` that came with one: two licenses may use the same
    job id.
    """

    id: str
    video: FileRef | None
    audio: FileRef | None
    status: Status
    created_at: Moment
    attempt: int = 1
    holders: frozenset[str] = frozenset()
    started_at: Moment | None = None
    finished_at: Moment | None = None
    progress: Frame = NO_PROGRESS
    size: int = 0
    digest: str | None = None
    error: str | None = None
    owners: frozenset[tuple[str, str]] = frozenset()
    other: TaskSpec | None = None
    made: tuple[Output, ...] = ()

    @classmethod
    def of(cls, spec: TaskSpec, created_at: float, attempt: int = 1) -> Task:
        """A task that waits."""
        files = spec.as_pair
        video, audio = files or (None, None)
        return cls(task_id(spec), video, audio, "queued", created_at, attempt, other=None if files else spec)

    @property
    def spec(self) -> TaskSpec:
        """What is to be done."""
        return self.other or pair(self.video, self.audio)  # type: ignore[arg-type] # one of both is set

    @property
    def single(self) -> bool:
        """Whether its one result has the place in journal and store that results had in 0.1.0."""
        return self.other is None

    @property
    def files(self) -> tuple[FileRef, ...]:
        """The input files."""
        return tuple(self.spec.inputs.values())

    @property
    def results(self) -> tuple[FileRef, ...]:
        """The results as files, which other tasks may have as inputs."""
        return tuple(FileRef(output.blake3, output.ext) for output in self.outputs)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The finished results by name. `made` does not have the one of the old shape."""
        if self.made or self.digest is None:
            return self.made
        return (Output(self.spec.outputs[0], ".mp4", self.size, self.digest),)

    @property
    def unfinished(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ("queued", "running")

    @property
    def last_known(self) -> float:
        """When it ended, or was asked for."""
        return self.created_at if self.finished_at is None else self.finished_at

    def licenses(self) -> frozenset[str]:
        """Whose it is: the licenses of its holders, `ANONYMOUS` for those without one; empty without holders."""
        named = {job for job, _ in self.owners}
        anonymous = {ANONYMOUS} if self.holders - named else set()
        return frozenset({license_ for _, license_ in self.owners} | anonymous)

    def jobs_of(self, license_: str) -> frozenset[str]:
        """The holders of this license."""
        if license_ == ANONYMOUS:
            return self.holders - {job for job, _ in self.owners}
        return frozenset(job for job, owner in self.owners if owner == license_)


class Halt(Frozen, frozen=True):
    """Why no task begins: a word, a sentence for people, and the bytes of room until which it lasts."""

    word: HaltWord
    reason: str
    room: int = 0


@dataclass(slots=True)
class Durable:
    """All tasks, and in `files` those that each license has shown to have, the earliest first, as `HASH.EXT`."""

    tasks: dict[str, Task] = field(default_factory=dict)
    files: dict[str, dict[str, None]] = field(default_factory=dict)


_TABLES = ("tasks", "line", "busy", "waits", "halts", "short", "served", "used", "files")


@dataclass(slots=True)
class QueueState(Durable):
    """The whole state: also the tasks that wait (in the order of their coming), and which attempt of which tasks the
    engine has until it has ended. `slots`: how many it does at one time.

    `served`: the licenses of which a task has begun, the latest one last. `used`: when each result was last asked for,
    where that was after its end. `waits`: the running tasks that wait in the engine's own queue. `turns` caches
    `shares.turns`. `halts` are why no task begins at present. `short` has the bytes of room that single tasks need:
    those filled the disk themselves. Only the functions in `CHANGES` write here.
    """

    line: dict[str, None] = field(default_factory=dict)
    slots: int = 1
    busy: dict[str, int] = field(default_factory=dict)
    waits: dict[str, Waits] = field(default_factory=dict)
    ready: bool = False
    halts: dict[HaltWord, Halt] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    served: dict[str, None] = field(default_factory=dict)
    used: dict[str, Moment] = field(default_factory=dict)
    turns: dict[str, int] | None = field(default=None, init=False, compare=False)

    @property
    def halted(self) -> Halt | None:
        """Why no task begins at present. A full disk may pass, but first the engine must be ready."""
        return self.halts.get("not_ready") or self.halts.get("paused")

    @property
    def halt(self) -> Halt | None:
        """Why tasks wait though the engine is free; None while one can begin, runs, or is not there."""
        if self.halted is not None or self.busy or not self.line or self.line.keys() - self.short.keys():
            return self.halted
        need = min(self.short.values())
        return Halt("paused", f"the worker's disk is full: the tasks here need {need} bytes of room, free some", need)

    def has(self, license_: str, *files: FileRef) -> bool:
        """Whether the license has shown that it has these files. A caller with the secret need not."""
        mine = self.files.get(license_, {})
        return license_ == ANONYMOUS or all(file_name(ref) in mine for ref in files)

    def copy(self) -> QueueState:
        """A copy that can be changed on its own."""
        tables: dict[str, Any] = {name: dict(getattr(self, name)) for name in _TABLES}
        return dataclasses.replace(self, **tables)

    def opens(self, task: Task, job: str, license_: str) -> bool:
        """Whether a capability for this job opens the task: it asked for it, and its license has all its files."""
        return (job, license_) in task.owners and self.has(license_, *task.files)


class _OfTask(Frozen, frozen=True):
    """An event, fact or command about the task of this id."""

    task_id: str


class Ask(Frozen, frozen=True):
    """A job (of `license`, where that is known) wants this. `kept`: an earlier result is still on the disk."""

    spec: TaskSpec
    holder: str
    kept: bool
    license: str = ANONYMOUS


class Drop(_OfTask, frozen=True):
    """A job drops the task: the job of `license`, or any job of this id if the license is not known."""

    holder: str
    license: str = ANONYMOUS


class Show(Frozen, frozen=True):
    """A license has shown that it has this file: it sent the file, or proved it."""

    file: FileRef
    license: str


class Hide(Frozen, frozen=True):
    """A license no longer has these files, each `HASH.EXT`."""

    files: tuple[str, ...]
    license: str


class Ready(Frozen, frozen=True):
    """The engine can work."""


class Unready(Frozen, frozen=True):
    """The engine cannot work at present; `reason` is a sentence for people."""

    reason: str


class Room(Frozen, frozen=True):
    """The disk has so many free bytes."""

    free: int


class Ended(_OfTask, frozen=True):
    """The engine is free again of a task: with a result (`digest`, `size`), with an `error`, or because it was killed.

    `again` is why the task waits again, in its place: it did not fail by itself. `alone`: the task filled the disk
    itself, so others may begin. `lost`: its files are no longer here, and the client must send them again.
    """

    attempt: int
    size: int = 0
    digest: str | None = None
    error: str | None = None
    made: tuple[Output, ...] = ()
    again: Halt | None = None
    alone: bool = False
    lost: bool = False


class ClockMoved(Frozen, frozen=True):
    """The clock was set by `by` seconds."""

    by: float


Event = Ask | Drop | Show | Hide | Ready | Unready | Room | Ended | ClockMoved


class Changed(Frozen, frozen=True):
    """The task is now like this; journaled before it is published."""

    task: Task


class Advanced(_OfTask, frozen=True):
    """The running engine's progress, or that the work waits in the engine's own queue; not journaled."""

    attempt: int
    progress: Frame | Waits


class Used(_OfTask, frozen=True):
    """A result was used; after a restart the file's date says so."""

    at: float


class Shown(Frozen, frozen=True):
    """The license has the file of this name (`HASH.EXT`)."""

    file: str
    license: str


class Hidden(Frozen, frozen=True):
    """The license no longer has these files."""

    files: tuple[str, ...]
    license: str


class Forgotten(_OfTask, frozen=True):
    """An old finished task made room."""


class EngineFree(_OfTask, frozen=True):
    """No program of this task runs any more."""


class EngineReady(Frozen, frozen=True):
    """The engine can work."""


class Halted(Frozen, frozen=True):
    """No task begins from now on, for this reason; None: it holds no longer."""

    word: HaltWord
    halt: Halt | None


class Short(_OfTask, frozen=True):
    """The task needs so many bytes of room; 0: there is room for it."""

    room: int


class ClockSet(Frozen, frozen=True):
    """The clock was set by `by` seconds: that much is added to all earlier times. `at` is a time of the new clock."""

    by: float
    at: float


Fact = Changed | Advanced | Used | Shown | Hidden | Forgotten | EngineFree | EngineReady | Halted | Short | ClockSet

Kept = Changed | Forgotten | Shown | Hidden | ClockSet
"""The facts to journal; the others are about an engine, which does not survive a restart."""


class Run(Frozen, frozen=True):
    """Give the engine this task."""

    task: Task


class Watch(Frozen, frozen=True):
    """Look at engine and disk until tasks can begin again."""


class Kill(_OfTask, frozen=True):
    """Stop the engine's work at this task."""


class Erase(_OfTask, frozen=True):
    """Remove what the disk holds of a forgotten task."""


Command = Run | Kill | Erase | Watch


def task_id(spec: TaskSpec) -> str:
    """The name of a task: 32 hex digits, the same for the same spec in every worker and after every restart."""
    if (files := spec.as_pair) is not None:
        text = "|".join(map(file_name, files))
    else:
        inputs = {name: file_name(ref) for name, ref in spec.inputs.items()}
        whole = {"kind": spec.kind, "inputs": inputs, "params": spec.params, "outputs": sorted(spec.outputs)}
        whole |= {name: value for name, value in (("version", spec.version), ("once", spec.once)) if value}
        text = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS).decode()
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_name(ref: FileRef) -> str:
    """A file's name in facts and on the disk."""
    return f"{ref.hash}{ref.ext}"


def find(state: QueueState, name: str, license_: str = ANONYMOUS) -> Task | None:
    """The task of this name. Deployed clients also name one by the hub's request that began it: the latest of these.

    With a license, only the jobs of that are looked at.
    """
    if name == ANONYMOUS or name in state.tasks:
        return state.tasks.get(name)
    tasks = state.tasks.values()
    held = [task for task in tasks if (name, license_) in task.owners or (not license_ and name in task.holders)]
    return max(held, key=lambda task: task.created_at, default=None)


def restart(state: QueueState) -> None:
    """After a restart, what had not finished waits again, in the order in which it was requested."""
    ordered = sorted(state.tasks.values(), key=lambda task: task.created_at)
    waits = {"status": "queued", "started_at": None, "progress": NO_PROGRESS}
    again = [replace(task, **waits) if task.unfinished else task for task in ordered]
    state.tasks = {task.id: task for task in again}
    state.line = {task.id: None for task in again if task.unfinished}
    state.busy, state.waits, state.served, state.turns = {}, {}, {}, None


def _changed(state: QueueState, fact: Changed) -> None:
    task, before = fact.task, state.tasks.get(fact.task.id)
    ran = before if before is not None and before.status == "running" else None
    if before is not None and task.unfinished and not before.unfinished:
        del state.tasks[task.id]  # the tasks stay in the order of their requests
    if ran is not None and task.status == "running":
        task = replace(task, progress=ran.progress)  # the engine may have reported while this was written
    state.tasks[task.id] = task
    state.turns = None
    if task.status == "queued" and ran is not None:
        state.line = {name: None for name in state.tasks if name in state.line or name == task.id}
        if task.id not in state.short:  # its licenses have not been served
            for license_ in task.licenses():
                state.served.pop(license_, None)
    elif task.status == "queued":
        state.line.setdefault(task.id)
    else:
        state.line.pop(task.id, None)
        state.short.pop(task.id, None)
    if task.status == "running":
        state.busy[task.id] = task.attempt
        for license_ in sorted(task.licenses() - (frozenset() if ran is None else ran.licenses())):
            state.served.pop(license_, None)
            state.served[license_] = None


def _advanced(state: QueueState, fact: Advanced) -> None:
    task = state.tasks.get(fact.task_id)
    if task is not None and task.status == "running" and task.attempt == fact.attempt:
        state.waits.pop(task.id, None)
        if isinstance(fact.progress, Waits):
            state.waits[task.id] = fact.progress
        if isinstance(fact.progress, Frame):
            state.tasks[task.id] = replace(task, progress=fact.progress)


def _shown(state: QueueState, fact: Shown) -> None:
    files = state.files[fact.license] = {**state.files.get(fact.license, {}), fact.file: None}
    while len(files) > MAX_FILES:
        del files[next(iter(files))]


def _hidden(state: QueueState, fact: Hidden) -> None:
    gone = frozenset(fact.files)
    left = {name: None for name in state.files.pop(fact.license, {}) if name not in gone}
    if left:
        state.files[fact.license] = left


def _forgotten(state: QueueState, fact: Forgotten) -> None:
    state.tasks.pop(fact.task_id, None)
    state.used.pop(fact.task_id, None)
    state.short.pop(fact.task_id, None)


def _engine_free(state: QueueState, fact: EngineFree) -> None:
    state.busy.pop(fact.task_id, None)
    state.waits.pop(fact.task_id, None)
    state.turns = None


def _engine_ready(state: QueueState, _: EngineReady) -> None:
    state.ready = True


def _halted(state: QueueState, fact: Halted) -> None:
    state.halts.pop(fact.word, None)
    if fact.halt is not None:
        state.halts[fact.word] = fact.halt


def _short(state: QueueState, fact: Short) -> None:
    state.turns = None
    state.short.pop(fact.task_id, None)
    if fact.room:
        state.short[fact.task_id] = fact.room


_MOVER: Mover = mover(QueueState)  # type: ignore[assignment] # it has moments


def _clock_set(state: QueueState, fact: ClockSet) -> None:
    """Keep all durations; a time in the future would make one endless.

    A second is allowed, since tasks of one moment are microseconds apart and keep their order.
    """
    _MOVER(state, lambda at: min(at + fact.by, fact.at + 1.0))


CHANGES: Mapping[type, Callable[[QueueState, Any], None]] = {
    Changed: _changed,
    Advanced: _advanced,
    Used: lambda state, fact: state.used.update({fact.task_id: fact.at}),
    Shown: _shown,
    Hidden: _hidden,
    Forgotten: _forgotten,
    EngineFree: _engine_free,
    EngineReady: _engine_ready,
    Halted: _halted,
    Short: _short,
    ClockSet: _clock_set,
}
"""For each type of fact, how it changes the state."""
