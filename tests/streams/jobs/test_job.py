"""The pipeline from submit to outcome, in virtual time: both branches, every wait, and what breaks on the way."""

import asyncio
import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.streams.job_scene import OURS, URL, Scene, ack, offline, silence
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Health, TaskReceipt, TaskReport
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.protocol import messages as m


async def test_a_job_on_the_online_branch_passes_through_every_stage_in_order(scene: Scene) -> None:
    assert await scene.run() == e.Done(Path("out.mp4"), 1000)
    kinds = list(dict.fromkeys(type(event) for _, event in scene.events))
    assert kinds == [
        e.Granted, e.Online, e.Fingerprinted, e.Checked, e.Uploading, e.Uploaded, e.Submitted, e.Running, e.Rendered,
        e.Downloading, e.Done,
    ]  # fmt: skip
    assert scene.of(e.Granted)[0].branch == "online"


async def test_a_job_on_the_offline_branch_waits_with_a_line_every_ten_seconds(waiting: Scene) -> None:
    waiting.at(125, waiting.link.receive, m.Ack(request_id="job-1", gpu="a", url=URL))
    assert isinstance(await waiting.run(), e.Done)
    assert waiting.of(e.Queued) == [e.Queued(1, "booting", e.Eta(100.0, 140.0))]
    assert [round(waking.waited) for waking in waiting.of(e.Waking)] == list(range(10, 121, 10))
    assert round(waiting.of(e.Waking)[4].eta.p50) == 50
    assert waiting.of(e.Granted)[0].branch == "offline"


async def test_an_old_hub_that_only_broadcasts_online_grants_by_it() -> None:
    scene = Scene(lambda submit: m.Offline(request_id=submit.request_id), features=()).connect()
    scene.at(60, scene.link.receive, m.Online(msg="up"))
    assert isinstance(await scene.run(), e.Done)
    assert scene.of(e.Online) == [e.Online(URL)]


async def test_a_hub_that_grants_each_job_is_not_taken_at_its_broadcast(waiting: Scene) -> None:
    waiting.at(60, waiting.link.receive, m.Online(gpu="a", url="http://elsewhere:1"))
    waiting.at(61, waiting.link.receive, m.Ack(request_id="job-1", gpu="b", url=URL))
    assert isinstance(await waiting.run(), e.Done)
    assert waiting.of(e.Granted)[0].gpu == "b"


@pytest.mark.parametrize("broadcast", [False, True])
async def test_a_hub_that_never_answers_is_named_after_30_seconds_and_a_broadcast_is_no_answer(broadcast: bool) -> None:
    scene = Scene(silence, features=()).connect()
    if broadcast:
        scene.at(5, scene.link.receive, m.Online())
    await scene.run()
    assert scene.events[-1] == (30.0, e.TimedOut("reply", 30.0, "reply: nothing within 30 s"))


@pytest.mark.parametrize("restart", [False, True])
async def test_a_missing_online_times_out_30_minutes_after_the_first_submit(waiting: Scene, restart: bool) -> None:
    if restart:
        waiting.at(900, waiting.link.disconnect, "restarting")
        waiting.at(905, waiting.connect)
    outcome = await waiting.run()
    assert isinstance(outcome, e.TimedOut)
    assert (outcome.stage, outcome.seconds, waiting.events[-1][0]) == ("online", 1800.0, 1800.0)
    assert len(waiting.link.said(m.Submit)) == 1 + restart
    assert ("hub_lost" in {waking.phase for waking in waiting.of(e.Waking)}) == restart


async def test_a_hub_that_restarts_with_the_gpu_on_grants_at_the_second_submit(waiting: Scene) -> None:
    waiting.at(50, waiting.link.disconnect)
    waiting.at(51, setattr, waiting, "answer", ack)
    waiting.at(52, waiting.connect)
    assert isinstance(await waiting.run(), e.Done)
    assert 52 < waiting.when(e.Granted)[0] < 53


