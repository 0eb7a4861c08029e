"""The kill run in its short form: the real programs, twenty kills, and accounts in which nothing is missing."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.kill_run import kill_run
from tests.support.faults.case_counts import LONG

KILLS = 100 if LONG else 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the worker's process is looked up in /proc")
@pytest.mark.timeout(1200 if LONG else 300)
async def test_killing_any_program_at_any_moment_costs_time_only(tmp_path: Path) -> None:
    accounts = await kill_run(tmp_path, seed=7, kills=KILLS)
    told = json.dumps(asdict(accounts), indent=2)
    assert accounts.faults == [], told
    assert accounts.killed == KILLS, told
    assert accounts.done == accounts.acknowledged == accounts.submitted > 10, told
