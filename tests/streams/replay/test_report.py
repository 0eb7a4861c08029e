"""What became of each job, as a report on a replay says it."""

import dataclasses

import pytest

from tests.support.streams.replay_scene import frame, hub_log, recorded
from wakestream.streams.recording.recording import Header, Log, Row
from wakestream.streams.recording.timeline import STAGES
from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.replay import replay
from wakestream.streams.replay.report import JobEnd, by_weight, jobs_in, report


async def test_a_jobs_stages_are_named_in_order_and_sum_up_to_its_time() -> None:
    (job,) = report(await replay(recorded("offline"))).now.values()
    assert job.outcome == JobEnd("done")
    assert set(job.stages) == set(STAGES)
    assert sum(job.stages.values()) == pytest.approx(job.seconds)
    assert job.stages["wake"] > 1
    assert job.kinds[-1] == "done"


async def test_a_timeout_is_reported_with_its_stage_and_the_outcome_counts_as_changed() -> None:
    found = report(await replay(recorded("offline"), settings={"online_timeout": 0.5}))
    assert str(found.now["job-offline"].outcome) == "timed_out:online"
    assert str(found.then["job-offline"].outcome) == "done"
    assert found.changed == ("job-offline",)


async def test_a_job_whose_log_was_cut_off_is_unfinished_and_not_diverged() -> None:
    log = recorded("offline")
    half = dataclasses.replace(log, rows=log.rows[: len(log.rows) // 2], torn=True)
    found = report(await replay(half))
    assert found.now["job-offline"].outcome.kind == "unfinished"
    assert found.divergences == ()
    assert found.changed == ()


async def test_the_divergence_of_a_job_is_what_it_said_before_what_it_asked() -> None:
    found = report(await replay(recorded("offline"), settings={"online_timeout": 0.5}))
    assert {each.stream for each in found.divergences} == {"job-offline", "job-offline effects"}
    assert found.of_job["job-offline"].stream == "job-offline"


def test_a_call_with_other_arguments_comes_before_the_event_that_followed_from_it() -> None:
    called, calls = (Row(35, 1.0, "effect", "own.plan", {"args": {"parts": n}, "ok": n}, "job-1") for n in (2, 3))
    event = Row(37, 1.1, "out", "note", {"event": "note", "text": "two parts"}, "job-1")
    gone = Divergence("job-1 effects", called, None)
    changed, followed = Divergence("job-1 effects", called, calls), Divergence("job-1", event, None)
    assert by_weight([changed, followed]) == [changed, followed]
    assert by_weight([gone, followed]) == [followed, gone]


async def test_what_a_job_said_of_its_progress_is_compared_in_full() -> None:
    log = recorded("online")
    rows = [
        dataclasses.replace(row, data={**row.data, "percent": 42.5}) if row.label == "running" else row
        for row in log.rows
    ]
    found = report(await replay(dataclasses.replace(log, rows=tuple(rows)))).of_job["job-online"]
    assert (found.label, found.lines()[1]) == ("running", "-   percent = 42.5")


def test_a_hubs_job_is_reported_from_its_submit_to_its_release() -> None:
    log = hub_log(
        (1.0, "in", "gpu.job.submit", frame(1, 1001.0, "gpu.job.submit", request_id="a"), "a"),
        (1.1, "out", "gpu.power.offline", {"to": [1], "frame": {}}, "a"),
        (5.1, "out", "ack", {"to": [1], "frame": {}}, "a"),
        (7.1, "in", "gpu.job.done", frame(1, 1007.1, "gpu.job.done", request_id="a"), "a"),
        (8.0, "out", "gpu.power.online", {"to": [1], "frame": {}}, "gpu-1"),
    )
    (job,) = jobs_in(log).values()
    assert job.outcome == JobEnd("done")
    assert job.stages == pytest.approx({"submit": 0.1, "wake": 4.0, "held": 2.0})
    assert job.seconds == pytest.approx(6.1)


def test_a_hubs_refusal_is_a_failure_with_its_code() -> None:
    log = hub_log(
        (1.0, "in", "gpu.job.submit", frame(1, 1001.0, "gpu.job.submit", request_id="a"), "a"),
        (1.1, "out", "error", {"to": [1], "frame": {"code": "queue_full", "msg": "full"}}, "a"),
    )
    (job,) = jobs_in(log).values()
    assert job.outcome == JobEnd("failed", "queue_full", "full")


def test_a_monitors_log_is_reported_as_the_states_of_its_machine() -> None:
    states = [(1.0, "off"), (2.0, "starting"), (5.0, "online"), (9.0, "off")]
    rows = [Row(n, t, "out", "gpu.power.state", {"gpu": "g", "state": s}) for n, (t, s) in enumerate(states, 1)]
    log = Log(Header("monitor", 0.0, 0, {}), (*rows, Row(9, 10.0, "conn", "tick", {})))
    (machine,) = jobs_in(log).values()
    assert (machine.job, machine.outcome.kind) == ("g", "off")
    assert machine.stages == pytest.approx({"off": 2.0, "starting": 3.0, "online": 4.0})


@pytest.mark.parametrize(
    ("then", "now", "is_worse"),
    [
        ("done", "failed", True),
        ("done", "unfinished", True),
        ("done", "cancelled", False),
        ("timed_out", "failed", False),
        ("failed", "done", False),
        ("online", "no_capacity", True),
        ("off", "online", False),
    ],
)
def test_outcomes_are_ordered_from_good_to_bad(then: str, now: str, is_worse: bool) -> None:
    assert JobEnd(now).worse_than(JobEnd(then)) is is_worse