@pytest.mark.parametrize(("old", "submits", "ends"), [(False, 2, 1), (True, 1, 0)])
async def test_a_granted_job_is_named_again_to_a_hub_that_restarts_in_mid_work_but_to_no_old_one(
    old: bool, submits: int, ends: int
) -> None:
    worker = FakeWorker(reports=[TaskReport("processing", 1.0), TaskReport("done", 100.0)])
    scene = Scene(features=(), worker=worker) if old else Scene(worker=worker)
    scene.connect()
    scene.at(0.5, scene.link.disconnect)
    scene.at(1.0, scene.connect)
    assert isinstance(await scene.run(), e.Done)
    assert (len(scene.link.said(m.Submit)), len(scene.link.said(m.JobDone))) == (submits, ends)


async def test_a_foreground_job_gives_up_on_a_hub_that_it_never_reached() -> None:
    scene = Scene()
    for second in range(0, 60, 7):
        scene.at(second, scene.link.disconnect, "hub ws://nowhere: connection refused")
    assert await scene.run(hub=30.0) == e.Failed("hub ws://nowhere: connection refused", "hub_unreachable")
    assert scene.events[-1][0] == 30.0


async def test_each_line_of_a_wait_for_an_unreachable_hub_has_the_reason() -> None:
    scene = Scene()
    scene.at(1, scene.link.disconnect, "connection refused")
    scene.at(40, scene.connect)
    assert isinstance(await scene.run(hub=None), e.Done)
    unreached = [waking for waking in scene.of(e.Waking) if waking.phase == "hub_unreachable"]
    assert len(unreached) == 4
    assert {waking.why for waking in unreached} == {"connection refused"}


async def test_a_hub_that_was_reached_is_waited_for_also_when_the_gpu_is_lost_with_it() -> None:
    worker = FakeWorker()
    worker.failures["submit"] = [errors.WorkerUnreachable("the network is away")] * 4
    scene = Scene(worker=worker).connect()
    scene.at(1, scene.link.disconnect)
    scene.at(200, scene.link.disconnect, "connection refused")
    scene.at(300, scene.connect)
    assert isinstance(await scene.run(hub=30.0), e.Done)
    assert len(scene.of(e.Granted)) == 2
    assert {waking.phase for waking in scene.of(e.Waking)} == {"hub_lost"}
    assert scene.when(e.Granted)[1] > 300


async def test_a_refused_registration_ends_the_job_at_once() -> None:
    scene = Scene()
    scene.at(1, scene.hub.feed, errors_link("this license was revoked", "unauthorized"))
    assert await scene.run() == e.Failed("this license was revoked", "unauthorized")


def errors_link(why: str, code: str) -> object:
    from wakestream.operators.model.ports import LinkDown

    return LinkDown(why, code)


async def test_a_refusal_by_the_hub_is_the_jobs_failure() -> None:
    scene = Scene(
        lambda submit: m.Error(request_id=submit.request_id, msg="too many jobs", code="queue_full")
    ).connect()
    assert await scene.run() == e.Failed("too many jobs", "queue_full")


async def test_a_failed_boot_is_reported_at_once_and_no_news_of_the_same_turn_overtakes_it(waiting: Scene) -> None:
    failed = m.BootResult(request_id="job-1", success=False, status="failed", msg="no stock")
    waiting.at(40, waiting.link.receive, failed)
    waiting.at(40, waiting.link.receive, m.PowerState(gpu="a", state="stopping"))
    assert await waiting.run() == e.Failed("no stock", "boot_failed")
    assert waiting.events[-1][0] == 40.0


async def test_booted_is_not_online(waiting: Scene) -> None:
    waiting.at(40, waiting.link.receive, m.Booted(msg="machine is up"))
    assert isinstance(await waiting.run(online=100.0), e.TimedOut)
    assert waiting.of(e.Granted) == []
    assert "booted" in {waking.phase for waking in waiting.of(e.Waking)}


