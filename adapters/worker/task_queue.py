"""The program of the worker's queue: it passes requests to the decider, publishes facts, and runs the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace

from loguru import logger
from reactivex import Observable

from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.adapters.worker.file_store import FileStore
from wakestream.operators.model.errors import JournalError, TaskFailed, WakestreamError
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Engine, Journal
from wakestream.streams.decider import Decision
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.worker import state as w
from wakestream.streams.worker.worker import DECIDER


class TaskQueue:
    """All tasks of one worker. It continues the tasks that it finds in the journal.

    `facts` is hot and emits each fact after it was journaled; `clock` returns UNIX seconds.
    """

    def __init__(
        self, store: FileStore, journal: Journal[w.Kept], engine: Engine, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._facts: KeyedSubject[w.Fact] = KeyedSubject(_observer_failed)
        self._working: asyncio.Task[None] | None = None
        self._rendering: asyncio.Task[tuple[int, str]] | None = None
        self._closed = False
        self.runner: DeciderRunner[w.State, w.Event, w.Fact, w.Command] = DeciderRunner(
            "the worker",
            DECIDER,
            self._as_on_disk(DECIDER.recover(journal.read())),
            journal,
            self._execute,
            clock=clock,
            durable=lambda facts: [fact for fact in facts if isinstance(fact, w.Kept)],
            on_fact=self._facts.feed,
            when_full=_when_full,
            journal_first=True,
        )

    @property
    def state(self) -> w.State:
        """What the worker knows; read only."""
        return self.runner.state

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
        await self.runner.perform(w.Ask(video, audio, holder, kept, license_))
        return self.state.tasks[name]

    async def drop(self, task_id: str, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS) -> w.Task:
        """Remove a holder; without holders the task stops. Raises `WorkerRefused` (`not_found`)."""
        await self.runner.perform(w.Drop(task_id, holder, license_))
        return self.state.tasks[task_id]

    async def show(self, license_: str, *files: FileRef) -> None:
        """Record that the license has these files."""
        for file in files:
            if not self.state.has(license_, file):
                await self.runner.perform(w.Show(file, license_))

    def use(self, task_id: str) -> bool:
        """Record a use of this result, which extends its life; returns whether it exists."""
        here = self._store.kept(task_id)
        if here and task_id in self.state.tasks:
            self.runner.apply(w.Used(task_id, self._clock()))
        return here

    async def ready(self) -> None:
        """Report that the engine can work, and start a task."""
        with suppress(JournalError):  # the runner ends the program then
            await self.runner.perform(w.Ready())

    async def close(self) -> None:
        """Kill the engine and wait for its end. The next run continues the tasks."""
        self._closed = True
        await self.runner.close()
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
        self.runner.report(w.Ended(task.id, task.attempt, size, digest, error))

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
                self.runner.apply(w.Advanced(task.id, task.attempt, frame))
        return await self._store.seal(task.id)


def _when_full(
    event: w.Event, rest: Decision[w.Kept, w.Command], error: WakestreamError
) -> Decision[w.Kept, w.Command]:
    """Refuse requests. The engine's next task does not wait for the disk: a restart checks all tasks again."""
    if isinstance(event, w.Ready | w.Ended):
        return rest
    raise error


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
