"""Chaos: the same messages in other legal orders."""

import dataclasses
from collections import defaultdict
from collections.abc import Hashable

import pytest

from tests.support.streams.replay_scene import crowd, deaf_while_hashing, frame, hub_log, recorded, under
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.recording.log_edit import log_as_replayed, with_rows
from wakestream.streams.recording.recording import Header, Log, Row
from wakestream.streams.triage.reorder import SPREAD, failing, reordered, worse
from wakestream.streams.triage.replay_attempt import Trial

SEEDS = range(40)
DROPPED = "hub_restart/daemon"
"""A log in which the link breaks and comes up again."""
QUIET = 5.0
"""Seconds of silence before it breaks, in `broken_later`."""


def in_lanes(log: Log, lane: str = "link") -> dict[Hashable, list[object]]:
    """What happened on each lane of a client's log, in order."""
    lanes: defaultdict[Hashable, list[object]] = defaultdict(list)
    for row in log.rows:
        if row.dir == "effect":
            lanes[row.job, row.label].append(row.data)
        elif row.dir != "out" and not row.label.startswith("job."):
            lanes[lane].append(row.data)
    return lanes


def times(log: Log) -> list[tuple[str, float]]:
    return [(row.label, row.t) for row in log.rows]


def findings(log: Log, build: Build, spread: float = SPREAD) -> list[tuple[int, Log, Trial, Trial]]:
    """Every order in which the pipeline does worse than in the recorded one."""
    before = run_log(log, build=build)
    found = []
    for seed in SEEDS:
        perturbed = reordered(log, seed, spread)
        after = run_log(perturbed, build=build)
        if after.trouble or worse(before, after):
            found.append((seed, perturbed, before, after))
    return found


def test_a_seed_gives_the_same_order_again_and_another_seed_another() -> None:
    log = recorded("offline")
    assert times(reordered(log, 7)) == times(reordered(log, 7))
    assert len({tuple(times(reordered(log, seed))) for seed in SEEDS}) > len(SEEDS) / 2


@pytest.mark.parametrize("name", ["online", "offline", DROPPED])
def test_each_lane_keeps_its_order_and_nothing_is_lost_or_added(name: str) -> None:
    log = recorded(name)
    for seed in SEEDS:
        assert in_lanes(reordered(log, seed)) == in_lanes(log)


def lane_times(log: Log) -> dict[Hashable, list[float]]:
    lanes: defaultdict[Hashable, list[float]] = defaultdict(list)
    for row in log.rows:
        if row.dir != "out":
            lanes[(row.job, row.label) if row.dir == "effect" else row.label.startswith("job.")].append(row.t)
    return lanes


def test_no_row_is_moved_further_than_the_spread() -> None:
    log = recorded("offline")
    before = lane_times(log)
    for seed in SEEDS:
        for lane, after in lane_times(reordered(log, seed, spread=0.5)).items():
            assert after == pytest.approx(before[lane], abs=0.51)


@pytest.mark.parametrize("name", ["online", "offline"])
def test_an_answer_never_comes_before_its_question(name: str) -> None:
    log = crowd(recorded(name), f"job-{name}", ["job-2", "job-3"])
    for seed in SEEDS:
        again = run_log(reordered(log, seed)).replayed
        assert again is not None
        asked: set[str | None] = set()
        for row in again.again.rows:
            if row.label == "gpu.job.submit":
                asked.add(row.job)
            assert row.label not in ("ack", "gpu.power.offline") or row.job in asked


@pytest.mark.parametrize("name", ["online", "offline"])
def test_the_pipeline_ends_well_in_every_order(name: str) -> None:
    log = crowd(recorded(name), f"job-{name}", ["job-2", "job-3"])
    assert findings(log, job_pipeline) == []


def broken_later() -> Log:
    """`DROPPED` with a silence before the break, so that there is room for it to come sooner."""
    log = recorded(DROPPED)
    drop = next(row.t for row in log.rows if row.label == "down")
    later = [dataclasses.replace(row, t=row.t + QUIET) if row.t >= drop else row for row in log.rows]
    quiet = with_rows(under(log, lost=30.0), later)
    replayed = run_log(quiet).replayed
    assert replayed is not None
    return log_as_replayed(quiet, replayed.again)


def test_a_link_breaks_sooner_and_later_and_the_job_comes_home_whenever_it_does() -> None:
    log = broken_later()
    (_, drop, _), *others = (
        [row.t for row in each.rows if row.dir == "conn"] for each in (log, *(reordered(log, s) for s in SEEDS))
    )
    assert min(other[1] for other in others) < drop - 0.5
    assert max(other[1] for other in others) > drop + 0.5
    assert all(other[1] < other[2] for other in others)
    assert findings(log, job_pipeline) == []