async def test_files_are_hashed_once_and_while_the_gpu_wakes(waiting: Scene) -> None:
    waiting.at(100, waiting.link.receive, m.Ack(request_id="job-1", url=URL))
    waiting.at(99, lambda: waiting.events.append((99.0, e.Retrying(len(waiting.files.readings), 0.0, "read by now"))))
    await waiting.run()
    assert waiting.of(e.Retrying)[0].attempt == 2
    assert [path.name for path, _ in waiting.files.readings] == ["clip.mp4", "speech.wav"]
    assert waiting.files.readings[0][1] == {"md5", "blake3"}


async def test_on_a_hub_of_ours_the_submit_does_not_wait_for_hashes() -> None:
    scene = Scene(worker=FakeWorker(healths=[Health(initialized=True, features=frozenset({"blake3"}))])).connect()
    await scene.run()
    assert scene.link.said(m.Submit)[0].payload == {"video_ext": ".mp4", "audio_ext": ".wav"}
    assert scene.files.readings[0][1] == {"blake3"}


async def test_an_old_hub_gets_md5_hashes_in_the_submit_and_files_are_still_read_once() -> None:
    scene = Scene(features=()).connect()
    await scene.run()
    payload = scene.link.said(m.Submit)[0].payload
    assert {name: len(value) for name, value in payload.items() if name.endswith("hash")} == {
        "video_hash": 32,
        "audio_hash": 32,
    }
    assert len(scene.files.readings) == 2


async def test_files_at_the_worker_are_not_sent_again(scene: Scene) -> None:
    await scene.run()
    again = Scene(worker=FakeWorker(known=scene.worker.known)).connect()
    assert isinstance(await again.run(), e.Done)
    assert again.of(e.Uploaded)[0].sent == 0
    assert again.of(e.Uploaded)[0].saved == 1500
    assert again.worker.said("upload") == []


async def test_a_cached_result_is_fetched_without_polling() -> None:
    scene = Scene(worker=FakeWorker(receipt=TaskReceipt("t", cached=True))).connect()
    assert isinstance(await scene.run(), e.Done)
    assert scene.worker.said("report") == []


async def test_a_worker_that_is_not_yet_initialized_is_waited_for() -> None:
    healths = [Health(initialized=False)] * 20 + [Health(initialized=True)]
    scene = Scene(worker=FakeWorker(healths=healths)).connect()
    assert isinstance(await scene.run(), e.Done)
    assert 20 <= scene.when(e.Online)[0] < 21
    assert [waking.phase for waking in scene.of(e.Waking)] == ["initializing"]


async def test_a_slow_poll_never_overlaps_the_next() -> None:
    scene = Scene(
        worker=FakeWorker(reports=[TaskReport("processing", float(n)) for n in range(3)] + [TaskReport("done")])
    ).connect()
    scene.worker.delays["report"] = 5.0
    await scene.run()
    times = scene.when(e.Running)
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [7, 7, 7]


async def test_a_failed_task_has_a_reason_and_is_not_retried() -> None:
    scene = Scene(
        worker=FakeWorker(reports=[TaskReport("error", error="Invalid data found when processing input")])
    ).connect()
    assert await scene.run() == e.Failed("Invalid data found when processing input", "task_failed")
    assert len(scene.worker.said("submit")) == 1


@pytest.mark.parametrize("call", ["check", "upload", "submit", "report", "download"])
async def test_a_call_that_breaks_once_is_made_again(call: str) -> None:
    scene = Scene().connect()
    scene.worker.failures[call] = [errors.WorkerUnreachable("reset")]
    assert isinstance(await scene.run(), e.Done)
    assert len(scene.worker.said(call)) >= 2


