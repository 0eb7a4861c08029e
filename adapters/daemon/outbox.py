"""The program of the outbox: it turns requests and events of pipelines into events, and executes the commands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from loguru import logger
from msgspec.structs import replace

from wakestream.adapters.client.client import Client
from wakestream.adapters.daemon.event_feed import EventFeed
from wakestream.adapters.disk.part_file import remove_part
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.adapters.runtime.tasks import background, end, supervised
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.ports import Journal
from wakestream.operators.model.user_code import describe_error
from wakestream.streams.jobs.job_order import Order
from wakestream.streams.outbox import chains, outbox
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import OutboxState, job_of, plain_outcome
from wakestream.streams.recording.event_json import plain_event
from wakestream.streams.webhooks import WebhookOwed, WebhookSettled

STARTS_PER_TURN: Final = 20
"""Jobs to start in one turn of the event loop."""

CANCEL_WITHIN: Final = 5.0
"""Timeout in seconds for a cancel at a worker."""


class Outbox:
    """It calls `on_ended(job)` after each end that was journaled, `on_released(job)` when the hub confirmed it, and
    `on_lease_change()` also when it queued a job or granted it a GPU. Use it in one event loop.

    `hidden` returns the parameters of a job without their secret values; `on_settled()` says that values of jobs that
    are not in `params()` are not needed any more.
    """

    def __init__(
        self,
        journal: Journal[f.OutboxFact],
        state: OutboxState,
        feed: EventFeed,
        on_ended: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.feed = feed
        self.on_ended, self._now = on_ended, now
        self.runner: DeciderRunner[OutboxState, f.OutboxEvent, f.OutboxFact, f.OutboxCommand] = DeciderRunner(
            "the daemon", outbox.DECIDER, state, journal, self._execute, clock=now, when_full=self._when_full
        )
        self.runner.failed.add_done_callback(self._refuse_requests)
        self._starting: asyncio.Queue[str] = asyncio.Queue()
        self._tickets = count(1)
        self._requests: dict[int, asyncio.Future[f.Answer]] = {}
        self._resumed = frozenset(state.jobs)
        self._running: dict[str, asyncio.Future[Any]] = {}
        self._cancels: set[asyncio.Task[None]] = set()
        self._by_hand = any(state.jobs[job].moved for job in state.queue)
        self._unplaced = set(state.queue) if self._by_hand else set[str]()  # jobs that get their place when they start
        self._unsorted: list[str] = []  # those of them that have started
        self._client: Client | None = None
        self._submitting: list[f.Submitting] = []
        self.hidden: Callable[[str, Mapping[str, Any]], dict[str, Any]] = lambda _, params: dict(params)
        self.on_settled: Callable[[], object] = lambda: None
        self.on_webhook: Callable[[WebhookOwed], object] = lambda _: None
        self.on_lease_change: Callable[[], object] = lambda: None
        self.on_released: Callable[[str], object] = lambda _: None
        self.on_moved: Callable[[str], object] = lambda _: None

    @property
    def state(self) -> OutboxState:
        """What the daemon knows; read only."""
        return self.runner.state

    @asynccontextmanager
    async def serving(self, client: Client) -> AsyncIterator[None]:
        """Run all unfinished jobs and answer requests until the block ends. A restart continues the jobs."""
        self._client = client
        soon = asyncio.get_running_loop().call_soon  # after the job's end, which may come in this turn

        def released(job: str) -> None:
            soon(self.runner.report, f.Released(job))
            self.on_lease_change()
            self.on_released(job)

        client.hub.on_released = released
        self.runner.report(f.DaemonStarted())
        async with supervised("the daemon") as tasks:
            tasks.needs("the journal", self.runner.ended)
            tasks.needs("the start of jobs", self._start_all)
            try:
                yield
            finally:
                await self.runner.close()
                await end(*self._cancels)
                self._client = None

    async def submit(self, job: f.Submitting) -> f.Answer:
        """Submit a job; its `ticket` is set here. With status 201 it is in the journal."""
        asked = job.asked
        job = replace(job, asked=replace(asked, params=self.hidden(asked.kind, asked.params)))
        self._submitting.append(job)
        try:
            return await self._ask(lambda ticket: replace(job, ticket=ticket))
        finally:
            self._submitting.remove(job)
            self.on_settled()

    async def confirmed(self, job: f.JobAccepted) -> f.Answer:
        """Answer for a job that is known already: with status 200 it is in the journal."""
        return await self._ask(lambda ticket: f.Submitting(ticket, job))

    def params(self) -> Iterator[Mapping[str, Any]]:
        """The parameters of all jobs that have not ended."""
        yield from (job.asked.params for job in self._submitting)
        yield from (self.state.jobs[job].accepted.params for job in self.state.queue)

    async def cancel(self, job: str) -> f.Answer:
        """Request that a job stops."""
        return await self._ask(lambda ticket: f.Cancelling(ticket, job))

    async def move(self, job: str, before: str = "", *, after: str = "", first: bool = False) -> f.Answer:
        """Move a job that waits before or behind another one; else to the end, or with `first` to the top."""
        return await self._ask(lambda ticket: f.Moving(ticket, job, before, first, after))

    def retry_now(self, job: str) -> bool:
        """End the pause of a job before its next attempt; False when it does not pause."""
        return self._client is not None and self._client.retry_now(job)

    def report_webhook(self, settled: WebhookSettled) -> None:
        """Report the outcome of a webhook that was passed to `on_webhook`."""
        self.runner.report(settled)

    async def _ask(self, event: Callable[[int], f.OutboxEvent]) -> f.Answer:
        ticket = next(self._tickets)
        if self._client is None or self.runner.failed.done():
            return _stopping(ticket)
        asked: asyncio.Future[f.Answer] = asyncio.get_running_loop().create_future()
        self._requests[ticket] = asked
        self.runner.report(event(ticket))
        try:
            return await asked
        finally:
            del self._requests[ticket]

    def _refuse_requests(self, _: object) -> None:
        for ticket in self._requests:
            self._answer(_stopping(ticket))

    def _when_full(
        self, event: f.OutboxEvent, rest: f.OutboxDecision, error: WakestreamError
    ) -> f.OutboxDecision | None:
        """Refuse new jobs, and cancel jobs at once. An end is published when it is on the disk."""
        if not isinstance(event, f.Submitting | f.Cancelling | f.Moving):
            return None
        if any(isinstance(fact, f.JobAccepted) for fact in rest.facts):
            self.runner.apply(f.JobForgotten(event.job, self._now()))
            asyncio.get_running_loop().call_soon(self._end_those_after, event.job, error)
        accepted = any(isinstance(command, f.Answer) and command.status < 300 for command in rest.commands)
        if not accepted or event.job in self.state.jobs:
            return rest
        # Of a refused job only the removal of older jobs remains.
        facts: list[f.OutboxFact] = [fact for fact in rest.facts if isinstance(fact, f.JobForgotten)]
        return f.OutboxDecision(facts, [f.Answer(event.ticket, 507, event.job, error.code, str(error))])

    def _end_those_after(self, job: str, error: WakestreamError) -> None:
        """End the jobs that were accepted to follow a job before it was refused."""
        why = chains.why(f.JobEnded(job, "failed", self._now(), str(error)))
        for other in [*self.state.after.get(job, ())]:
            self.runner.report(f.Happened(other, e.Failed(why, chains.FAILED)))

    # Commands

    def _execute(self, command: f.OutboxCommand) -> None:
        match command:
            case f.Answer():
                self._answer(command)
            case f.Start(job):
                self._starting.put_nowait(job)
            case f.Stop(job):
                if self._client is not None and not self._client.cancel(job):
                    if job in self._resumed:
                        self._client.hub.end_job(job, cancelled=True)
                    self._cancel_at_worker(job, e.Cancelled())
                    self.runner.report(f.Happened(job, e.Cancelled()))
            case f.Release(job, cancelled):
                if self._client is not None:
                    self._client.hub.end_job(job, cancelled=cancelled)
            case f.CancelNotice():
                self._start_cancel(self._repeat_cancel(command))
            case f.Notify(_, webhook):
                self.on_webhook(webhook)
            case f.Hold() | f.Tell() | f.Reorder():
                self._publish(command)

    def _publish(self, command: f.Hold | f.Tell | f.Reorder) -> None:
        if isinstance(command, f.Reorder):
            self._by_hand = True
            self._unplaced = set(self.state.queue) - self._running.keys()
            if command.job in self._running:
                self._unsorted.append(command.job)
            if self._starting.empty():
                self._sort()
            self.on_moved(command.job)
            return
        if isinstance(command, f.Hold):
            if self._by_hand:
                self._unplaced.add(command.job)
            note = e.Note(f"waits for {', '.join(command.after)}", {"after": list(command.after)})
            self.feed.publish(command.job, {"at": self._now(), **plain_event(note)})
            return
        _log(command.job, command.outcome)
        entry = self.state.jobs.get(command.job)  # None when the disk had no room for it
        ended = plain_outcome(entry.ended) if entry is not None and entry.ended else plain_event(command.outcome)
        self.feed.publish(command.job, {"at": self._now(), **ended})
        self.on_ended(command.job)
        self.on_settled()

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
            if self._unsorted and self._starting.empty():
                self._sort()
            if number % STARTS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _start(self, job: str) -> None:
        entry = self.state.jobs.get(job)
        if self._client is None or entry is None or entry.state != "open":  # cancelled in the meantime
            return
        if job not in self._resumed:
            self.feed.publish(job, {"event": "accepted", "at": entry.accepted.at})
            logger.bind(job=job, stage="outbox").info("accepted, for {}", entry.accepted.output)
        run = job_of(entry, self.state.jobs)
        if entry.stage is not None and entry.stage.task:
            self._client.resume(run, entry.stage.worker, entry.stage.task)
        running = self._running[job] = self._client.start(run, partial(self._on_event, job))
        running.add_done_callback(partial(self._pipeline_ended, job))
        if job in self._unplaced:
            self._unplaced.discard(job)
            self._unsorted.append(job)

    def _sort(self) -> None:
        """Tell the pipelines before which job one runs; after the start of many, the whole order, which is slow."""
        if self._client is not None and len(self._unsorted) > 1:
            jobs = tuple(job for job in self.state.queue if job in self._running)
            self._client.arrange(Order(jobs, tuple(self.state.jobs[job].priority for job in jobs)))
        elif self._client is not None and self._unsorted and (job := self._unsorted[0]) in self.state.queue:
            before = next((behind for behind in self.state.queue.behind(job) if behind in self._running), "")
            self._client.move(job, before, self.state.jobs[job].priority)
        self._unsorted.clear()

    def _pipeline_ended(self, job: str, _: object) -> None:
        running = self._running.pop(job)
        error = None if running.cancelled() else running.exception()
        if error is not None:
            self._pipeline_failed(job, error)

    def _pipeline_failed(self, job: str, error: BaseException) -> None:
        logger.bind(job=job).opt(exception=error).error("the job's pipeline is broken")
        self.runner.report(f.Happened(job, e.Failed(describe_error(error), "internal")))

    def _on_event(self, job: str, event: e.JobEvent) -> None:
        """Handle an event of a job's pipeline. Its end is published after it was journaled, the rest at once."""
        if is_outcome(event):
            mtime_ns = 0
            with contextlib.suppress(OSError):
                mtime_ns = event.path.stat().st_mtime_ns if isinstance(event, e.Done) else 0
            self.runner.report(f.Happened(job, event, mtime_ns))
            self._cancel_at_worker(job, event)
            return
        self.feed.publish(job, {"at": self._now(), **plain_event(event)})
        if isinstance(event, e.Queued | e.Granted):
            self.on_lease_change()
        self.runner.report(f.Happened(job, event))

    def _cancel_at_worker(self, job: str, event: e.JobEvent) -> None:
        """Cancel the task of a job from before the restart: this run's pipeline does not know its worker."""
        if job not in self._resumed or self._client is None:
            return
        stage = self.state.jobs[job].stage
        if isinstance(event, e.Cancelled) and stage is not None and stage.task:
            self._start_cancel(self._cancel_task(stage.worker, stage.task, job))

    def _start_cancel(self, cancel: Coroutine[Any, Any, None]) -> None:
        task = background("a cancel", cancel)
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _repeat_cancel(self, command: f.CancelNotice) -> None:
        if self._client is not None:
            self._client.hub.end_job(command.job, cancelled=True)
            await self._cancel_task(command.worker, command.task, command.job)
        self.runner.report(f.Happened(command.job, e.Cancelled()))

    async def _cancel_task(self, url: str, task: str, job: str) -> None:
        if self._client is None or not task:
            return
        if (entry := self.state.jobs.get(job)) is not None:
            for path in entry.accepted.outputs.values():
                remove_part(Path(path), task)
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
