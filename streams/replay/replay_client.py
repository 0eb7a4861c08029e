"""Run the pipelines of a client's log again: frames and results of effects come from the log, at its times.

On a virtual loop (`wakestream.adapters.testing.virtual_loop`), thirty minutes take milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from reactivex import abc

from wakestream.operators.model.events import Job
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.streams.jobs.daemon_pipeline import pipeline_of
from wakestream.streams.jobs.hub_client import HubClient, HubEvent
from wakestream.streams.jobs.job_runner import Daemon, job_random
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import TICK, Log, MemoryTap, Row, ended_jobs
from wakestream.streams.replay.input_rows import command_of, job_from, link_event, row_errors
from wakestream.streams.replay.recorded_ports import Answers, Watch, effects_of, recorded_world
from wakestream.streams.replay.row_order import RowOrder

OURS = frozenset({"gpu.job.submit", "gpu.job.cancel", "gpu.job.done"})
"""Frames that jobs send. The other frames of a client's log come from the link or from a user."""


async def replay_client(
    log: Log, policy: Policy | None = None, build: Build = job_pipeline, watch: Watch | None = None
) -> Log:
    """Run a client's jobs again, in the time of the running loop.

    A job without an outcome in the log is followed to the end of the log.

    Args:
        log: A client's log.
        policy: Another policy than the recorded one.
        build: Makes the pipeline of a job.
        watch: Collects what happens, for the case that the replay does not end.

    Returns:
        The log of what the client does now.

    Raises:
        UnusableLog: A row cannot be read.
    """
    policy = policy or config_from(Policy(), log.header.config.get("policy", {}))
    return await _Replay(log, policy, build, watch or Watch()).run()


class _Replay:
    def __init__(self, log: Log, policy: Policy, build: Build, watch: Watch) -> None:
        self.log, self.watch = log, watch
        self.known = effects_of(log)
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time()
        self.watch.clock = lambda: self.loop.time() - self.start
        self.row_order = RowOrder(self.loop, log.rows)
        self.tap = MemoryTap(self.watch.clock)
        self.scheduler = LoopScheduler(self.loop)
        self.hub = HubClient(self._send, self._fault, **client_config(log))
        self.daemon = Daemon(self._world, policy, tap=self.tap, build=pipeline_of(log, build))
        self.awaited: set[str] = set()
        self.running: list[abc.DisposableBase] = []
        self.ended = False
        self.closed = False
        self.over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> Log:
        accepted = {row.job for row in self.log.rows if row.label == "job.accept" and row.job}
        drives = [row for row in self.log.rows if row.dir in ("conn", "in") or _by_hand(row, accepted)]
        self.watch.open.update(accepted)
        self.awaited = ended_jobs(self.log) & self.watch.open
        if accepted or any(row.dir == "out" for row in drives):
            for row in drives:
                self.row_order.plan(row.t, self._drive, row)
            self.loop.call_at(self.start + self.log.rows[-1].t + TICK, self._log_ends)
            before = self.loop.get_exception_handler()
            self.loop.set_exception_handler(self._escaped)
            try:
                await self.over
            finally:
                self.loop.set_exception_handler(before)
                self.row_order.close()
                self.closed = True  # the recorded program did not send what disposing sends now
                for running in self.running:
                    running.dispose()
        await self.scheduler.close()
        return Log(self.log.header, tuple(self.tap.rows))

    def _world(self, job: Job) -> World:
        answers = Answers(self.known, job.id, self.row_order.until, self.watch, self.tap)
        return recorded_world(self.hub, answers, job_random(self.log.header.seed, job))

    def _send(self, message: m.Message) -> bool:
        if not self.closed:
            if isinstance(message, m.Submit):
                self.watch.asks(message.request_id, message.TYPE)
            self.tap.frame("out", message)
        return True

    def _fault(self, error: Exception, _: Any) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def _escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error in a callback of the loop: the replay would otherwise never end."""
        error = context.get("exception")
        if isinstance(error, Exception):
            self._fault(error, None)
        else:
            loop.default_exception_handler(context)

    def _drive(self, row: Row) -> None:
        try:
            with row_errors(row):
                happen = self._action(row)
            happen()
        except Exception as error:  # raised in a callback, it would not end the replay
            self._fault(error, row)

    def _action(self, row: Row) -> Callable[[], object]:
        """The call that a row stands for."""
        if row.label == "job.accept":
            return partial(self._accept, job_from(row))
        if (command := command_of(self.daemon, row)) is not None:
            return command
        if row.dir == "conn":
            return partial(self._feed, row, link_event(row))
        message = wire.from_frame(row.data, strict=False)
        return partial(self._send, message) if row.dir == "out" else partial(self._feed, row, message)

    def _feed(self, row: Row, event: HubEvent) -> None:
        self.tap.row(row.dir, row.label, row.data, row.job)
        self.hub.feed(event)

    def _accept(self, job: Job) -> None:
        def on_completed() -> None:
            self.watch.open.discard(job.id)
            self.awaited.discard(job.id)
            self._perhaps_over(not self.watch.open)

        self.watch.seen.setdefault(job.id, [])
        running = self.daemon.events(job).subscribe(
            partial(self.watch.sees, job.id),
            on_error=lambda error: self._fault(error, job),
            on_completed=on_completed,
            scheduler=self.scheduler,
        )
        self.running.append(running)

    def _log_ends(self) -> None:
        self.ended = True
        self._perhaps_over(True)

    def _perhaps_over(self, over: bool) -> None:
        if (over or self.ended) and not self.awaited and not self.over.done():
            self.over.set_result(None)


def _by_hand(row: Row, accepted: Collection[str]) -> bool:
    """Whether no job of this log sends the frame: a user did, or a job that began before the log."""
    return row.dir == "out" and row.label in OURS and row.job not in accepted


def client_config(log: Log) -> dict[str, Any]:
    """The settings of the hub client, from the header of a client's log."""
    config = log.header.config
    return {
        "needs": frozenset(config.get("needs", ())),
        "traced": bool(config.get("traced")),
        "lasting": bool(config.get("lasting")),
    }