@pytest.mark.parametrize("call", ["upload", "report", "download"])
async def test_a_lost_gpu_restarts_the_job_at_submit_and_keeps_uploads(call: str) -> None:
    scene = Scene().connect()
    scene.worker.failures[call] = [errors.WorkerUnreachable("gone")] * 5
    assert isinstance(await scene.run(), e.Done)
    assert len(scene.link.said(m.Submit)) == 2
    assert len(scene.of(e.Retrying)) == 1
    if call != "upload":
        assert len(scene.worker.said("upload")) == 2


async def test_a_task_that_the_worker_forgot_is_submitted_again() -> None:
    scene = Scene(worker=FakeWorker(reports=[errors.TaskLost("restarted")] * 4 + [TaskReport("done", 100.0)])).connect()
    assert isinstance(await scene.run(), e.Done)
    assert len(scene.worker.said("submit")) == 2


async def test_a_worker_that_stays_offline_ends_the_job_as_unreachable() -> None:
    scene = Scene().connect()
    scene.worker.gone = errors.WorkerUnreachable("http://gpu:8383: connection refused")
    assert await scene.run() == e.Failed("http://gpu:8383: connection refused", "worker_unreachable")
    assert len(scene.of(e.Retrying)) == Policy().again.max_retries


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("check", errors.WorkerRefused("set HEYGEM_API_SECRET", code="unauthorized")),
        ("upload", errors.FileChanged("clip.mp4 was written to; submit it again")),
    ],
)
async def test_what_a_person_has_to_change_is_not_tried_again(call: str, error: errors.WakestreamError) -> None:
    scene = Scene().connect()
    scene.worker.failures[call] = [error]
    assert await scene.run() == e.Failed(str(error), error.code)
    assert scene.of(e.Retrying) == []


async def test_an_upload_that_stalls_is_broken_off_after_a_minute_and_tried_again() -> None:
    scene = Scene()
    scene.worker.delays["upload"] = 1e6
    scene.at(59, scene.worker.delays.clear)
    scene.connect()
    assert isinstance(await scene.run(), e.Done)
    assert 60 <= scene.when(e.Uploaded)[0] <= 62


@pytest.mark.parametrize("found", [None, errors.FileUnusable("speech.wav is locked")], ids=["missing", "locked"])
async def test_a_file_that_cannot_be_read_ends_the_wait_at_once_also_after_news(found: Exception | None) -> None:
    scene = Scene(offline).connect()
    del scene.files.files[Path("speech.wav")]
    if found is not None:
        scene.files.files[Path("speech.wav")] = found  # type: ignore[assignment]
        scene.at(0.001, scene.link.receive, m.PowerState(gpu="a", state="starting"))
    outcome = await scene.run()
    assert isinstance(outcome, e.Failed)
    assert (outcome.code, outcome.why) == ("file_unusable", outcome.why if found is None else str(found))
    assert scene.events[-1][0] < 1


@pytest.mark.parametrize(("stage", "seconds"), [("total", 500.0), ("execution", 100.0), ("ready", 60.0)])
async def test_a_job_and_its_parts_have_limits_after_which_the_work_is_taken_back(stage: str, seconds: float) -> None:
    healths, reports = [Health(initialized=stage != "ready")], [TaskReport("processing", 1.0)]
    scene = Scene(worker=FakeWorker(healths=healths, reports=reports)).connect()
    outcome = await scene.run(**{stage: seconds})
    assert isinstance(outcome, e.TimedOut)
    assert (outcome.stage, outcome.seconds) == (stage, seconds)
    assert seconds <= scene.events[-1][0] < seconds + 5
    assert scene.link.said(m.Cancel) == [m.Cancel(request_id="job-1")]


STAGES = {"wait": 5.0, "upload": 20.0, "render": 40.0}


