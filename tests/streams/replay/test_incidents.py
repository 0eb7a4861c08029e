"""What went wrong once, and came out well: each recorded incident runs again and still does.

Looked at is what the program does now, not what the log says that it did.
"""

import re
from collections import Counter
from dataclasses import replace
from itertools import groupby

import pytest

from tests.support.streams.log_library import LOGS, NAMES, ended, events, kinds, log, rows
from wakestream.streams.recording.recording import Log
from wakestream.streams.recording.secrets import REDACTED, SECRET_FIELDS
from wakestream.streams.replay.replay import replay

INCIDENTS = frozenset({
    "branches", "system", "boot_failure", "no_capacity", "hub_restart", "gpu_lost_in_upload", "gpu_lost_in_poll",
    "worker_restart", "duplicate_frames", "reordered_frames", "torn_log", "many_jobs", "cancel_in_wait",
    "cancel_in_upload", "cancel_in_render", "cancel_in_download",
})  # fmt: skip
MIB = 1024 * 1024


async def again(name: str) -> Log:
    """What the program of a log does now."""
    return (await replay(log(name))).again


@pytest.mark.parametrize("name", NAMES)
async def test_every_log_of_the_library_runs_again_as_it_was_recorded(name: str) -> None:
    replayed = await replay(log(name))
    assert [each.lines() for each in replayed.divergences] == []
    assert len(replayed.again.rows) >= len(replayed.recorded.rows) - 5


def test_the_library_has_a_log_of_client_hub_and_monitor_for_every_incident() -> None:
    assert {path.name for path in LOGS.iterdir() if path.is_dir()} >= INCIDENTS
    for incident in INCIDENTS - {"branches"}:
        programs = {log(name).header.program for name in NAMES if name.startswith(f"{incident}/")}
        assert programs == {"daemon", "hub", "monitor"}, incident


@pytest.mark.parametrize("name", NAMES)
def test_no_log_of_the_library_is_large_or_has_a_secret_or_a_path_of_a_machine_in_it(name: str) -> None:
    assert (LOGS / name).stat().st_size < 200_000
    for row in log(name).rows:
        said = repr(row.data)
        assert not re.search(r"ws_[a-z]+_\w{16}|(?<![\w:/.])/(?:home|root|tmp|usr|work|Users)/|[A-Z]:\\", said), said
        assert set(re.findall(rf"'(?:{'|'.join(SECRET_FIELDS)})': '([^']*)'", said)) <= {REDACTED}


async def test_a_job_that_finds_the_machine_off_waits_for_it_and_one_that_finds_it_on_does_not() -> None:
    for branch in ("offline", "online"):
        now = await again(f"{branch}.jsonl")
        assert [event["branch"] for event in events(now, "granted")] == [branch]
        assert ("queued" in kinds(now)) == (branch == "offline")
        assert list(ended(now)) == [(f"job-{branch}", "done")]


async def test_a_boot_that_fails_is_the_end_of_the_wait_within_a_moment_of_the_news() -> None:
    now = await again("boot_failure/daemon.jsonl")
    (failed,) = events(now, "failed")
    assert failed["code"] == "boot_failed"
    assert "no CUDA device is to be seen" in failed["why"]
    (news,) = rows(now, "in", "gpu.power.boot.result")
    (end,) = rows(now, "out", "failed")
    assert 0 < end.t - news.t < 0.001


async def test_an_unavailable_machine_is_requested_again_and_queued_jobs_get_the_reason() -> None:
    now = await again("no_capacity/daemon.jsonl")
    assert "no_capacity" in {event["phase"] for event in events(now, "waking")}
    assert list(ended(now)) == [("job-1", "done")]
    monitor = await again("no_capacity/monitor.jsonl")
    states = [row.data["state"] for row in rows(monitor, "out", "gpu.power.state")]
    assert states[-5:] == ["starting", "no_capacity", "starting", "booted", "online"]


