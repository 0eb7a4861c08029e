"""The runner of all deciders on a journal on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.streams.decider import Decider, Decision


@dataclass(frozen=True)
class Added:
    number: int


@dataclass
class Sum:
    """It shows each fact that counts twice, or not at all."""

    sum: int = 0


def add(state: Sum, number: int, now: float, decision: Decision[Added, str]) -> None:
    decision.fact(Added(number))
    decision.command(f"said {number}")


def added(state: Sum, fact: Added) -> None:
    state.sum += fact.number


NUMBERS: Decider[Sum, int, Added, str] = Decider(Sum, {int: add}, {Added: added})


@pytest.mark.parametrize("journal_first", [False, True])
async def test_on_a_real_journal_a_restart_knows_all_that_was_said_once(tmp_path: Path, journal_first: bool) -> None:
    ended = asyncio.Event()

    def execute(command: str) -> None:
        if command == "said 999":
            ended.set()

    async with open_journal(tmp_path / "j", Added, program="bench", limit=50) as journal:
        runner: DeciderRunner[Sum, int, Added, str] = DeciderRunner(
            "the bench", NUMBERS, Sum(), journal, execute, clock=lambda: 0.0, journal_first=journal_first
        )
        for number in range(1000):
            runner.happen(number)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await ended.wait()
        assert journal_first or journal.commits < 100
        runner.happen(1)
        await runner.close()
    async with open_journal(tmp_path / "j", Added, program="bench") as journal:
        assert journal.restore() != []
        assert NUMBERS.recover(journal.read(), snapshot=journal.restore()).sum in (
            (sum(range(1000)), sum(range(1000)) + 1) if journal_first else (sum(range(1000)) + 1,)
        )