@pytest.mark.parametrize("at", STAGES.values(), ids=STAGES)
async def test_a_cancel_in_any_stage_ends_the_job_and_reaches_hub_and_worker(at: float) -> None:
    scene = Scene(offline, worker=FakeWorker(reports=[TaskReport("processing", 1.0)])).connect()
    scene.worker.delays["upload"] = 10.0
    scene.at(15, scene.link.receive, m.Ack(request_id="job-1", url=URL))
    scene.at(at, scene.cancel.on_next, None)
    assert await scene.run() == e.Cancelled()
    assert scene.link.said(m.Cancel) == [m.Cancel(request_id="job-1")]
    assert len(scene.worker.said("cancel")) == (1 if at == STAGES["render"] else 0)


async def test_a_cancel_does_not_wait_for_an_unreachable_worker() -> None:
    scene = Scene(worker=FakeWorker(reports=[TaskReport("processing", 1.0)])).connect()
    scene.worker.delays["cancel"] = 1e6
    scene.at(10, scene.cancel.on_next, None)
    assert await scene.run() == e.Cancelled()
    assert scene.events[-1][0] == 15.0


async def test_an_unexpected_error_is_an_outcome() -> None:
    scene = Scene().connect()
    scene.worker.failures["submit"] = [RuntimeError("boom")]  # type: ignore[list-item]
    end = await scene.run()
    assert isinstance(end, e.Failed)
    why = end.why.partition(" (wakestream/adapters/testing/fakes.py:")[0]
    assert (end.code, why) == ("internal", "RuntimeError: boom")


async def test_jobs_start_no_thread_and_leave_no_listener() -> None:
    before = threading.enumerate()
    for number in range(20):
        scene = Scene(offline)
        scene.job = replace(scene.job, id=f"job-{number}")
        start = scene.loop.time()
        scene.connect()
        scene.at(start + 65, scene.link.receive, m.Ack(request_id=scene.job.id, url=URL))
        assert isinstance(await scene.run(), e.Done)
        assert scene.hub.waiting == ()
    assert threading.enumerate() == before


def test_the_scenes_hub_announces_our_hubs_features() -> None:
    from wakestream.streams.hub.hub import FEATURES

    assert set(OURS) <= set(FEATURES)


async def test_the_eta_counts_down_through_news_of_the_machine(waiting: Scene) -> None:
    waiting.at(1, waiting.link.receive, m.PowerState(gpu="a", state="starting"))
    waiting.at(40, waiting.link.receive, m.Ack(request_id="job-1", url=URL))
    await waiting.run()
    assert [round(waking.eta.p50) for waking in waiting.of(e.Waking)] == [99, 89, 79, 69]


async def test_the_end_of_a_job_is_sent_when_the_hub_reconnects() -> None:
    scene = Scene(
        worker=FakeWorker(reports=[TaskReport("processing", 1.0)] * 3 + [TaskReport("done", 100.0)])
    ).connect()
    scene.at(1, scene.link.disconnect)
    assert isinstance(await scene.run(), e.Done)
    assert scene.link.said(m.JobDone) == []
    scene.connect()
    assert scene.link.said(m.JobDone) == [m.JobDone(request_id="job-1")]
    assert len(scene.link.said(m.Submit)) == 1


async def test_a_job_that_is_disposed_of_gives_its_gpu_back() -> None:
    scene = Scene(worker=FakeWorker(reports=[TaskReport("processing", 1.0)])).connect()
    running = asyncio.ensure_future(scene.run())
    await asyncio.sleep(0)
    scene.at(10, running.cancel)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert scene.link.said(m.Cancel) == [m.Cancel(request_id="job-1")]
    assert scene.hub.waiting == ()


async def test_the_end_of_a_job_is_sent_once() -> None:
    scene = Scene()
    scene.hub = HubClient(scene._send, lambda error, _: scene.faults.append(error), lasting=True)
    scene.link.events.subscribe(scene.hub.feed)
    scene.connect()
    assert isinstance(await scene.run(), e.Done)
    assert (scene.link.said(m.JobDone), scene.link.said(m.Cancel)) == ([m.JobDone(request_id="job-1")], [])
