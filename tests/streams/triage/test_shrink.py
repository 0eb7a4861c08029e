"""The smallest log that still fails."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams.replay_scene import breaking, crowd, recorded, renamed, under
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.streams.recording.log_edit import inputs, log_as_replayed, with_rows
from wakestream.streams.recording.recording import Log, row_line
from wakestream.streams.replay.report import jobs_in
from wakestream.streams.triage.failure_predicate import parse
from wakestream.streams.triage.replay_attempt import Trial
from wakestream.streams.triage.shrink import Search, ddmin, shrink

ENOUGH = 5000


def shrunk(log: Log, condition: str, limit: int = ENOUGH) -> tuple[Log, Search]:
    first = run_log(log)
    assert first.meets(parse(condition))
    search = Search(first, parse(condition), run_log, limit)
    return shrink(log, search.fails, search.may_go), search


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_the_reduced_log_is_exactly_what_the_failure_needs(case: tuple[int, set[int]]) -> None:
    count, needed = case
    tries = 0

    def fails(items: Sequence[int]) -> bool:
        nonlocal tries
        tries += 1
        return needed <= set(items)

    assert ddmin(range(count), fails) == sorted(needed)
    assert tries <= count * count + 3 * count


def test_no_single_item_can_be_left_out_of_a_failure_that_is_not_monotone() -> None:
    def fails(items: Sequence[int]) -> bool:
        return len(items) % 3 == 1 and 7 in items

    left = ddmin(range(40), fails)
    assert fails(left)
    assert not any(fails([item for item in left if item != gone]) for gone in left)


def test_two_hundred_jobs_are_reduced_to_the_one_that_fails() -> None:
    log = recorded("online")
    many = crowd(log, "job-online", [f"job-{n:03}" for n in range(199)])
    lost = "job-123"
    rows = [row for row in many.rows if not (row.job == lost and row.label == "ack")]
    small, search = shrunk(with_rows(many, rows), f"outcome=timed_out:reply,job={lost}")
    assert list(jobs_in(small)) == [lost]
    assert search.tries < 200


def test_a_log_is_reduced_to_the_messages_that_the_failure_needs() -> None:
    log = under(recorded("offline"), online=0.5)
    small, _ = shrunk(log, "outcome=timed_out:online,event=queued")
    assert [row.label for row in inputs(small) if row.dir != "effect"] == ["job.accept", "up", "gpu.power.offline"]
    assert run_log(small).meets(parse("outcome=timed_out:online,event=queued"))


def test_the_reduced_log_is_numbered_from_one_and_keeps_its_times() -> None:
    log = under(recorded("offline"), online=0.5)
    small, _ = shrunk(log, "outcome=timed_out:online,event=queued")
    assert [row.seq for row in small.rows] == list(range(1, len(small.rows) + 1))
    times = {(row.label, row.t) for row in log.rows}
    assert {(row.label, row.t) for row in small.rows} <= times


def test_a_reduced_log_replays_unchanged() -> None:
    small, _ = shrunk(recorded("offline"), "outcome=done")
    replayed = run_log(small).replayed
    assert replayed is not None
    assert run_log(log_as_replayed(small, replayed.again)).result == "same"


def test_a_job_that_waits_for_an_outcome_which_was_left_out_has_not_failed() -> None:
    log = recorded("online")
    search = Search(run_log(log), parse("outcome=timed_out"), run_log, ENOUGH)
    without = with_rows(log, [row for row in log.rows if (row.dir, row.label) != ("effect", "report")])
    assert run_log(without).meets(parse("outcome=timed_out:execution"))
    assert not search.fails(without)


def test_a_divergence_stays_the_very_same_one() -> None:
    log = recorded("online")
    rows = [
        dataclasses.replace(row, data={**row.data, "task_id": "another"}) if row.label == "submitted" else row
        for row in log.rows
    ]
    small, _ = shrunk(with_rows(log, rows), "diverged")
    first = run_log(small).divergences[0]
    assert (first.label, first.lines()[1]) == ("submitted", '-   task_id = "another"')
    assert small.rows[-1].label == "submitted"
    assert len(small.rows) < next(row.seq for row in log.rows if row.label == "submitted")


def test_a_crash_is_reduced_to_the_acceptance_of_one_job() -> None:
    log = recorded("online")

    def run(some: Log) -> Trial:
        return run_log(some, build=breaking)

    search = Search(run(log), parse("crashed"), run, ENOUGH)
    small = shrink(log, search.fails, search.may_go)
    assert [row.label for row in inputs(small)] == ["job.accept"]


def test_after_the_last_attempt_nothing_is_removed() -> None:
    small, search = shrunk(recorded("offline"), "outcome=done", limit=3)
    assert search.used_up
    assert run_log(small).meets(parse("outcome=done"))
    assert len(small.rows) > 20


@pytest.mark.parametrize("condition", ["outcome=done", "event=uploading"])
def test_shrinking_twice_gives_the_same_bytes(condition: str) -> None:
    first, second = (shrunk(recorded("offline"), condition)[0] for _ in range(2))
    assert list(map(row_line, first.rows)) == list(map(row_line, second.rows))


def test_a_crowd_is_made_of_whole_jobs() -> None:
    log = recorded("online")
    assert len(renamed(log.rows, "job-online", "other", 1.0)) == sum(row.job == "job-online" for row in log.rows)
    assert run_log(crowd(log, "job-online", ["other"])).result == "same"
