"""Replay on the virtual loop: 1,000 jobs that wait for 30 minutes, and 200 jobs that render side by side."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import replace
from pathlib import Path

from timing import row

from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.streams.recording.recording import Log, Row, read_log
from wakestream.streams.replay.replay import replay

JOBS = 1000
WAIT = 1790.0
SIDE_BY_SIDE = 200
REPORTS = 100
WANTED = 45_000
"""Rows of a log that a replay should run and compare in a second. It comes near where most rows are of waits."""
BROADCAST = ("gpu.power.booted", "gpu.power.online", "gpu.power.state")
RECORDED = Path(__file__).parent.parent / "tests" / "logs" / "offline.jsonl"


def many(recorded: Log, jobs: int = JOBS, wait: float = WAIT) -> Log:
    """The recorded offline job many times at once, its wait made longer by `wait` seconds."""
    online = next(row.t for row in recorded.rows if row.label == "gpu.power.online")
    rows: list[Row] = []
    for each in recorded.rows:
        later = replace(each, t=each.t + (wait if each.t >= online else 0.0))
        own = each.job == "job-offline" and not (each.dir == "in" and each.label in BROADCAST)
        rows += [_of(later, n) for n in range(jobs)] if own else [later]
    return Log(recorded.header, tuple(rows))


def reported(recorded: Log, reports: int = REPORTS) -> Log:
    """The recorded job with this many reports of its worker, each with another percentage, a second apart."""
    first, *_, last = (row for row in recorded.rows if row.label == "report")
    before = [row for row in recorded.rows if row.seq <= first.seq]
    after = [replace(row, t=row.t + reports) for row in recorded.rows if row.seq >= last.seq]
    more = [_report(first, number, reports) for number in range(1, reports)]
    return Log(recorded.header, (*before, *more, *after))


def _report(row: Row, number: int, of: int) -> Row:
    ok = {**row.data["ok"], "percent": 100 * number / of}
    return replace(row, t=row.t + number, data={**row.data, "ok": ok})


def _of(row: Row, number: int) -> Row:
    name = f"job-{number}"
    data = {**row.data, "request_id": name} if "request_id" in row.data else row.data
    return replace(row, job=name, data=data, t=row.t + number * 1e-6)


def measured(longer: Log, jobs: int) -> tuple[int, float]:
    """How many rows a log has, and the seconds of the processor that its replay takes."""
    # The recorded job's own events are those of its first run. What it would have said is in the log of a replay of it.
    log = run_virtual(replay(longer)).again
    taken = []
    for _ in range(3):
        gc.collect()
        start = time.process_time()
        again = run_virtual(replay(log))
        taken.append(time.process_time() - start)
    done = sum(each.label == "done" for each in again.again.rows)
    assert done == jobs, f"only {done} of {jobs} jobs were done"
    assert not again.divergences, again.divergences[0].lines()
    return len(log.rows), statistics.median(taken)


def main() -> bool:
    """Print the rows; True if the budgets hold."""
    recorded = read_log(RECORDED.read_bytes().splitlines(keepends=True))
    rows, seconds = measured(many(recorded), JOBS)
    print(f"replay of {JOBS} jobs with a 30-minute wait ({rows} rows)")
    print(f"        {seconds:.2f} s, {rows / seconds:.0f} rows/s")
    held = row(f"{WANTED} rows/s", rows / seconds, WANTED, 1.0, at_most=False)
    rows, seconds = measured(many(reported(recorded), SIDE_BY_SIDE, 0.0), SIDE_BY_SIDE)
    print(f"replay of {SIDE_BY_SIDE} jobs that render side by side, each with {REPORTS} reports ({rows} rows)")
    print(f"        {seconds:.2f} s, {rows / seconds:.0f} rows/s")
    return row(f"{WANTED} rows/s", rows / seconds, WANTED, 0.4, at_most=False) and held
