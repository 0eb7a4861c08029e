"""The files beside results that say how these were made."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.programs.our_peers import until
from wakestream.adapters.daemon.console.records import Records
from wakestream.adapters.runtime.tasks import end
from wakestream.operators.model.events import Job
from wakestream.streams.outbox.facts import JobAccepted, JobEnded
from wakestream.streams.outbox.state import Entry, OutboxState


async def test_a_record_that_an_earlier_run_did_not_write_is_written_if_another_job_failed(tmp_path: Path) -> None:
    result, state = tmp_path / "a.bin", OutboxState()
    for ended in (JobEnded("ws-1", "failed", 1.0), JobEnded("ws-2", "done", 1.0, path=str(result))):
        accepted = JobAccepted.of(Job(ended.job, {}, {"whole": result}), {}, sidecar=True)
        state.jobs[ended.job] = Entry(accepted, ended=ended)
    costs: Any = SimpleNamespace(of=lambda _: {}, ask_within=lambda _: asyncio.sleep(0))
    running = asyncio.create_task(Records(state, costs, lambda _, params: params).run())
    await until((tmp_path / "a.bin.json").exists)
    await end(running)
