"""The worker's queue at work: events into the decider, facts onto the disk and then aloud, commands to the engine."""

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
from wakestream.streams.worker import worker as w


class Snapshots(Journal[w.Kept], Protocol):
    """A journal that can be cut down to what is still true."""

    snapshot: Callable[[], Sequence[w.Kept]] | None


class TaskQueue:
    """All tasks of one worker. Tasks of an earlier run are found in the journal, and continued.

    `facts` is hot, and says what has become true after it was kept; `clock` gives Unix time in seconds.
    """

    def __init__(
        self, store: FileStore, journal: Snapshots, engine: Engine, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._journal = journal
        self._engine = engine
        self._clock = clock
        self._order = asyncio.Lock()  # one event at a time: each is decided on what the one before left on the disk
        self._facts: KeyedSubject[w.Fact] = KeyedSubject(_observer_failed)
        self._working: asyncio.Task[None] | None = None
        self._rendering: asyncio.Task[tuple[int, str]] | None = None
        self._closed = False
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.state = self._as_on_disk(w.DECIDER.recover(journal.read()))
        journal.snapshot = lambda: list(w.snapshot(self.state))

    @property
    def facts(self) -> Observable[w.Fact]:
        """What becomes true, as it does."""
        return self._facts

    async def ask(
        self, video: FileRef, audio: FileRef, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS
    ) -> w.Task:
        """Start the pair, or find it. `WorkerRefused` (`queue_full`) when there are too many."""
        name = w.task_id(video, audio)
        mine = self.state.has(license_, video, audio)
        kept = self._store.kept(name) if mine else self._store.has_result(name)  # asking is a use, by who may have it
        await self._tell(lambda: w.Ask(video, audio, holder, kept, license_))
        return self.state.tasks[name]

    async def drop(self, task_id: str, holder: str = w.ANONYMOUS, license_: str = w.ANONYMOUS) -> w.Task:
        """The holder no longer wants it; the task stops if nobody else does. `WorkerRefused` (`not_found`)."""
        await self._tell(lambda: w.Drop(task_id, holder, license_))
        return self.state.tasks[task_id]

    async def show(self, license_: str, *files: FileRef) -> None:
        """The license has shown that it has these files."""
        for file in files:
            if not self.state.has(license_, file):
                await self._tell(partial(w.Show, file, license_))

    def use(self, task_id: str) -> bool:
        """Somebody wants this result now: it stays for a while. Whether it is here."""
        here = self._store.kept(task_id)
        if here and task_id in self.state.tasks:
            self._take(w.Used(task_id, self._clock()))
        return here

    async def ready(self) -> None:
        """The engine can work: start what waits."""
        await self._tell(w.Ready, promised=False)

    async def until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set. `JournalError` when nothing can be promised any more: only a new start helps."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((stopped, self._broken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._broken.done():
            self._broken.result()

    async def close(self) -> None:
        """Kill the engine and wait for its end; the tasks on the disk are continued by the next run."""
        self._closed = True
        tasks = [task for task in (self._working, self._rendering) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _as_on_disk(self, state: w.State) -> w.State:
        """Forget the finished tasks whose result somebody removed; of the others the disk knows the last use."""
        done = [task.id for task in state.tasks.values() if task.status == "done"]
        dates = {task_id: self._store.last_use(task_id) for task_id in done}
        tasks = {name: task for name, task in state.tasks.items() if dates.get(name, 0.0) is not None}
        return replace(state, tasks=tasks, used={name: at for name, at in dates.items() if at is not None})

    async def _tell(self, event: Callable[[], w.Event], *, promised: bool = True) -> None:
        """`promised`: somebody waits for the answer, and gets the disk's error instead of it."""
        async with self._order:
            facts, commands = w.DECIDER.decide(self.state, event(), self._clock())
            try:
                await self._keep(facts)
            except WakestreamError as error:
                if isinstance(error, JournalError):
                    self._break(error)
                if promised:
                    raise
                logger.error("a task could not be kept, a restart will look at it again: {}", error)
            for fact in facts:
                self._take(fact)
            for command in commands:
                self._obey(command)

    def _break(self, error: JournalError) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()  # retrieved: whoever waits in `until` hears of it

    async def _keep(self, facts: Sequence[w.Fact]) -> None:
        await self._journal.append([fact for fact in facts if isinstance(fact, w.Kept)])

    def _take(self, fact: w.Fact) -> None:
        w.DECIDER.evolve(self.state, fact)
        self._facts.feed(fact)

    def _obey(self, command: w.Command) -> None:
        match command:
            case w.Run(task) if not self._closed:
                # Made here, not in _work: a kill may come before that has run for the first time.
                self._rendering = asyncio.create_task(self._render(task))
                self._working = asyncio.create_task(self._work(task, self._rendering))
            case w.Kill() if self._rendering:
                self._rendering.cancel()
            case w.Erase(task_id):
                self._erase(task_id)

    def _erase(self, task_id: str) -> None:
        try:
            self._store.result(task_id).unlink(missing_ok=True)
        except OSError as error:  # Windows, while somebody downloads it
            logger.warning("an old task's files stay on the disk: {}", error)

    async def _work(self, task: w.Task, rendering: asyncio.Task[tuple[int, str]]) -> None:
        log = logger.bind(job=task.id, stage="render")
        log.info("task started, attempt {}", task.attempt)
        await asyncio.wait([rendering])
        size, digest, error = _outcome(rendering)
        log.info("task ended: {}", error or f"{size} bytes")
        ended = w.Ended(task.id, task.attempt, size, digest, error)
        try:
            await self._tell(lambda: ended, promised=False)
        except Exception as fault:  # nobody else would notice that the engine never gets another task
            log.opt(exception=fault).error("the queue broke")
            self._break(JournalError(f"the queue broke ({type(fault).__name__}): the worker's log says more"))

    async def _render(self, task: w.Task) -> tuple[int, str]:
        if self._store.has_result(task.id):
            # Finished by a run that was killed, or cancelled, before it could say so: results appear only when whole.
            return await self._store.seal(task.id)
        for name, ref in (("video", task.video), ("audio", task.audio)):
            if not self._store.has(ref):
                raise TaskFailed(f"the {name} file is no longer here: upload it again, then submit again")
        output = self._store.result(task.id)
        frames = self._engine.render(self._store.path(task.video), self._store.path(task.audio), output)
        async with aclosing(frames):
            async for frame in frames:
                self._take(w.Advanced(task.id, task.attempt, frame))
        return await self._store.seal(task.id)


def _observer_failed(error: Exception, fact: object) -> None:
    logger.opt(exception=error).error("an observer failed on {}", type(fact).__name__)


def _outcome(rendering: asyncio.Task[tuple[int, str]]) -> tuple[int, str | None, str | None]:
    """Size and digest, or why there are none."""
    if rendering.cancelled():
        return 0, None, w.CANCELLED
    error = rendering.exception()
    if error is None:
        return (*rendering.result(), None)
    if isinstance(error, WakestreamError):
        return 0, None, str(error).encode(errors="replace").decode()  # it may repeat a name that is no text
    logger.opt(exception=error).error("the engine broke")
    return 0, None, f"the engine broke ({type(error).__name__}): the worker's log says more"