async def test_a_hub_that_lost_its_state_gets_the_job_again_under_its_id() -> None:
    now = await again("hub_restart/daemon.jsonl")
    assert [row.label for row in now.rows if row.dir == "conn"] == ["up", "down", "up"]
    assert [row.data["request_id"] for row in rows(now, "out", "gpu.job.submit")] == ["job-1", "job-1"]
    assert "hub_lost" in {event["phase"] for event in events(now, "waking")}
    assert list(ended(now)) == [("job-1", "done")]
    assert not rows(now, "out", "retrying")
    second_life = await again("hub_restart/hub-2.jsonl")
    assert len(rows(second_life, "in", "gpu.job.submit")) == 1
    assert len(rows(second_life, "out", "ack")) == 1


async def test_a_machine_lost_in_the_upload_restarts_the_job_and_keeps_sent_bytes() -> None:
    now = await again("gpu_lost_in_upload/daemon.jsonl")
    _back_to_submit(now)
    before, after = events(now, "checked")
    assert [file["path"] for file in before["missing"]] == ["clip.mp4", "speech.wav"]
    assert [file["path"] for file in after["missing"]] == ["speech.wav"]
    (uploaded,) = events(now, "uploaded")
    assert (uploaded["sent"], uploaded["saved"]) == (12 * MIB, 2 * MIB)


async def test_a_machine_lost_in_the_render_restarts_the_job_and_sends_nothing_again() -> None:
    now = await again("gpu_lost_in_poll/daemon.jsonl")
    _back_to_submit(now)
    assert events(now, "checked")[1]["missing"] == []
    assert [event["sent"] for event in events(now, "uploaded")] == [3072, 0]
    assert len({event["task_id"] for event in events(now, "submitted")}) == 1
    assert len(rows(now, "effect", "fingerprint")) == 2
    monitor = await again("gpu_lost_in_poll/monitor.jsonl")
    said = [row.data["state"] for row in rows(monitor, "out", "gpu.power.state")]
    states = [state for state, _ in groupby(said)]  # a boot request is answered with the same state again
    assert states == ["unknown", "off", "starting", "booted", "online", "off", "starting", "booted", "online"]


def _back_to_submit(now: Log) -> None:
    assert [row.data["request_id"] for row in rows(now, "out", "gpu.job.submit")] == ["job-1", "job-1"]
    assert len(events(now, "retrying")) == 1
    assert len(events(now, "granted")) == 2
    assert list(ended(now)) == [("job-1", "done")]


async def test_a_restarted_worker_is_polled_until_it_answers_and_continues_its_task() -> None:
    now = await again("worker_restart/daemon.jsonl")
    reports = [row.data for row in rows(now, "effect", "report")]
    assert "worker_unreachable" in {data["error"]["code"] for data in reports if "error" in data}
    assert len({data["args"]["task_id"] for data in reports}) == 1
    assert not events(now, "retrying")
    assert len(rows(now, "out", "gpu.job.submit")) == 1
    assert list(ended(now)) == [("job-1", "done")]


async def test_duplicate_frames_have_no_effect() -> None:
    now = await again("duplicate_frames/daemon.jsonl")
    acks = rows(now, "in", "ack")
    assert len(acks) > 1
    assert Counter(kinds(now))["granted"] == 1
    assert len(events(now, "submitted")) == 1
    assert len(rows(now, "out", "gpu.job.done")) == 1
    assert list(ended(now)) == [("job-1", "done")]
    hub = await again("duplicate_frames/hub.jsonl")
    assert len(rows(hub, "in", "gpu.job.submit", lambda row: row.data["fd"] == 2)) == 2
    assert len(rows(hub, "out", "gpu.job.dispatch.batch")) == 1


async def test_reordered_frames_lead_to_the_same_result() -> None:
    now = await again("reordered_frames/daemon.jsonl")
    came = [row.label for row in now.rows if row.dir == "in"]
    assert came.index("gpu.power.booted") < came.index("gpu.power.offline")
    assert came.index("ack") < came.index("gpu.power.online")
    assert kinds(now)[-1] == "done"
    assert [kind for kind in kinds(now) if kind != "waking"] == [
        kind for kind in kinds(await again("offline.jsonl")) if kind != "waking"
    ]


