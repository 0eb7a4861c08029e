"""The runner of all deciders on a journal on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.streams.decider import Decider, Decision


@dataclass(frozen=True)
class Added:
    number: int


def add(state: set[int], number: int, now: float, decision: Decision[Added, str]) -> None:
    decision.fact(Added(number))
    decision.command(f"said {number}")


NUMBERS: Decider[set[int], int, Added, str] = Decider(
    set, {int: add}, {Added: lambda state, fact: state.add(fact.number)}, lambda state: map(Added, state)
)


async def test_on_a_real_journal_a_restart_knows_all_that_was_said(tmp_path: Path) -> None:
    ended = asyncio.Event()

    def execute(command: str) -> None:
        if command == "said 2999":
            ended.set()

    async with asyncio.timeout(30), open_journal(tmp_path / "j", Added, program="bench", limit=50) as journal:
        runner: DeciderRunner[set[int], int, Added, str] = DeciderRunner(
            "the bench", NUMBERS, set(), journal, execute, clock=lambda: 0.0
        )
        for number in range(3000):
            runner.happen(number)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await ended.wait()
        assert journal.commits < 300
        await runner.close()
    async with open_journal(tmp_path / "j", Added, program="bench") as journal:
        assert NUMBERS.recover(journal.read()) == set(range(3000))
