"""A client's log drives the same pipelines again: its frames come in, its effects answer, time is the loop's.

Run it on a virtual loop (`wakestream.adapters.virtual_loop`) and thirty minutes take milliseconds.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from wakestream.operators.events import Job
from wakestream.operators.flow.scheduler import LoopScheduler
from wakestream.operators.policy import Policy
from wakestream.operators.ports import LinkDown, LinkUp
from wakestream.streams import messages as m
from wakestream.streams import wire
from wakestream.streams.config_json import config_from
from wakestream.streams.daemon import Build, Daemon, job_random
from wakestream.streams.hub_client import HubClient
from wakestream.streams.job import World, job_pipeline
from wakestream.streams.logged_world import Answers, LoggedFiles, LoggedWorkers
from wakestream.streams.recording import Log, MemoryTap, Row

OURS = frozenset({"gpu.job.submit", "gpu.job.cancel", "gpu.job.done"})
"""Frames that jobs send; the others of a client's log are the link's own, or were sent by hand."""


async def replay_client(log: Log, policy: Policy | None = None, build: Build = job_pipeline) -> Log:
    """Feed the log of a client to the same program, at the log's own times; returns the log of what it does now.

    Runs on the loop's time: on a virtual loop without waiting. `policy` is the one that the log was recorded under,
    unless another is given to ask "what if"; `build` is the pipeline of its jobs.
    """
    return await _Replay(log, policy or config_from(Policy(), log.header.config.get("policy", {})), build).run()


class _Replay:
    def __init__(self, log: Log, policy: Policy, build: Build) -> None:
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time()
        self.tap = MemoryTap(lambda: self.loop.time() - self.start)
        self.scheduler = LoopScheduler(self.loop)
        self.hub = HubClient(self._send, self._fault)
        self.daemon = Daemon(self._world, policy, tap=self.tap, build=build)
        self.open: set[str] = set()
        self.over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> Log:
        drives = [row for row in self.log.rows if row.dir in ("conn", "in")]
        self.open = {row.job for row in drives if row.label == "job.accept" and row.job}
        if self.open:
            for row in drives:
                self.loop.call_at(self.start + row.t, self._drive, row)
            await self.over
        await self.scheduler.close()
        return Log(self.log.header, tuple(self.tap.rows))

    def _world(self, job: Job) -> World:
        answers = Answers(self.log, job.id, self._until)
        return World(self.hub, LoggedWorkers(answers), LoggedFiles(answers), job_random(self.log.header.seed, job))

    def _send(self, message: m.Message) -> bool:
        self.tap.frame("out", message)
        return True

    def _fault(self, error: Exception, _: Any) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def _drive(self, row: Row) -> None:
        if row.dir == "conn":
            self.tap.row("conn", row.label, row.data)
            self.hub.feed(_link(row))
        elif row.label == "job.accept":
            self._accept(row)
        elif row.label == "job.cancel":
            self.daemon.cancel(str(row.job))
        else:
            self.tap.row("in", row.label, row.data, row.job)
            self.hub.feed(wire.from_frame(row.data, strict=False))

    def _accept(self, row: Row) -> None:
        job = _job(row)

        def on_completed() -> None:
            self.open.discard(job.id)
            if not self.open and not self.over.done():
                self.over.set_result(None)

        self.daemon.events(job).subscribe(
            on_error=lambda error: self._fault(error, job), on_completed=on_completed, scheduler=self.scheduler
        )

    async def _until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, self.start + t - self.loop.time()))


def _link(row: Row) -> LinkUp | LinkDown:
    if row.label == "up":
        return LinkUp(frozenset(row.data.get("features", ())))
    return LinkDown(row.data.get("why", ""), row.data.get("code"))


def _job(row: Row) -> Job:
    data = row.data
    return Job(str(row.job), Path(data["video"]), Path(data["audio"]), Path(data["output"]), data["task_type"])
