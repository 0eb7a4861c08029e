"""A value between two reports: it goes on, but not too far, and never back."""

import random

import pytest

from wakestream.adapters.cli.render.jobs_table import LONGEST_STEP, JobProgress, Smooth
from wakestream.operators.model import events as e


def reported(*reports: tuple[float, float]) -> Smooth:
    """A value to 100 that was reported at these times."""
    smooth = Smooth(100.0)
    for at, value in reports:
        smooth.report(value, at)
    return smooth


def test_it_goes_on_at_the_known_rate_up_to_the_next_expected_report() -> None:
    smooth = reported((0, 10), (2, 20))
    assert [smooth.at(now) for now in (2, 3, 4, 60)] == [20, 25, 30, 30]


def test_after_one_report_it_stands_still() -> None:
    smooth = reported((0, 10))
    assert (smooth.at(5), smooth.rate, smooth.left(5)) == (10, None, None)


def test_where_it_went_on_too_far_it_waits() -> None:
    smooth = reported((0, 10), (2, 20))
    assert smooth.at(4) == 30
    smooth.report(22, 4)
    assert smooth.at(4) == 30
    smooth.report(50, 6)
    assert smooth.at(6) == 50


def test_it_does_not_pass_its_end() -> None:
    assert reported((0, 0), (2, 90)).at(60) == 100


def test_rare_reports_do_not_let_it_run_far() -> None:
    assert reported((0, 0), (40, 40)).at(1000) == 40 + LONGEST_STEP


def test_a_report_below_the_last_one_is_a_new_beginning() -> None:
    smooth = reported((0, 10), (2, 20))
    assert smooth.at(4) == 30
    smooth.report(0, 5)
    assert (smooth.at(6), smooth.left(6)) == (0, None)


def test_the_time_left_counts_down_to_zero() -> None:
    smooth = reported((0, 0), (10, 50))
    assert [smooth.left(now) for now in (10, 13, 90)] == [10, 7, 0]


def test_without_growth_no_time_is_known() -> None:
    assert reported((0, 50), (10, 50)).left(11) is None


@pytest.mark.parametrize("seed", range(20))
def test_it_is_never_seen_going_back(seed: int) -> None:
    chance = random.Random(seed)
    smooth, at, value, shown = Smooth(100.0), 0.0, 0.0, 0.0
    while value < 100:
        value = min(100.0, value + chance.choice((0, 1, 3, 20)) * chance.random())
        smooth.report(value, at)
        for _ in range(4):
            now = smooth.at(at)
            assert shown <= now <= 100
            shown = now
            at += chance.random()
    assert smooth.at(at) == 100


def test_a_queued_task_has_a_place_and_no_percent() -> None:
    progress = JobProgress()
    progress.show(e.Running(0, "queued", position=2), 1.0)
    assert (progress.place, progress.percent(2.0), progress.left(2.0)) == (2, None, None)
    progress.show(e.Running(10, "synthesizing"), 3.0)
    assert (progress.place, progress.percent(4.0)) == (None, 10)


def test_the_wait_for_a_gpu_and_a_pause_count_down() -> None:
    progress = JobProgress()
    progress.show(e.Waking(5, "booting", 1, e.Eta(60, 90)), 100.0)
    assert [progress.left(now) for now in (100.0, 130.0, 300.0)] == [60, 30, None]
    progress.show(e.Waking(5, "no_monitor", 1, e.Eta(60, 90)), 100.0)
    assert progress.left(100.0) is None
    progress.show(e.Note("paused", {"rests": 50}), 100.0)
    assert (progress.left(120.0), progress.pause(120.0)) == (30, 30)


def test_a_job_as_the_daemon_lists_it_has_a_rate_at_the_first_look() -> None:
    first = {"event": "uploading", "bytes": 100, "of": 1000, "at": 10.0}
    last = {"event": "uploading", "bytes": 400, "of": 1000, "at": 40.0}
    progress = JobProgress.of({"first": first, "last": last})
    assert (progress.percent(40.0), progress.left(50.0)) == (40, 50)
    progress.read({"first": first, "last": last})  # nothing new
    progress.read({"first": first, "last": {**last, "bytes": 700, "at": 50.0}})
    assert progress.percent(50.0) == 70
    assert JobProgress.of({"last": None}).percent(1.0) is None
