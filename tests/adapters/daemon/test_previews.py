"""Previews of the jobs of a daemon, from its workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from wakestream.adapters.daemon import previews
from wakestream.operators.model.engine import TEXT, Preview
from wakestream.operators.model.events import Job
from wakestream.streams.outbox.facts import JobAccepted, JobStage
from wakestream.streams.outbox.state import Entry, OutboxState


async def test_a_job_that_moves_has_no_further_preview_of_its_first_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "AGAIN", 0.0)
    state, says = OutboxState(), {name: asyncio.Queue[Preview]() for name in ("first", "second")}
    entry = Entry(JobAccepted.of(Job("ws-1", {}, {"whole": Path("a.bin")}), {}))

    async def shown(_: str, __: str, task: str) -> AsyncGenerator[Preview, None]:
        while True:
            yield await says[task].get()

    client: Any = SimpleNamespace(previews=shown)
    found = previews.Previews(state, client)
    for number, task in enumerate(says):
        state.jobs["ws-1"] = replace(entry, stage=JobStage("ws-1", "follow", 1.0, "http://gpu", task))
        for name in [*says][: number + 1]:
            says[name].put_nowait(Preview(TEXT, name.encode()))
        assert await found.newer("ws-1", number, 10.0) == (number + 1, Preview(TEXT, task.encode()))
    await found.close()
