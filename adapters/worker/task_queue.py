"""The program of the worker's queue: it decides on events, journals and publishes facts, and runs the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Protocol

from loguru import logger
from reactivex import Observable

from wakestream.adapters.worker.file_store import FileStore
from wakestream.operators.model.errors import JournalError, TaskFailed, WakestreamError
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Engine, Journal
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.worker import state as w
from wakestream.streams.worker.worker import DECIDER


class Snapshots(Journal[w.Kept], Protocol):
    """A journal that can be cut down to a snapshot."""

    snapshot: Callable[[], Sequence[w.Kept]] | None


class TaskQueue:
    """All tasks of one worker. It continues the tasks that it finds in the journal.

    `facts` is hot and emits each fact after it was journaled; `clock` returns UNIX seconds.
    """

    def __init__(
        self, store: FileStore, journal: Snapshots, engine: Engine, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._journal = journal
        self._engine = engine
        self._clock = clock
        self._order = asyncio.Lock()  # one event at a time: each decision needs the facts of the one before
        self._facts: KeyedSubject[w.Fact] = KeyedSubject(_observer_failed)
        self._working: asyncio.Task[None] | None = None
        self._rendering: asyncio.Task[tuple[int, str]] | None = None
        self._closed = False
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.state = self._as_on_disk(DECIDER.recover(journal.read()))
        journal.snapshot = lambda: list(w.snapshot(self.state))

    @property
    def facts(self) -> Observable[w.Fact]:
        """Each fact, after it was journaled."""
        return self._facts

    async def ask(
        self, video: FileRef, audio: FileRef, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS
    ) -> w.Task:
        """Create the task of this pair, or find it. Raises `WorkerRefused` (`queue_full`) when there are too many."""
        name = w.task_id(video, audio)
        mine = self.state.has(license_, video, audio)
        kept = self._store.kept(name) if mine else self._store.has_result(name)  # asking is a use, by who may have it
        await self._handle(lambda: w.Ask(video, audio, holder, kept, license_))
        return self.state.tasks[name]

    async def drop(self, task_id: str, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS) -> w.Task:
        """Remove a holder; without holders the task stops. Raises `WorkerRefused` (`not_found`)."""
        await self._handle(lambda: w.Drop(task_id, holder, license_))
        return self.state.tasks[task_id]

    async def show(self, license_: str, *files: FileRef) -> None:
        """Record that the license has these files."""
        for file in files:
            if not self.state.has(license_, file):
                await self._handle(partial(w.Show, file, license_))

    def use(self, task_id: str) -> bool:
        """Record a use of this result, which extends its life; returns whether it exists."""
        here = self._store.kept(task_id)
        if here and task_id in self.state.tasks:
            self._apply(w.Used(task_id, self._clock()))
        return here

    async def ready(self) -> None:
        """Report that the engine can work, and start a task."""
        await self._handle(w.Ready, promised=False)

    async def until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set. Raises `JournalError` when the journal is broken: restart the worker."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((stopped, self._broken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._broken.done():
            self._broken.result()

    async def close(self) -> None:
        """Kill the engine and wait for its end. The next run continues the tasks."""
        self._closed = True
        tasks = [task for task in (self._working, self._rendering) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _as_on_disk(self, state: w.State) -> w.State:
        """Remove finished tasks whose result file is gone; read the last use of the others from the disk."""
        done = [task.id for task in state.tasks.values() if task.status == "done"]
        dates = {task_id: self._store.last_use(task_id) for task_id in done}
        tasks = {name: task for name, task in state.tasks.items() if dates.get(name, 0.0) is not None}
        return replace(state, tasks=tasks, used={name: at for name, at in dates.items() if at is not None})

    async def _handle(self, event: Callable[[], w.Event], *, promised: bool = True) -> None:
        """Decide on an event. `promised`: a caller waits for the answer, so an error of the journal is raised."""
        async with self._order:
            facts, commands = DECIDER.decide(self.state, event(), self._clock())
            try:
                await self._append(facts)
            except WakestreamError as error:
                if isinstance(error, JournalError):
                    self._break(error)
                if promised:
                    raise
                logger.error("a task could not be journaled, a restart will check it again: {}", error)
            for fact in facts:
                self._apply(fact)
            for command in commands:
                self._execute(command)

    def _break(self, error: JournalError) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()  # retrieved, so that asyncio does not log it

    async def _append(self, facts: Sequence[w.Fact]) -> None:
        await self._journal.append([fact for fact in facts if isinstance(fact, w.Kept)])

    def _apply(self, fact: w.Fact) -> None:
        DECIDER.evolve(self.state, fact)
        self._facts.feed(fact)

    def _execute(self, command: w.Command) -> None:
        match command:
            case w.Run(task) if not self._closed:
                # Created here and not in _work: a kill may come before _work has started.
                self._rendering = asyncio.create_task(self._render(task))
                self._working = asyncio.create_task(self._work(task, self._rendering))
            case w.Kill() if self._rendering:
                self._rendering.cancel()
            case w.Erase(task_id):
                self._erase(task_id)

    def _erase(self, task_id: str) -> None:
        try:
            self._store.result(task_id).unlink(missing_ok=True)
        except OSError as error:  # Windows, during a download
            logger.warning("an old task's files stay on the disk: {}", error)

    async def _work(self, task: w.Task, rendering: asyncio.Task[tuple[int, str]]) -> None:
        log = logger.bind(job=task.id, stage="render")
        log.info("task started, attempt {}", task.attempt)
        await asyncio.wait([rendering])
        size, digest, error = _outcome(rendering)
        log.info("task ended: {}", error or f"{size} bytes")
        ended = w.Ended(task.id, task.attempt, size, digest, error)
        try:
            await self._handle(lambda: ended, promised=False)
        except Exception as fault:  # otherwise the engine would silently stay idle
            log.opt(exception=fault).error("the queue broke")
            self._break(JournalError(f"the queue broke ({type(fault).__name__}): the worker's log says more"))

    async def _render(self, task: w.Task) -> tuple[int, str]:
        if self._store.has_result(task.id):
            # An earlier run finished it, but was killed or cancelled then: a result file is always complete.
            return await self._store.seal(task.id)
        for name, ref in (("video", task.video), ("audio", task.audio)):
            if not self._store.has(ref):
                raise TaskFailed(f"the {name} file is no longer here: upload it again, then submit again")
        output = self._store.result(task.id)
        frames = self._engine.render(self._store.path(task.video), self._store.path(task.audio), output)
        async with aclosing(frames):
            async for frame in frames:
                self._apply(w.Advanced(task.id, task.attempt, frame))
        return await self._store.seal(task.id)


def _observer_failed(error: Exception, fact: object) -> None:
    logger.opt(exception=error).error("an observer failed on {}", type(fact).__name__)


def _outcome(rendering: asyncio.Task[tuple[int, str]]) -> tuple[int, str | None, str | None]:
    """Size and digest, or the error."""
    if rendering.cancelled():
        return 0, None, w.CANCELLED
    error = rendering.exception()
    if error is None:
        return (*rendering.result(), None)
    if isinstance(error, WakestreamError):
        return 0, None, str(error).encode(errors="replace").decode()  # it may quote a file name that is not valid text
    logger.opt(exception=error).error("the engine broke")
    return 0, None, f"the engine broke ({type(error).__name__}): the worker's log says more"
