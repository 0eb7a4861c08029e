"""Recorded logs of real runs drive the same pipeline again, in virtual time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wakestream.operators import events as e
from wakestream.streams import messages as m
from wakestream.streams import wire
from wakestream.streams.daemon import plain_policy, policy_from
from wakestream.streams.event_json import kind, plain_event
from wakestream.streams.recording import Log, Row, read_log
from wakestream.streams.replay import replay

LOGS = Path(__file__).parent.parent / "logs"
BRANCHES = ("offline", "online")


def log(name: str) -> Log:
    return read_log((LOGS / f"{name}.jsonl").read_bytes().splitlines(keepends=True))


def moved(recorded: Log, seconds: float, later: Callable[[Row], bool]) -> Log:
    """The log with all rows from the first that is `later` on moved by so many seconds."""
    first = next(row.seq for row in recorded.rows if later(row))
    rows = (replace(row, t=row.t + seconds) if row.seq >= first else row for row in recorded.rows)
    return replace(recorded, rows=tuple(rows))


@pytest.mark.parametrize("branch", BRANCHES)
async def test_a_recorded_branch_replays_to_the_very_events_that_were_recorded(branch: str) -> None:
    recorded = log(branch)
    again = await replay(recorded)
    job = f"job-{branch}"
    expected = [(row.label, row.data) for row in recorded.rows if row.dir == "out" and "event" in row.data]
    said = [(kind(event), plain_event(event)) for _, event in again.events[job]]
    assert [label for label, _ in said] == [label for label, _ in expected]
    assert [timeless(data) for _, data in said] == [timeless(data) for _, data in expected]
    granted = next(event for _, event in again.events[job] if isinstance(event, e.Granted))
    assert granted.branch == branch
    assert isinstance(again.outcome(job), e.Done)


def timeless(data: object) -> object:
    """Waits are measured by the clock of the run, which differs by the loop's own milliseconds."""
    return {**data, "waited": None} if isinstance(data, dict) and "waited" in data else data


@pytest.mark.parametrize("branch", BRANCHES)
async def test_a_replayed_job_sends_the_very_frames_that_were_recorded(branch: str) -> None:
    recorded = log(branch)
    again = await replay(recorded)
    frames = [row.data for row in recorded.rows if row.dir == "out" and row.data.get("type", "register") != "register"]
    assert [wire.to_frame(message) for _, message in again.sent] == frames
    assert {type(message) for _, message in again.sent} == {m.Submit, m.JobDone}


@pytest.mark.parametrize("branch", BRANCHES)
async def test_a_replay_keeps_the_recorded_times(branch: str) -> None:
    recorded = log(branch)
    again = await replay(recorded)
    done = next(row.t for row in recorded.rows if row.label == "done")
    assert again.events[f"job-{branch}"][-1][0] == pytest.approx(done, abs=0.05)


async def test_a_wait_of_29_minutes_is_replayed_without_waiting_and_ends_alike() -> None:
    recorded = log("offline")
    late = moved(recorded, 1740.0, lambda row: row.label == "gpu.power.online")
    again = await replay(late)
    assert again.outcome("job-offline") == (await replay(recorded)).outcome("job-offline")
    lines = [event for _, event in again.events["job-offline"] if isinstance(event, e.Waking)]
    assert len(lines) >= 170
    assert asyncio.get_running_loop().time() > 1740


async def test_what_if_asks_the_same_log_with_another_policy() -> None:
    recorded = moved(log("offline"), 600.0, lambda row: row.label == "gpu.power.online")
    policy = replace(policy_from(recorded.header.config), online=60.0)
    assert (await replay(recorded, policy)).outcome("job-offline") == e.TimedOut(
        "online", 60.0, "online: nothing within 60 s"
    )


async def test_a_log_without_jobs_replays_to_nothing() -> None:
    recorded = log("online")
    again = await replay(replace(recorded, rows=()))
    assert dict(again.events) == {}


def test_a_policy_survives_its_way_through_a_header() -> None:
    policy = replace(policy_from({}), online=7.0, hub=3.0)
    assert plain_policy(policy_from(plain_policy(policy))) == plain_policy(policy)


OUTCOME = """
import hashlib, json, sys
from pathlib import Path
from wakestream.adapters.virtual_loop import run_virtual
from wakestream.streams.event_json import plain_event
from wakestream.streams.recording import read_log
from wakestream.streams.replay import replay
log = read_log(Path(sys.argv[1]).read_bytes().splitlines(keepends=True))
again = run_virtual(replay(log))
told = {job: [(t, plain_event(event)) for t, event in events] for job, events in again.events.items()}
print(hashlib.sha256(json.dumps(told).encode()).hexdigest())
"""


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_replay_is_the_same_under_any_hash_seed(branch: str) -> None:
    seen = set()
    for seed in ("0", "1", "7", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = (sys.executable, "-c", OUTCOME, str(LOGS / f"{branch}.jsonl"))
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30).stdout)
    assert len(seen) == 1
