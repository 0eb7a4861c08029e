"""The program of the outbox: it decides on events, writes the facts to the journal and then executes the commands."""

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
from msgspec.structs import replace

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
from wakestream.streams.outbox.state import OutboxState, job_of, plain_outcome
from wakestream.streams.recording.event_json import plain_event

MAX_BATCH: Final = 500
"""Events per commit, at most."""

STARTS_PER_TURN: Final = 20
"""Jobs to start in one turn of the event loop."""

RETRY_AFTER: Final = 5.0
"""Seconds until the next attempt to write to a full disk."""

CANCEL_WITHIN: Final = 5.0
"""Timeout in seconds for a cancel at a worker."""


class Outbox:
    """Only this class writes to `state`. It calls `on_ended(job)` after each end that was journaled, and
    `on_lease_change()` when the hub queued a job, granted it a GPU or confirmed its end. Use it in one event loop."""

    def __init__(
        self,
        journal: Journal[f.OutboxFact],
        state: OutboxState,
        feed: EventFeed,
        on_ended: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.state, self.feed = state, feed
        self._journal, self._on_ended, self._now = journal, on_ended, now
        self._inbox: asyncio.Queue[f.OutboxEvent] = asyncio.Queue()
        self._starting: asyncio.Queue[str] = asyncio.Queue()
        self._tickets = count(1)
        self._requests: dict[int, asyncio.Future[f.Answer]] = {}
        self._pending: list[f.OutboxFact] = []
        self._held: list[f.OutboxCommand] = []
        self._full = False
        self._resumed = frozenset(state.jobs)
        self._running: dict[str, asyncio.Future[Any]] = {}
        self._cancels: set[asyncio.Task[None]] = set()
        self._client: Client | None = None
        self.on_webhook: Callable[[f.WebhookOwed], object] = lambda _: None
        self.on_lease_change: Callable[[], object] = lambda: None
        self.broken: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def serving(self, client: Client) -> AsyncIterator[None]:
        """Run all unfinished jobs and answer requests until the block ends. A restart continues the jobs."""
        self._client = client
        soon = asyncio.get_running_loop().call_soon  # after the job's end, which may come in this turn

        def released(job: str) -> None:
            soon(self._inbox.put_nowait, f.Released(job))
            self.on_lease_change()

        client.hub.on_released = released
        self._inbox.put_nowait(f.DaemonStarted())
        working = [asyncio.create_task(self._work(), name="outbox"), asyncio.create_task(self._start_all())]
        try:
            yield
        finally:
            tasks = [*working, *self._cancels]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client = None
            for ticket, asked in self._requests.items():
                if not asked.done():
                    asked.set_result(_stopping(ticket))

    async def submit(self, job: f.Submitting) -> f.Answer:
        """Submit a job; its `ticket` is set here. With status 201 it is in the journal."""
        return await self._ask(lambda ticket: replace(job, ticket=ticket))

    async def cancel(self, job: str) -> f.Answer:
        """Request that a job stops."""
        return await self._ask(lambda ticket: f.Cancelling(ticket, job))

    def retry_now(self, job: str) -> bool:
        """End the pause of a job before its next attempt; False when it does not pause."""
        return self._client is not None and self._client.retry_now(job)

    def settle(self, settled: f.WebhookSettled) -> None:
        """Report the outcome of a webhook that was passed to `on_webhook`."""
        self._inbox.put_nowait(settled)

    async def _ask(self, event: Callable[[int], f.OutboxEvent]) -> f.Answer:
        ticket = next(self._tickets)
        if self._client is None or self.broken.done():
            return _stopping(ticket)
        asked: asyncio.Future[f.Answer] = asyncio.get_running_loop().create_future()
        self._requests[ticket] = asked
        self._inbox.put_nowait(event(ticket))
        try:
            return await asked
        finally:
            del self._requests[ticket]

    # Decisions

    async def _work(self) -> None:
        try:
            while True:
                await self._round(await self._next())
        except Exception as error:  # without decisions the program has to end
            if not isinstance(error, JournalError):
                logger.opt(exception=error).error("the outbox cannot go on")
            self.broken.set_exception(error)
            self.broken.exception()  # retrieved, so that asyncio does not log it once more
            for ticket, asked in self._requests.items():
                if not asked.done():
                    asked.set_result(_stopping(ticket))

    async def _next(self) -> list[f.OutboxEvent]:
        """All events so far; none when it is time to journal pending facts again."""
        events: list[f.OutboxEvent] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_AFTER if self._pending else None):
                events.append(await self._inbox.get())
        while not self._inbox.empty() and len(events) < MAX_BATCH:
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
            await self._journal.append([*self._pending, *facts])
        except NoSpace as error:
            commands = self._on_full_disk(facts, commands, error)
        else:
            commands = [*self._held, *commands]
            self._pending, self._held = [], []
            if self._full:
                self._full = False
                logger.info("there is room on the disk again; the daemon goes on")
        for command in commands:
            self._execute(command)

    def _on_full_disk(
        self, facts: Sequence[f.OutboxFact], commands: Sequence[f.OutboxCommand], error: NoSpace
    ) -> list[f.OutboxCommand]:
        """Refuse new jobs and keep the other facts for the next attempt; returns the commands to execute now."""
        logger.log("DEBUG" if self._full else "ERROR", "{}", error)
        self._full = True
        refused = {fact.job for fact in facts if isinstance(fact, f.JobAccepted)}
        for job in sorted(refused):
            outbox.DECIDER.evolve(self.state, f.JobForgotten(job, self._now()))
        # Of a refused job only the removal of older jobs remains.
        self._pending += [fact for fact in facts if fact.job not in refused or isinstance(fact, f.JobForgotten)]
        now: list[f.OutboxCommand] = []
        for command in commands:
            if isinstance(command, f.Answer) and command.job in refused:
                now.append(f.Answer(command.ticket, 507, command.job, error.code, str(error)))
            elif isinstance(command, f.Tell | f.Notify):
                self._held.append(command)
            elif isinstance(command, f.Answer) or command.job not in refused:
                now.append(command)
        return now

    # Commands

    def _execute(self, command: f.OutboxCommand) -> None:
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
                self._start_cancel(self._repeat_cancel(command))
            case f.Notify(_, webhook):
                self.on_webhook(webhook)
            case f.Tell(job, outcome):
                _log(job, outcome)
                self.feed.publish(job, {"at": self._now(), **self._plain_end(job, outcome)})
                self._on_ended(job)

    def _plain_end(self, job: str, outcome: e.JobEvent) -> dict[str, Any]:
        entry = self.state.jobs.get(job)  # None when the disk had no room for it
        return plain_outcome(entry.ended) if entry is not None and entry.ended else plain_event(outcome)

    def _answer(self, answer: f.Answer) -> None:
        asked = self._requests.get(answer.ticket)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    async def _start_all(self) -> None:
        """Start jobs one after the other, with pauses: thousands may be due at once, and requests must not wait."""
        for number in count(1):
            job = await self._starting.get()
            try:
                self._start(job)
            except Exception as error:
                self._pipeline_failed(job, error)
            if number % STARTS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _start(self, job: str) -> None:
        entry = self.state.jobs.get(job)
        if self._client is None or entry is None or entry.state != "open":  # cancelled in the meantime
            return
        if job not in self._resumed:
            self.feed.publish(job, {"event": "accepted", "at": entry.accepted.at})
            logger.bind(job=job, stage="outbox").info("accepted, for {}", entry.accepted.output)
        run = job_of(entry)
        if entry.stage is not None and entry.stage.task:
            self._client.resume(run, entry.stage.worker, entry.stage.task)
        running = self._running[job] = self._client.start(run, lambda event: self._on_event(job, event))
        running.add_done_callback(lambda _: self._pipeline_ended(job))

    def _pipeline_ended(self, job: str) -> None:
        running = self._running.pop(job)
        error = None if running.cancelled() else running.exception()
        if error is not None:
            self._pipeline_failed(job, error)

    def _pipeline_failed(self, job: str, error: BaseException) -> None:
        logger.bind(job=job).opt(exception=error).error("the job's pipeline is broken")
        self._inbox.put_nowait(f.Happened(job, e.Failed(describe_error(error), "internal")))

    def _stop(self, job: str) -> None:
        if self._client is not None and not self._client.cancel(job):
            if job in self._resumed:
                self._client.hub.end_job(job, cancelled=True)
            self._cancel_at_worker(job, e.Cancelled())
            self._inbox.put_nowait(f.Happened(job, e.Cancelled()))

    def _on_event(self, job: str, event: e.JobEvent) -> None:
        """Handle an event of a job's pipeline. Its end is published after it was journaled, the rest at once."""
        if is_outcome(event):
            mtime_ns = _mtime_ns(event.path) if isinstance(event, e.Done) else 0
            self._inbox.put_nowait(f.Happened(job, event, mtime_ns))
            self._cancel_at_worker(job, event)
            return
        self.feed.publish(job, {"at": self._now(), **plain_event(event)})
        if isinstance(event, e.Queued | e.Granted):
            self.on_lease_change()
        happened = f.Happened(job, event)
        if outbox.DECIDER.decide(self.state, happened, 0.0)[0]:
            self._inbox.put_nowait(happened)

    def _cancel_at_worker(self, job: str, event: e.JobEvent) -> None:
        """Cancel the task of a job from before the restart: this run's pipeline does not know its worker."""
        if job not in self._resumed or self._client is None:
            return
        stage = self.state.jobs[job].stage
        if isinstance(event, e.Cancelled) and stage is not None and stage.task:
            self._start_cancel(self._cancel_task(stage.worker, stage.task, job))

    def _release(self, job: str, cancelled: bool) -> None:
        if self._client is not None:
            self._client.hub.end_job(job, cancelled=cancelled)

    def _start_cancel(self, cancel: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(cancel, name="cancel")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _repeat_cancel(self, command: f.CancelNotice) -> None:
        if self._client is not None:
            self._client.hub.end_job(command.job, cancelled=True)
            await self._cancel_task(command.worker, command.task, command.job)
        self._inbox.put_nowait(f.Happened(command.job, e.Cancelled()))

    async def _cancel_task(self, url: str, task: str, job: str) -> None:
        if self._client is None or not task:
            return
        if (entry := self.state.jobs.get(job)) is not None:
            remove_part(Path(entry.accepted.output), task)
        with contextlib.suppress(WakestreamError, TimeoutError):  # the hub sends the worker a cancel as well
            async with asyncio.timeout(CANCEL_WITHIN):
                worker = self._client.workers.at(url)
                await worker.health()  # the answer says whether the worker supports cancels
                await worker.cancel(task, job)


def _stopping(ticket: int) -> f.Answer:
    return f.Answer(ticket, 503, "", "stopping", "the daemon is stopping; try again when it runs")


def _log(job: str, outcome: e.JobEvent) -> None:
    """Log the outcome of a job."""
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
