"""Several jobs of one command in the foreground: Ctrl-C cancels the one that runs, and the others do not start."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from wakestream.adapters.cli import submit_many
from wakestream.adapters.cli.commands import submit
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.config.settings import Settings

FOREGROUND = SimpleNamespace(foreground=True)


async def test_a_job_that_runs_is_cancelled_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    async def run_one(one: SimpleNamespace, stop: Stop) -> int:
        said.append(f"{one.id} runs")
        stop.set()
        await asyncio.sleep(0)  # its cancel is sent to the worker
        said.append(f"{one.id} is cancelled")
        return 130

    several = [SimpleNamespace(id=f"job-{number}", flags=FOREGROUND) for number in (1, 2)]
    monkeypatch.setattr(submit_many, "_usable", lambda *_: (several, 0))
    monkeypatch.setattr(submit_many, "run_one", run_one)
    monkeypatch.setattr(submit, "many_jobs", lambda *_, **__: SimpleNamespace(jobs=[]))
    monkeypatch.setattr(submit, "begin", lambda _: Settings())
    monkeypatch.setattr(submit, "confirmed", lambda *_, **__: True)
    main: list[Coroutine[Any, Any, int | None]] = []
    monkeypatch.setattr(submit, "run_program", lambda made: main.append(made(Stop())))
    submit.run(parser_of(("submit",)).parse_args(["submit", "--json", "a.mp4", "a.wav"]))
    assert await main[0] == 130
    assert said == ["job-1 runs", "job-1 is cancelled"]


async def test_without_time_for_a_job_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_many, "_usable", lambda *_: ([SimpleNamespace(flags=FOREGROUND)], 0))
    stop = Stop()
    stop.set()
    assert await submit_many.submit_many([], Settings(), stop, wait=False) == 130
