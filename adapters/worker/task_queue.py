"""The program of the worker's queue: it passes requests to the decider, publishes facts, and runs the engine."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger
from msgspec.structs import replace
from reactivex import Observable

from wakestream.adapters.disk.full_disk import is_full, says_full
from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.adapters.engines.http_engine import ending
from wakestream.adapters.engines.watchdog import Watchdog, cancel_engine
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.adapters.runtime.known_secrets import redacted_text, without_known
from wakestream.adapters.runtime.tasks import background, restarted, tasks_of_block
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.preview_file import watch_preview
from wakestream.operators.model.engine import Engine, Frame, Line, Made, Preview, Readiness, Waits, Work, numbered
from wakestream.operators.model.errors import (
    EngineUnreachable,
    JournalError,
    NoSpace,
    TaskFailed,
    TaskLost,
    WakestreamError,
)
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Journal, Output
from wakestream.streams.decider import Decision
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.worker import state as w
from wakestream.streams.worker.worker import DECIDER

MAX_RESTARTS = 3
"""How often a task starts again because its engine was restarted or did not answer."""

READY_WITHIN = 60.0
"""Seconds that an engine may take to say whether it is ready."""

LOOK_EVERY = 1.0
"""Seconds between two looks at an engine that is not ready, or at a disk that is full."""

FULL = 64 * 1024
"""With less room, in bytes, a render that failed has met a full disk, whatever its engine says."""

LAST_LINES = 5
"""Lines of an engine's log that its failure quotes."""

LINES_MOST = 400
"""Characters of these lines."""

SHARE = 0.9
"""The share of the room at its begin from which on a task that met a full disk is tried again."""