async def test_a_torn_log_runs_again_as_far_as_it_goes() -> None:
    torn = log("torn_log/daemon.jsonl")
    assert torn.torn
    assert list(ended(torn)) == []
    replayed = await replay(torn)
    assert replayed.divergences == ()
    assert kinds(replayed.again)[: len(kinds(torn))] == kinds(torn)


HUBS_AND_MONITORS = ("gpu_lost_in_poll/monitor.jsonl", "hub_restart/hub-2.jsonl", "system/hub.jsonl")
CLIENTS = ("offline.jsonl", "cancel_in_render/daemon.jsonl", "gpu_lost_in_upload/daemon.jsonl")


@pytest.mark.parametrize("name", [*CLIENTS, *HUBS_AND_MONITORS])
async def test_a_log_that_breaks_off_after_any_row_runs_again_as_far_as_it_goes(name: str) -> None:
    whole = log(name)
    for count in range(len(whole.rows)):
        part = replace(whole, rows=whole.rows[:count])
        assert (await replay(part)).divergences == (), f"after {count} rows"


@pytest.mark.parametrize("name", HUBS_AND_MONITORS)
async def test_an_extra_frame_is_a_divergence_if_the_log_continues(name: str) -> None:
    whole = log(name)
    sent = [row for row in whole.rows if row.dir == "out" and row.label not in ("register", "ping", "pong")]
    for row in sent[:-1]:
        without = replace(whole, rows=tuple(each for each in whole.rows if each is not row))
        assert (await replay(without)).divergences != (), f"without row {row.seq}"


async def test_200_jobs_that_wait_for_one_machine_are_all_woken_by_one_broadcast() -> None:
    now = await again("many_jobs/daemon.jsonl.gz")
    assert Counter(outcome for _, outcome in ended(now)) == {"done": 200}
    assert len(set(ended(now))) == 200
    (broadcast,) = rows(now, "in", "gpu.power.online", lambda row: "alias" not in row.data)[:1]
    granted = rows(now, "out", "granted")
    assert len(granted) == 200
    assert all(broadcast.t < row.t < broadcast.t + 1.0 for row in granted)
    assert {row.data["branch"] for row in granted} == {"offline"}
    hub = await again("many_jobs/hub.jsonl.gz")
    (sent,) = rows(hub, "out", "gpu.power.online", lambda row: 1 not in row.data["to"])
    assert sent.data["old"]


@pytest.mark.parametrize("stage", ["wait", "upload", "render", "download"])
async def test_a_job_cancelled_in_any_stage_ends_at_once_and_the_hub_gets_it(stage: str) -> None:
    now = await again(f"cancel_in_{stage}/daemon.jsonl")
    (asked,), (cancelled,) = rows(now, "in", "job.cancel"), rows(now, "out", "cancelled")
    assert cancelled.t - asked.t < 0.1
    assert [row.data["request_id"] for row in rows(now, "out", "gpu.job.cancel")] == ["job-1"]
    assert not rows(now, "out", "gpu.job.done")
    assert list(ended(now)) == [("job-1", "cancelled")]
    reached = {"wait": "waking", "upload": "uploading", "render": "running", "download": "downloading"}[stage]
    assert kinds(now)[-2:] == [reached, "cancelled"]


@pytest.mark.parametrize("stage", ["render", "download"])
async def test_the_worker_with_the_task_gets_the_cancel(stage: str) -> None:
    now = await again(f"cancel_in_{stage}/daemon.jsonl")
    (told,) = rows(now, "effect", "cancel")
    assert told.data["args"]["task_id"] == events(now, "submitted")[0]["task_id"]
    hub = await again(f"cancel_in_{stage}/hub.jsonl")
    assert rows(hub, "out", "gpu.job.cancel")


@pytest.mark.parametrize("stage", ["wait", "upload"])
async def test_a_job_cancelled_before_its_task_sends_the_worker_nothing(stage: str) -> None:
    now = await again(f"cancel_in_{stage}/daemon.jsonl")
    assert not rows(now, "effect", "submit")
    assert not rows(now, "effect", "cancel")
