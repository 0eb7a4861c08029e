"""Replays that come to an end, and those that do not."""

import re

import pytest

from tests.support.streams.replay_scene import breaking, crowd, never_ending, recorded
from wakestream.adapters.testing.replay_runner import run_log, run_together
from wakestream.streams.recording.recording import Header, Log, Row, UnusableLog


def test_a_deadlock_is_a_result_that_names_the_jobs_that_wait() -> None:
    trial = run_log(crowd(recorded("online"), "job-online", ["job-2"]), build=never_ending)
    assert trial.result == "deadlock"
    assert trial.waiting == ("job-2", "job-online")
    assert "deadlock at" in trial.why


def test_an_error_of_the_program_is_a_result_that_names_it() -> None:
    trial = run_log(recorded("online"), build=breaking)
    assert trial.result == "crashed"
    assert re.fullmatch(r"ZeroDivisionError: a bug \(replay_scene.py:\d+\)", trial.why)


@pytest.mark.parametrize(
    ("program", "row"),
    [
        ("daemon", Row(1, 0.1, "in", "job.accept", {"video": "a"}, "a")),
        ("hub", Row(1, 0.1, "conn", "exploded", {"fd": 1, "now": 1.0})),
        ("hub", Row(1, 0.1, "in", "ping", {"fd": 1, "frame": {"type": "ping"}})),
        ("hub", Row(1, 0.1, "in", "ping", {"fd": 1, "now": 1.0, "old": False, "frame": {"type": 5}})),
        ("monitor", Row(1, 0.1, "effect", "power.inspect", {"oops": 1})),
    ],
)
def test_a_row_that_means_nothing_is_named(program: str, row: Row) -> None:
    with pytest.raises(UnusableLog, match=rf"row 1 \({row.dir} {row.label}\) cannot be replayed"):
        run_log(Log(Header(program, 0.0, 0, {}), (row,)))


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"line_every": 0}, "'line_every' = 0"),
        ({"poll_every": -1.0}, "'poll_every' = -1.0"),
        ({"total": None}, "'total' = None"),
        ({"reply": "soon"}, "'reply' = 'soon'"),
        ({"reply": True}, "'reply' = True"),
        ({"again": {"initial": -1}}, "'initial' = -1"),
        ({"again": 7}, "the policy in the header is not valid"),
        (5, "the policy in the header is not valid"),
    ],
)
def test_a_policy_under_which_no_program_runs_is_refused(policy: object, why: str) -> None:
    with pytest.raises(UnusableLog, match=re.escape(why)):
        run_log(Log(Header("daemon", 0.0, 0, {"policy": policy}), ()))


@pytest.mark.parametrize("policy", [{}, {"hub": None}, {"again": {"max_retries": None, "jitter": 0}}, {"unknown": "x"}])
def test_a_policy_that_leaves_something_out_or_has_something_new_is_taken(policy: object) -> None:
    assert run_log(Log(Header("daemon", 0.0, 0, {"policy": policy}), ())).result == "same"


def test_a_program_that_cannot_be_replayed_is_said_to_be_so() -> None:
    with pytest.raises(UnusableLog, match="a log of 'worker' cannot be replayed"):
        run_log(Log(Header("worker", 0.0, 0, {}), ()))


def test_logs_without_a_hub_are_not_replayed_together() -> None:
    with pytest.raises(UnusableLog):
        run_together([recorded("online")])