class TaskQueue:
    """All tasks of one worker. It continues the tasks that it finds in the journal.

    `facts` is hot and emits each fact after it was journaled; `clock` returns UNIX seconds. `check` is called every
    second after an engine was lost: it looks at it, and calls `ready` when it works again.
    """

    def __init__(
        self,
        store: FileStore,
        journal: Journal[w.Kept],
        engine: Engine,
        *,
        slots: int = 1,
        watchdog: Watchdog = Watchdog(),  # noqa: B008 - it is frozen
        secrets: SecretValues | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._watchdog = watchdog
        self.check: Callable[[], Awaitable[object]] = self._check
        self.on_preview: Callable[[str, Preview], object] = lambda *_: None
        self.secrets = secrets or SecretValues()
        self._asking: list[w.TaskSpec] = []
        self.clock = clock
        self._facts: KeyedSubject[w.Fact] = KeyedSubject(_observer_failed)
        self._working: set[asyncio.Task[None]] = set()
        self._rendering: dict[str, asyncio.Task[tuple[Output, ...]]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._restarts: Counter[str] = Counter()
        self._closed = False
        # Remove finished tasks whose result file is gone; read the last use of the others from the disk.
        state = DECIDER.recover(journal.read(), snapshot=journal.restore())
        done = [task.id for task in state.tasks.values() if task.status == "done"]
        dates = {task_id: self._store.last_use(task_id) for task_id in done}
        tasks = {name: task for name, task in state.tasks.items() if dates.get(name, 0.0) is not None}
        self.runner: DeciderRunner[w.QueueState, w.Event, w.Fact, w.Command] = DeciderRunner(
            "the worker",
            DECIDER,
            dataclasses.replace(
                state, tasks=tasks, used={name: at for name, at in dates.items() if at is not None}, slots=slots
            ),
            journal,
            self._execute,
            clock=clock,
            durable=lambda facts: [fact for fact in facts if isinstance(fact, w.Kept)],
            on_fact=self._on_fact,
            when_full=_when_full,
            journal_first=True,
        )
        self._keep_secrets()

    @property
    def state(self) -> w.QueueState:
        """What the worker knows; read only."""
        return self.runner.state

    @property
    def facts(self) -> Observable[w.Fact]:
        """Each fact, after it was journaled."""
        return self._facts

    async def ask(self, spec: w.TaskSpec, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS) -> w.Task:
        """Create the task of this spec, or find it. Raises `WorkerRefused` (`queue_full`) when there are too many."""
        name = w.task_id(spec)
        mine = self.state.has(license_, *spec.inputs.values())
        kept = self._store.kept(name) if mine else self._store.has_result(name)  # asking is a use, by who may have it
        await self.runner.perform(w.Ask(spec, holder, kept, license_))
        # An old result may have been forgotten with that: the license has not its files.
        return self.state.tasks.get(name) or await self.ask(spec, holder, license_)

    @contextmanager
    def needing(self, spec: w.TaskSpec) -> Iterator[None]:
        """Keep the secret values of this spec while the block runs; after it, if a task needs them."""
        self._asking.append(spec)
        try:
            yield
        finally:
            self._asking.remove(spec)
            self._keep_secrets()

    async def drop(self, task_id: str, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS) -> w.Task:
        """Remove a holder; without holders the task stops. Raises `WorkerRefused` (`not_found`)."""
        await self.runner.perform(w.Drop(task_id, holder, license_))
        return self.state.tasks.get(task_id) or await self.drop(task_id, holder, license_)

    async def show(self, license_: str, *files: FileRef) -> None:
        """Record that the license has these files, with one sync of the journal for all."""
        new = [w.Show(file, license_) for file in files if not self.state.has(license_, file)]
        await asyncio.gather(*(self.runner.perform(event) for event in new))

    async def hide(self, license_: str, hashes: Collection[str]) -> list[str]:
        """Record that the license no longer has the files with these hashes; returns their names (`HASH.EXT`)."""
        names = [name for name in self.state.files.get(license_, {}) if name.partition(".")[0] in hashes]
        await self.runner.perform(w.Hide(tuple(names), license_))
        return names

    def is_shown(self, name: str) -> bool:
        """Whether a license has the file of this name."""
        return any(name in files for files in self.state.files.values())

    def use(self, task_id: str) -> bool:
        """Record a use of this result, which extends its life; returns whether it exists."""
        here = self._store.kept(task_id)
        if here and task_id in self.state.tasks:
            self.runner.apply(w.Used(task_id, self.clock()))
        return here

    async def ready(self) -> None:
        """Report that the engine can work, and start a task."""
        with suppress(JournalError):  # the runner ends the program then
            await self.runner.perform(w.Ready())

    async def unready(self, reason: str) -> None:
        """Report that the engine cannot work: no task begins until `ready`."""
        with suppress(JournalError):
            await self.runner.perform(w.Unready(reason))

    async def close(self) -> None:
        """Kill the engine and wait for its end. The next run continues the tasks."""
        self._closed = True
        await self.runner.close()
        tasks = [*self._working, *self._rendering.values(), *((self._watching,) if self._watching else ())]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _on_fact(self, fact: w.Fact) -> None:
        self._facts.feed(fact)
        if isinstance(fact, w.Changed) and not fact.task.unfinished:
            self._keep_secrets()

    def _keep_secrets(self) -> None:
        """Remove the secret values that no task needs any more."""
        unfinished = [task.spec for task in self.state.tasks.values() if task.unfinished]
        self.secrets.keep(spec.params for spec in (*unfinished, *self._asking))

    def _execute(self, command: w.Command) -> None:
        match command:
            case w.Run(task) if not self._closed:
                # Created here and not in _work: a kill may come before _work has started.
                rendering = self._rendering[task.id] = asyncio.create_task(self._render(task))
                working = background(f"task {task.id}", self._work(task, rendering), self.runner.fail)
                self._working.add(working)
                working.add_done_callback(self._working.discard)
            case w.Kill(task_id) if task_id in self._rendering:
                self._rendering[task_id].cancel()
            case w.Erase(task_id):
                try:
                    self._store.erase(task_id)
                except OSError as error:  # Windows, during a download
                    logger.warning("an old task's files stay on the disk: {}", error)
            case w.Watch() if not self._closed and (self._watching is None or self._watching.done()):
                self._watching = background("watch", restarted("the watch of engine and disk", self._watch))

    async def _watch(self) -> None:
        """Look at engine and disk until all tasks can begin."""
        while self.state.halted is not None or self.state.short:
            await asyncio.sleep(LOOK_EVERY)
            halt = self.state.halted
            if halt is not None and halt.word == "not_ready":
                with suppress(TimeoutError):
                    async with asyncio.timeout(READY_WITHIN):
                        await self.check()
                continue
            wanted = halt.room if halt is not None else min(self.state.short.values(), default=0)
            with suppress(OSError, JournalError):
                await self._store.make_room(wanted)
                await self.runner.perform(w.Room(await self._store.in_thread(self._store.free)))

    async def _check(self) -> None:
        if (await look(self._engine)).ready:
            await self.ready()

    async def _work(self, task: w.Task, rendering: asyncio.Task[tuple[Output, ...]]) -> None:
        log = logger.bind(job=task.id, stage="render")
        log.info("task started, attempt {}", task.attempt)
        room = await self._store.in_thread(self._store.free)
        await asyncio.wait([rendering])
        if rendering.cancelled() and not self._closed:  # a worker that stops leaves its work to the engine
            await cancel_engine(self._engine, self._work_of(task))
        ended = _ended(task, rendering)
        if ended.again is None:
            log.info("task ended: {}", ended.error or f"{ended.size} bytes")
            self._restarts.pop(task.id, None)
        else:
            log.warning("{}; the task waits in its place and starts again", ended.again.reason)
            ended = replace(ended, **await self._room_for(ended.again, room))
        del self._rendering[task.id]
        self.runner.report(ended)

    async def _room_for(self, halt: w.Halt, before: int) -> dict[str, Any]:
        """How much room a task needs that met a full disk, and whether it filled the disk itself."""
        if halt.word == "not_ready":
            return {}
        left, need = await self._store.in_thread(self._store.free), int(SHARE * before)
        if left < need:
            return {"again": replace(halt, room=need)}
        return {"again": replace(halt, room=int(left / SHARE) + 1), "alone": True}

    async def _render(self, task: w.Task) -> tuple[Output, ...]:
        if self._store.has_result(task.id):
            # An earlier run finished it, but was killed or cancelled then: results are always complete.
            return await self._store.seal(task.id)
        for name, ref in task.spec.inputs.items():
            if not self._store.has(ref):
                raise TaskLost(f"the {name} file is no longer here: upload it again, then submit again")
        try:
            return await self._done(task)
        except EngineUnreachable as error:
            self._restarts[task.id] += 1
            if (tries := self._restarts[task.id]) > MAX_RESTARTS:
                raise TaskFailed(f"{error}; it was tried {tries} times") from None
            raise
        except TaskFailed as error:
            if says_full(str(error)) or await self._store.in_thread(self._store.free) < FULL:
                raise NoSpace(f"the worker's disk is full: {error}") from None
            raise

    async def _done(self, task: w.Task) -> tuple[Output, ...]:
        """Let the engine do the work once, and store its results."""
        made: dict[tuple[str, int], Path] = {}
        said: deque[str] = deque(maxlen=LAST_LINES)
        async with self._store.work_folder() as folder, tasks_of_block() as start:
            work = dataclasses.replace(self._work_of(task, folder), params=self.secrets.shown(task.spec.params))
            start(watch_preview(work.preview, partial(self.on_preview, task.id)))
            async with _with_log(said), aclosing(self._watchdog.watch(self._engine, work)) as items:
                async for item in items:
                    if isinstance(item, Line):
                        logger.bind(job=task.id, stage="render").info("{}", item.text)
                        said.append(item.text)
                    match item:
                        case Frame() | Waits():
                            self.runner.apply(w.Advanced(task.id, task.attempt, item))
                        case Line() if task.id in self.state.waits:
                            self.runner.apply(w.Advanced(task.id, task.attempt, w.NO_PROGRESS))
                        case Made(name, path, number):
                            made[name, number] = path
                        case Preview():
                            self.on_preview(task.id, item)
            files = checked_outputs(work.outputs, made, folder)
            return await self._store.take(task.id, files, single=task.single)

    def _work_of(self, task: w.Task, folder: Path = Path()) -> Work:
        spec = task.spec
        inputs = {name: self._store.path(ref) for name, ref in spec.inputs.items()}
        return Work(task.id, spec.kind, inputs, spec.params, spec.outputs, folder, task.attempt)


@asynccontextmanager
async def _with_log(said: Collection[str]) -> AsyncIterator[None]:
    """A failure of the engine also tells the last lines of its log, if it does not quote them itself."""
    try:
        yield
    except TaskFailed as error:
        lines = [line for text in said if (line := redacted_text(text).strip()) and line not in str(error)]
        if not lines:
            raise
        log = " | ".join(lines)
        raise TaskFailed(f"{error}; its log: {log if len(log) <= LINES_MOST else f'… {log[-LINES_MOST:]}'}") from error


async def look(engine: Engine) -> Readiness:
    """Return whether the engine can work; an error of its check is a reason why not."""
    try:
        now = await engine.ready()
        reason = now.reason or "it does not say why"
    except WakestreamError as error:
        now, reason = Readiness(False), str(error)
    except Exception as error:  # an engine may be the user's code, and health must say why it is not ready
        logger.opt(exception=error).error("the engine's check raised an error")
        now, reason = Readiness(False), f"its check raised {type(error).__name__}; see the worker's log"
    # It is part of health, so it must be valid text.
    reason = now.reason if now.ready else reason
    return Readiness(now.ready, reason.encode(errors="replace").decode(), now.crashed)


def checked_outputs(wanted: Sequence[str], made: Mapping[tuple[str, int], Path], folder: Path) -> dict[str, Path]:
    """The files that were made of the wanted outputs, by name. Raises `TaskFailed`: none can be used."""
    files: dict[str, Path] = {}
    faults: list[TaskFailed] = []
    for name in wanted:
        number, paths = 1, [path for (of, _), path in sorted(made.items()) if of == name]
        for path in paths or (None,):
            try:
                files[numbered(name, number)] = checked_output(name, path, folder)
                number += 1
            except TaskFailed as error:
                faults.append(error)
    if not files:
        raise faults[0]
    for fault in faults:
        logger.warning("{}; the job gets the others", fault)
    return files


def checked_output(name: str, path: Path | None, folder: Path) -> Path:
    """The file of an output. Raises `TaskFailed`: it is missing or empty, or not a file in the folder of the work."""
    if path is None or not os.path.lexists(path):
        raise TaskFailed(f"the engine succeeded but wrote no output {name!r}")
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise TaskFailed(
            f"the engine's output {name!r} is not a file in the folder of this work; it may make files there only"
        )
    if not path.stat().st_size:
        raise TaskFailed(f"the engine succeeded but its output {name!r} is empty")
    # The ending goes into names of files and headers of others: `.png;id` is not one.
    return path if not path.suffix or ending(path.name) else path.rename(path.with_suffix(".bin"))


def _when_full(
    event: w.Event, rest: Decision[w.Kept, w.Command], error: WakestreamError
) -> Decision[w.Kept, w.Command]:
    """Refuse requests. The engine's next task does not wait for the disk: a restart checks all tasks again."""
    if isinstance(event, w.Ready | w.Unready | w.Room | w.Ended | w.ClockMoved):
        return rest
    raise error


def _observer_failed(error: Exception, fact: object) -> None:
    logger.opt(exception=error).error("an observer failed on {}", type(fact).__name__)


def _ended(task: w.Task, rendering: asyncio.Task[tuple[Output, ...]]) -> w.Ended:
    """The end of a task: its results, or the error."""
    ended = partial(w.Ended, task.id, task.attempt)
    if rendering.cancelled():
        return ended(error=w.CANCELLED)
    error = rendering.exception()
    if error is None:
        first, *_ = made = rendering.result()
        size = sum(output.size for output in made)
        return ended(size, first.blake3, made=() if task.single else made)
    why = without_known(str(error)).encode(errors="replace").decode()  # it may quote a name that is not valid text
    if isinstance(error, NoSpace) or (isinstance(error, OSError) and is_full(error)):
        return ended(again=w.Halt("paused", why))
    if isinstance(error, EngineUnreachable):
        return ended(again=w.Halt("not_ready", why))
    if isinstance(error, WakestreamError):
        return ended(error=why, lost=isinstance(error, TaskLost))
    logger.opt(exception=error).error("the engine broke")
    return ended(error=f"the engine broke ({type(error).__name__}): the worker's log says more")
