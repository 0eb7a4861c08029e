"""The outbox at work: one decision after another, kept in the journal, and only then carried out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from loguru import logger

from wakestream.adapters.client.client import Client
from wakestream.adapters.daemon.event_feed import EventFeed
from wakestream.adapters.disk.part_file import remove_part
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import JournalError, NoSpace, WakestreamError
from wakestream.operators.model.faults import describe_error
from wakestream.operators.model.ports import Journal
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.recording.event_json import plain_event

AT_ONCE: Final = 500
"""Events that are decided before one commit."""

BREATHE: Final = 20
"""Jobs that are started in one turn of the loop."""

AGAIN: Final = 5.0
"""Seconds after which a journal that had no space is tried again."""

GOODBYE: Final = 5.0
"""Seconds that a worker gets to confirm a cancel from before the restart."""


class Outbox:
    """`state` is written by this alone. `on_ended(job)` hears of every end that is kept, `on_lease_change()` when the
    hub queued a job, gave it a GPU or took note of its end. Used within one loop."""

    def __init__(
        self,
        journal: Journal[f.OutboxFact],
        state: outbox.OutboxState,
        feed: EventFeed,
        on_ended: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.state, self.feed = state, feed
        self._journal, self._on_ended, self._now = journal, on_ended, now
        self._inbox: asyncio.Queue[f.OutboxEvent] = asyncio.Queue()
        self._starting: asyncio.Queue[str] = asyncio.Queue()
        self._tickets = count(1)
        self._asking: dict[int, asyncio.Future[f.Answer]] = {}
        self._owed: list[f.OutboxFact] = []
        self._held: list[f.OutboxCommand] = []
        self._full = False
        self._resumed = frozenset(state.jobs)
        self._running: dict[str, asyncio.Future[Any]] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._client: Client | None = None
        self.on_owed: Callable[[f.WebhookOwed], object] = lambda _: None
        self.on_lease_change: Callable[[], object] = lambda: None
        self.broken: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def serving(self, client: Client) -> AsyncIterator[None]:
        """Take up every unfinished job, and whatever is asked, until the block ends. Jobs are not ended by that."""
        self._client = client
        soon = asyncio.get_running_loop().call_soon  # the job's end may be said in this very turn, and comes first

        def released(job: str) -> None:
            soon(self._inbox.put_nowait, f.Released(job))
            self.on_lease_change()

        client.hub.on_released = released
        self._inbox.put_nowait(f.Started())
        working = [asyncio.create_task(self._work(), name="outbox"), asyncio.create_task(self._start_all())]
        try:
            yield
        finally:
            tasks = [*working, *self._goodbyes]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client = None
            for ticket, asked in self._asking.items():
                if not asked.done():
                    asked.set_result(_stopping(ticket))

    async def submit(
        self,
        job: str,
        video: f.FileStat,
        audio: f.FileStat,
        output: str,
        task_type: str,
        priority: int,
        retry_of: str = "",
    ) -> f.Answer:
        """Hand a job in; it is kept when this returns with status 201."""
        return await self._ask(
            lambda ticket: f.Submitting(ticket, job, video, audio, output, task_type, priority, retry_of)
        )

    async def cancel(self, job: str) -> f.Answer:
        """Ask for a job to stop."""
        return await self._ask(lambda ticket: f.Cancelling(ticket, job))

    def retry_now(self, job: str) -> bool:
        """Try a job that pauses at once; False when it does not pause."""
        return self._client is not None and self._client.retry_now(job)

    def settle(self, settled: f.WebhookSettled) -> None:
        """What became of a webhook that `on_owed` was told of."""
        self._inbox.put_nowait(settled)

    async def _ask(self, event: Callable[[int], f.OutboxEvent]) -> f.Answer:
        ticket = next(self._tickets)
        if self._client is None or self.broken.done():
            return _stopping(ticket)
        asked: asyncio.Future[f.Answer] = asyncio.get_running_loop().create_future()
        self._asking[ticket] = asked
        self._inbox.put_nowait(event(ticket))
        try:
            return await asked
        finally:
            del self._asking[ticket]

    # The one who decides

    async def _work(self) -> None:
        try:
            while True:
                await self._round(await self._next())
        except Exception as error:  # nothing is decided any more, so the program has to end
            if not isinstance(error, JournalError):
                logger.opt(exception=error).error("the outbox cannot go on")
            self.broken.set_exception(error)
            self.broken.exception()  # retrieved: whoever waits for it hears of it, and the log has it anyhow
            for ticket, asked in self._asking.items():
                if not asked.done():
                    asked.set_result(_stopping(ticket))

    async def _next(self) -> list[f.OutboxEvent]:
        """All that has happened; nothing when it is time to try what is owed again."""
        events: list[f.OutboxEvent] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN if self._owed else None):
                events.append(await self._inbox.get())
        while not self._inbox.empty() and len(events) < AT_ONCE:
            events.append(self._inbox.get_nowait())
        return events

    async def _round(self, events: Sequence[f.OutboxEvent]) -> None:
        facts: list[f.OutboxFact] = []
        commands: list[f.OutboxCommand] = []
        for event in events:
            more, then = outbox.DECIDER.decide(self.state, event, self._now())
            for fact in more:
                outbox.DECIDER.evolve(self.state, fact)
            facts += more
            commands += then
        try:
            await self._journal.append([*self._owed, *facts])
        except NoSpace as error:
            commands = self._not_kept(facts, commands, error)
        else:
            commands = [*self._held, *commands]
            self._owed, self._held = [], []
            if self._full:
                self._full = False
                logger.info("there is room on the disk again; the daemon goes on")
        for command in commands:
            self._carry_out(command)

    def _not_kept(
        self, facts: Sequence[f.OutboxFact], commands: Sequence[f.OutboxCommand], error: NoSpace
    ) -> list[f.OutboxCommand]:
        """New jobs are refused, the rest is kept as soon as there is room; what may be done meanwhile."""
        logger.log("DEBUG" if self._full else "ERROR", "{}", error)
        self._full = True
        refused = {fact.job for fact in facts if isinstance(fact, f.JobAccepted)}
        for job in sorted(refused):
            outbox.DECIDER.evolve(self.state, f.JobForgotten(job, self._now()))
        # Of a refused job nothing is kept, but that an older one of its name had to make room.
        self._owed += [fact for fact in facts if fact.job not in refused or isinstance(fact, f.JobForgotten)]
        now: list[f.OutboxCommand] = []
        for command in commands:
            if isinstance(command, f.Answer) and command.job in refused:
                now.append(f.Answer(command.ticket, 507, command.job, error.code, str(error)))
            elif isinstance(command, f.Tell | f.Notify):
                self._held.append(command)
            elif isinstance(command, f.Answer) or command.job not in refused:
                now.append(command)
        return now

    # What was decided

    def _carry_out(self, command: f.OutboxCommand) -> None:
        match command:
            case f.Answer():
                self._answer(command)
            case f.Start(job):
                self._starting.put_nowait(job)
            case f.Stop(job):
                self._stop(job)
            case f.Release(job, cancelled):
                self._release(job, cancelled)
            case f.CancelNotice():
                self._say(self._goodbye(command))
            case f.Notify(_, owed):
                self.on_owed(owed)
            case f.Tell(job, outcome):
                _log(job, outcome)
                self.feed.publish(job, {"at": self._now(), **self._plain_end(job, outcome)})
                self._on_ended(job)

    def _plain_end(self, job: str, outcome: e.JobEvent) -> dict[str, Any]:
        entry = self.state.jobs.get(job)  # none where the disk had no room for it
        return outbox.plain_outcome(entry.ended) if entry is not None and entry.ended else plain_event(outcome)

    def _answer(self, answer: f.Answer) -> None:
        asked = self._asking.get(answer.ticket)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    async def _start_all(self) -> None:
        """One after the other: thousands may be due at once, and others want to be heard meanwhile."""
        for number in count(1):
            job = await self._starting.get()
            try:
                self._start(job)
            except Exception as error:
                self._broke(job, error)
            if number % BREATHE == 0:
                await asyncio.sleep(0)

    def _start(self, job: str) -> None:
        entry = self.state.jobs.get(job)
        if self._client is None or entry is None or entry.state != "open":  # it was cancelled meanwhile
            return
        if job not in self._resumed:
            self.feed.publish(job, {"event": "accepted", "at": entry.accepted.at})
            logger.bind(job=job, stage="outbox").info("accepted, for {}", entry.accepted.output)
        run = outbox.job_of(entry)
        if entry.stage is not None and entry.stage.task:
            self._client.resume(run, entry.stage.worker, entry.stage.task)
        running = self._running[job] = self._client.start(run, lambda event: self._show(job, event))
        running.add_done_callback(lambda _: self._over(job))

    def _over(self, job: str) -> None:
        running = self._running.pop(job)
        error = None if running.cancelled() else running.exception()
        if error is not None:
            self._broke(job, error)

    def _broke(self, job: str, error: BaseException) -> None:
        logger.bind(job=job).opt(exception=error).error("the job's pipeline is broken")
        self._inbox.put_nowait(f.Happened(job, e.Failed(describe_error(error), "internal")))

    def _stop(self, job: str) -> None:
        if self._client is not None and not self._client.cancel(job):
            if job in self._resumed:
                self._client.hub.end_job(job, cancelled=True)
            self._let_go(job, e.Cancelled())
            self._inbox.put_nowait(f.Happened(job, e.Cancelled()))

    def _show(self, job: str, event: e.JobEvent) -> None:
        """One event of a job's pipeline. Its end is told when it is kept, the rest at once."""
        if is_outcome(event):
            mtime_ns = _mtime_ns(event.path) if isinstance(event, e.Done) else 0
            self._inbox.put_nowait(f.Happened(job, event, mtime_ns))
            self._let_go(job, event)
            return
        self.feed.publish(job, {"at": self._now(), **plain_event(event)})
        if isinstance(event, e.Queued | e.Granted):
            self.on_lease_change()
        happened = f.Happened(job, event)
        if outbox.DECIDER.decide(self.state, happened, 0.0)[0]:
            self._inbox.put_nowait(happened)

    def _let_go(self, job: str, event: e.JobEvent) -> None:
        """A job from before the restart may be at a worker that this run knows nothing of."""
        if job not in self._resumed or self._client is None:
            return
        stage = self.state.jobs[job].stage
        if isinstance(event, e.Cancelled) and stage is not None and stage.task:
            self._say(self._tell_worker(stage.worker, stage.task, job))

    def _release(self, job: str, cancelled: bool) -> None:
        if self._client is not None:
            self._client.hub.end_job(job, cancelled=cancelled)

    def _say(self, goodbye: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(goodbye, name="farewell")
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)

    async def _goodbye(self, command: f.CancelNotice) -> None:
        if self._client is not None:
            self._client.hub.end_job(command.job, cancelled=True)
            await self._tell_worker(command.worker, command.task, command.job)
        self._inbox.put_nowait(f.Happened(command.job, e.Cancelled()))

    async def _tell_worker(self, url: str, task: str, job: str) -> None:
        if self._client is None or not task:
            return
        if (entry := self.state.jobs.get(job)) is not None:
            remove_part(Path(entry.accepted.output), task)
        with contextlib.suppress(WakestreamError, TimeoutError):  # the hub tells it too
            async with asyncio.timeout(GOODBYE):
                worker = self._client.workers.at(url)
                await worker.health()  # it tells whether it knows cancels
                await worker.cancel(task, job)


def _stopping(ticket: int) -> f.Answer:
    return f.Answer(ticket, 503, "", "stopping", "the daemon is stopping; ask again when it runs")


def _log(job: str, outcome: e.JobEvent) -> None:
    """How a job has ended, for who reads the log."""
    log = logger.bind(job=job, stage="outbox")
    match outcome:
        case e.Done():
            log.info("done: {} ({} bytes)", outcome.path, outcome.size)
        case e.Failed():
            log.warning("failed ({}): {}", outcome.code, outcome.why)
        case e.TimedOut():
            log.warning("timed out in {}: {}", outcome.stage, outcome.why or f"nothing within {outcome.seconds:g} s")
        case e.Cancelled():
            log.info("cancelled: {}", outcome.why)


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