def test_another_order_really_makes_the_program_do_things_in_another_order() -> None:
    log = crowd(recorded("offline"), "job-offline", ["job-2", "job-3"])
    orders = set()
    for seed in SEEDS:
        replayed = run_log(reordered(log, seed)).replayed
        assert replayed is not None
        orders.add(tuple((row.job, row.label) for row in replayed.again.rows if row.dir == "out"))
    assert len(orders) > 10


def patient() -> Log:
    """A log whose program was set to wait long enough for messages to be moved by seconds."""
    log: Log = under(recorded("offline"), lost=30.0)
    return log


def test_a_race_that_the_recorded_order_hides_is_found() -> None:
    found = findings(patient(), deaf_while_hashing, spread=6.0)
    assert found
    assert len(found) < len(SEEDS)
    (lost,) = worse(*found[0][2:])
    assert (lost.then.kind, lost.now.kind) == ("done", "timed_out")


def test_a_found_failure_is_a_log_that_diverges_at_the_outcome_on_plain_replay() -> None:
    seed, perturbed, before, after = findings(patient(), deaf_while_hashing, spread=6.0)[0]
    log = failing(perturbed, before, after)
    assert log.header.config["reordered"] == {"seed": seed}
    trial = run_log(log, build=deaf_while_hashing)
    assert trial.result == "diverged"
    assert trial.report is not None
    divergence = trial.report.of_job["job-offline"]
    assert divergence.label == "done"
    assert divergence.got is not None
    assert divergence.got.label == "timed_out"


def test_a_delay_that_makes_a_short_wait_too_long_is_found_too() -> None:
    log = recorded("offline")
    online = next(row.t for row in log.rows if row.label == "ack")
    tight = under(log, online=online + 0.2)
    assert any(worse(before, after)[0].now.detail == "online" for *_, before, after in findings(tight, job_pipeline))


def test_a_job_without_an_answer_in_the_log_proves_nothing() -> None:
    log = recorded("online")
    before = run_log(log)
    cut = dataclasses.replace(log, rows=tuple(row for row in log.rows if row.label != "report"))
    after = run_log(cut)
    assert after.report is not None
    assert after.report.now["job-online"].outcome.kind == "timed_out"
    assert worse(before, after) == ()


HUB = hub_log(
    (0.1, "conn", "started", {"now": 1000.1}, None),
    (0.2, "conn", "opened", {"fd": 1, "now": 1000.2}, None),
    (0.2, "out", "connected", {"to": [1], "frame": {}}, None),
    (0.3, "in", "register", {**frame(1, 1000.3, "register", role="gpu_monitor"), "license": None}, None),
    (0.3, "out", "registered", {"to": [1], "frame": {}}, None),
    (0.4, "conn", "opened", {"fd": 2, "now": 1000.4}, None),
    (0.4, "out", "connected", {"to": [2], "frame": {}}, None),
    (0.5, "in", "gpu.job.submit", frame(2, 1000.5, "gpu.job.submit", request_id="a"), "a"),
    (0.5, "out", "gpu.job.submit", {"to": [1], "frame": {}}, "a"),
    (0.6, "in", "gpu.power.state", frame(1, 1000.6, "gpu.power.state", gpu="g", state="starting"), None),
    (0.7, "conn", "opened", {"fd": 3, "now": 1000.7}, None),
    (0.7, "out", "connected", {"to": [3], "frame": {}}, None),
    (1.0, "conn", "tick", {"now": 1001.0}, None),
)


def test_a_hubs_connections_keep_their_order_and_their_clock() -> None:
    orders = set()
    for seed in SEEDS:
        rows = [row for row in reordered(HUB, seed).rows if row.dir != "out"]
        for row in rows:
            assert row.data["now"] == pytest.approx(1000.0 + row.t)
        for fd in (1, 2, 3):
            was = [row.label for row in HUB.rows if row.dir != "out" and row.data.get("fd") == fd]
            assert [row.label for row in rows if row.data.get("fd") == fd] == was
        orders.add(tuple((row.data.get("fd"), row.label) for row in rows))
    assert len(orders) > 3


def test_what_a_monitor_answers_comes_after_what_it_was_told() -> None:
    for seed in SEEDS:
        labels = [(row.dir, row.label) for row in reordered(HUB, seed).rows]
        assert labels.index(("out", "gpu.job.submit")) < labels.index(("in", "gpu.power.state"))


def test_a_monitors_ticks_stay_where_they_are() -> None:
    rows = tuple(Row(n, float(n), "conn", "tick" if n % 2 else "up", {}) for n in range(1, 30))
    log = Log(Header("monitor", 0.0, 0, {}), rows)
    ticks = [row.t for row in rows if row.label == "tick"]
    moved = [reordered(log, seed) for seed in SEEDS]
    assert all([row.t for row in each.rows if row.label == "tick"] == ticks for each in moved)
    assert any([row.label for row in each.rows] != [row.label for row in rows] for each in moved)
