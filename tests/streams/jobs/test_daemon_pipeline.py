"""The daemon's pipeline in virtual time: limits, priorities, endless retries, and the reuse of earlier results."""

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.streams.daemon_scene import Before, House, unreachable
from tests.support.streams.job_scene import URL, ack, offline, silence
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.adapters.testing.harness import PipelineHarness, awake
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.ports import TaskReceipt, TaskReport
from wakestream.streams.jobs.daemon_pipeline import DURABLE, MAX_LOST_TASKS, MAX_NO_GPU, durable_pipeline
from wakestream.streams.jobs.gpu_backoff import MAX_NO_PROGRESS
from wakestream.streams.jobs.job_runner import RETRY_NOW
from wakestream.streams.jobs.stages import Events, Stages
from wakestream.streams.jobs.turn_stages import LaneLimits, Lanes
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.log_edit import with_rows
from wakestream.streams.recording.recording import Row
from wakestream.streams.replay.replay import replay


async def test_a_single_job_runs_without_waiting(house: House) -> None:
    assert await house.start(1) == e.Done(Path("1.out.mp4"), 1000)
    assert house.kinds(1, e.Note) == []
    assert [lane.running for lane in (house.lanes.running, house.lanes.uploads, house.lanes.gpu)] == [0, 0, 0]


async def test_waiting_for_an_upload_place_is_noted_and_not_a_stall() -> None:
    worker = FakeWorker()
    worker.delays["upload"] = 50.0
    house = House(LaneLimits(uploads=1), worker=worker).connect()
    jobs = [house.start(n) for n in (1, 2, 3)]
    assert all(isinstance(outcome, e.Done) for outcome in await asyncio.gather(*jobs))
    assert [house.first(n, e.Uploading) for n in (1, 2, 3)] == [0.0, 100.0, 150.0]
    assert len(worker.said("upload")) == 4  # the speech, which all three need, was sent once
    (note,) = house.kinds(3, e.Note)
    assert note.text == "waiting for a turn to upload: another job is at it, 1 come before this one"
    assert note.data == {"waits": "to upload", "limit": 1, "before": 1}
    assert all(house.kinds(n, e.Retrying) == [] for n in (1, 2, 3))


async def test_a_job_without_uploads_needs_no_upload_place() -> None:
    worker = FakeWorker()
    worker.delays["upload"] = 50.0
    house = House(LaneLimits(uploads=1), worker=worker).connect()
    await house.start(1)
    again = house.start(1)
    busy = house.start(2)
    await again
    assert not busy.done()
    await busy


async def test_the_gpu_takes_the_most_urgent_first() -> None:
    worker = FakeWorker()
    worker.delays["report"] = 30.0
    house = House(LaneLimits(gpu=1), worker=worker).connect()
    jobs = [house.start(n, priority=priority) for n, priority in ((1, 0), (2, -1), (3, 0), (4, 9))]
    await asyncio.gather(*jobs)
    assert sorted((1, 2, 3, 4), key=lambda n: house.first(n, e.Rendered)) == [1, 4, 3, 2]


async def test_jobs_over_the_limit_send_no_submit() -> None:
    house = House(LaneLimits(running=1), answer=offline).connect()
    jobs = [house.start(n) for n in (1, 2)]
    house.at(50, house.link.receive, m.Ack(request_id="job-1", gpu="a", url=URL))
    await jobs[0]
    assert [submit.request_id for submit in house.link.said(m.Submit)][:1] == ["job-1"]
    house.at(house.loop.time() + 10, house.link.receive, m.Ack(request_id="job-2", gpu="a", url=URL))
    assert isinstance(await jobs[1], e.Done)
    assert house.first(2, e.Queued) >= 50


async def test_a_job_that_waits_to_begin_takes_little_memory_and_has_no_stages() -> None:
    made: list[str] = []

    def compose(stages: Stages) -> Events:
        made.append(stages.job.id)
        return stages.standard()

    house = House(LaneLimits(running=1), answer=offline).connect()
    house.build = durable_pipeline(house.lanes, house.before, compose)
    first = house.start(0)
    await asyncio.sleep(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        jobs = [house.start(n) for n in [1] * 400]
        await asyncio.sleep(1)
        gc.collect()  # what is held counts
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made == ["job-0"]
    assert len(house.kinds(1, e.Note)) == 400
    assert (after - before) / 400 < (14_000 if sys.version_info < (3, 14) else 15_000)
    house.link.receive(m.Ack(request_id="job-0", gpu="a", url=URL))
    await first
    house.at(house.loop.time() + 10, house.link.receive, m.Ack(request_id="job-1", gpu="a", url=URL))
    await jobs[0]
    assert made[:2] == ["job-0", "job-1"]
    for job in jobs:
        job.cancel()


async def test_an_outage_of_the_hub_for_days_is_waited_for() -> None:
    house = House()
    house.at(3 * 24 * 3600.0, house.connect)
    assert isinstance(await house.start(1), e.Done)
    assert house.first(1, e.Granted) >= 3 * 24 * 3600.0


async def test_an_unresponsive_refusing_or_full_hub_and_one_whose_worker_is_too_old_are_asked_again() -> None:
    def refused(code: str) -> Callable[[m.Submit], m.Error]:
        return lambda submit: m.Error(code=code, msg=f"it is {code}", request_id=submit.request_id)

    answers = [silence, refused("queue_full"), refused("unsupported"), ack]
    house = House(answer=lambda submit: answers.pop(0)(submit)).connect()
    assert isinstance(await house.start(1), e.Done)
    why = ["reply: nothing within 30 s", "it is queue_full", "it is unsupported"]
    assert [retry.why for retry in house.kinds(1, e.Retrying)] == why


@pytest.mark.parametrize("code", ["unknown_kind", "unmet"])
async def test_a_hub_that_lost_its_journal_is_asked_again_until_the_gpu_is_back_for_some_minutes(code: str) -> None:
    def none(submit: m.Submit) -> m.Error:
        return m.Error(code=code, msg="there is no GPU a", request_id=submit.request_id)

    for answers, outcome in (([none] * (MAX_NO_GPU - 1) + [ack], e.Done), ([none] * MAX_NO_GPU, e.Failed)):
        answers[:0] = [offline, offline]
        house = House(answer=lambda submit, say=answers: say.pop(0)(submit)).connect()  # type: ignore[misc]
        began = house.loop.time()
        house.at(began + 60.0, house.link.disconnect, "restarting")
        house.at(began + 61.0, house.connect)
        house.at(began + 62.0, house.link.receive, none(m.Submit(request_id="job-1", task_type="", payload={})))
        ended = await house.start(1)
        assert isinstance(ended, outcome), ended
        assert [retry.why for retry in house.kinds(1, e.Retrying)] == ["there is no GPU a"] * MAX_NO_GPU
        assert answers == []
        assert 300.0 < house.loop.time() - began < 900.0


async def test_a_job_that_had_a_gpu_is_not_refused_at_once_when_the_hub_knows_none_for_it() -> None:
    answers: list[Callable[[m.Submit], m.Message]] = [
        ack, lambda submit: m.Error(code="unknown_kind", msg="no GPU has the kind", request_id=submit.request_id), ack
    ]  # fmt: skip
    reports = [errors.TaskLost("restarted"), TaskReport("done", 100.0)]
    house = House(answer=lambda submit: answers.pop(0)(submit), worker=FakeWorker(reports=reports)).connect()
    assert isinstance(await house.start(1, replace(DURABLE, call=replace(DURABLE.call, max_retries=0))), e.Done)
    assert [retry.why for retry in house.kinds(1, e.Retrying)] == ["restarted", "no GPU has the kind"]


async def test_a_job_that_no_gpu_can_do_is_refused_for_good_by_a_hub_that_was_not_away() -> None:
    answers: list[Callable[[m.Submit], m.Message]] = [
        offline, lambda submit: m.Error(code="unknown_kind", msg="no GPU has the kind", request_id=submit.request_id)
    ]  # fmt: skip
    house = House(answer=lambda submit: answers[0](submit)).connect()
    house.at(60.0, lambda: house.link.receive(answers[1](m.Submit(request_id="job-1", task_type="", payload={}))))
    assert await house.start(1) == e.Failed("no GPU has the kind", "unknown_kind")
    assert house.kinds(1, e.Retrying) == []


@pytest.mark.parametrize(
    ("gpus", "asked", "code"),
    [
        (("a",), [], "unknown_kind"),
        ((), ["job-1"], "unknown_kind"),
        ((), ["job-1"], "unmet"),
        ((), ["job-1"], "conflict"),
    ],
    ids=["it names a GPU", "asked by an earlier run", "what it requires", "it had another license"],
)
async def test_a_first_refusal_that_can_pass_is_said_and_the_job_waits(
    gpus: tuple[str, ...], asked: list[str], code: str
) -> None:
    house = House().connect()
    house.answer = lambda submit: (
        m.Error(code=code, msg="not yet", request_id=submit.request_id) if house.loop.time() < until else ack(submit)
    )
    until = house.loop.time() + 5.0
    house.asked |= {*asked}
    assert isinstance(await house.start(1, gpus=gpus), e.Done)
    assert {retry.why for retry in house.kinds(1, e.Retrying)} == {"not yet"}
    assert house.loop.time() < until + 60.0


@pytest.mark.parametrize("call", ["upload", "submit"])
async def test_a_worker_with_a_full_queue_is_asked_again_and_keeps_its_gpu(call: str) -> None:
    house = House().connect()
    house.worker.failures[call] = [errors.WorkerFull("full: try again later", code="queue_full")] * 40
    assert isinstance(await house.start(1, PATIENT), e.Done)
    assert {retry.why for retry in house.kinds(1, e.Retrying)} == {"full: try again later"}
    assert house.kinds(1, e.Note) == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("download", errors.TaskLost("the result is gone")),
        ("download", errors.Corrupt("its BLAKE3 is another", code="damaged")),
        ("upload", errors.Corrupt("that is not what was announced", code="damaged")),
    ],
)
async def test_a_worker_that_loses_its_files_does_not_keep_the_gpu_on(call: str, error: errors.WakestreamError) -> None:
    house = House(worker=FakeWorker(receipt=TaskReceipt("task", cached=True))).connect()
    house.worker.failures[call] = [error] * 1000
    assert await house.start(1) == e.Failed(str(error), error.code)
    assert len(house.kinds(1, e.Retrying)) == MAX_LOST_TASKS - 1


async def test_a_line_that_breaks_again_and_again_is_no_reason_to_give_up() -> None:
    house = House(worker=FakeWorker(receipt=TaskReceipt("task", cached=True))).connect()
    house.worker.failures["download"] = [errors.Corrupt("the result broke off")] * 100
    assert isinstance(await house.start(1), e.Done)


async def test_a_task_that_is_lost_in_mid_work_is_begun_again_as_often_as_it_takes() -> None:
    house = House(
        worker=FakeWorker(reports=[TaskReport("processing", 5.0), errors.TaskLost("restarted")] * 20)
    ).connect()
    house.worker.reports += [TaskReport("processing", 5.0), TaskReport("done", 100.0)]
    assert isinstance(await house.start(1, replace(DURABLE, call=replace(DURABLE.call, max_retries=0))), e.Done)
    assert len(house.kinds(1, e.Retrying)) == 20


async def test_an_error_of_the_job_itself_ends_it_at_once() -> None:
    house = House(
        answer=lambda submit: m.Error(code="conflict", msg="not yours", request_id=submit.request_id)
    ).connect()
    assert await house.start(1) == e.Failed("not yours", "conflict")


def failing(submit: m.Submit) -> m.Message:
    return m.BootResult(request_id=submit.request_id, success=False, status="failed", msg="no capacity")


async def test_a_gpu_that_does_not_start_for_a_day_ends_no_job_and_is_asked_less_often() -> None:
    day = 24 * 3600.0
    house = House(answer=lambda submit: ack(submit) if house.loop.time() > day else failing(submit)).connect()
    assert isinstance(await house.start(1, PATIENT), e.Done)
    pauses = [note.data["rests"] for note in house.kinds(1, e.Note)]
    assert [note.data["starts"] for note in house.kinds(1, e.Note)] == list(range(1, len(pauses) + 1))
    assert 30 <= pauses[0] <= 60 < 900 <= max(pauses) <= 1800
    assert 24 * 2 < len(house.link.said(m.Submit)) < 24 * 8
    note = house.kinds(1, e.Note)[0]
    assert note.text.startswith("the GPU did not start (no capacity); the next try is in ")
    assert note.data["why"] == "no capacity"


async def test_all_jobs_of_a_daemon_pause_together_after_a_failed_start_so_that_one_start_is_tried_for_all() -> None:
    house = House(answer=failing).connect()
    jobs = [house.start(n, PATIENT) for n in range(9)]
    house.at(6 * 3600.0, house.cancel.on_next, None)
    assert await asyncio.gather(*jobs) == [e.Cancelled()] * 9
    told = [{at for at, event in house.told[f"job-{n}"] if isinstance(event, e.Note)} for n in range(9)]
    starts = [[note.data["starts"] for note in house.kinds(n, e.Note)] for n in range(9)]
    assert starts[1:] == starts[:-1]
    assert all(max(moments) - min(moments) <= 1.0 for moments in zip(*map(sorted, told), strict=True))


BACK: dict[str, tuple[str, Callable[[House], object]]] = {
    "another job is granted": ("boot", lambda house: house.start(2, PATIENT)),
    "the machine has booted": ("boot", lambda house: house.link.receive(m.PowerState(gpu="a", state="booted"))),
    "a retry after a failed start": ("boot", lambda house: house.retry("job-1") or 1 / 0),
    "a retry without a worker": ("worker", lambda house: house.retry("job-1") or 1 / 0),
    "the hub is back": ("worker", lambda house: (house.link.disconnect(), house.connect())),
}
"""What ends the pause of a job, and which trouble it pauses for."""


@pytest.mark.parametrize("news", BACK)
async def test_good_news_and_a_retry_request_end_the_pause_of_a_job(news: str) -> None:
    trouble, happens = BACK[news]
    house = House(answer=failing) if trouble == "boot" else House(worker=unreachable())
    house.connect()
    running = house.start(1, PATIENT)
    assert not house.retry("job-1"), "it does not pause yet"
    await rests(house)
    house.answer, house.worker.gone = ack, None
    began = house.loop.time()
    assert not house.retry("job-2")
    happens(house)
    assert isinstance(await running, e.Done)
    assert house.loop.time() - began < 5.0


async def test_a_retry_request_is_recorded_and_replayed() -> None:
    build = durable_pipeline(Lanes(LaneLimits()), Before())
    told = [failing, awake]
    recorded = PipelineHarness(lambda submit: told.pop(0)(submit), policy=DURABLE)
    await recorded.run(build)
    wish = Row(0, 10.0, "in", RETRY_NOW, {}, "job-1")
    again = durable_pipeline(Lanes(LaneLimits()), Before())
    now = (await replay(with_rows(recorded.log, [*recorded.log.rows, wish]), build=again)).again
    before, after = (next(row.t for row in log.rows if row.label == "retrying") for log in (recorded.log, now))
    assert before >= 30.0
    assert after == pytest.approx(10.0, abs=0.01)
    assert [row.label for row in now.rows if row.t == pytest.approx(10.0, abs=0.01)] == [RETRY_NOW, "retrying"]


async def rests(house: House) -> None:
    """Returns when the first job has released its GPU."""
    async with asyncio.timeout(3600):
        while not house.kinds(1, e.Note):  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(1)


PATIENT = replace(DURABLE, line_every=600.0)


async def test_an_outage_of_the_worker_for_a_day_is_waited_for_without_the_gpu(cut_off: House) -> None:
    cut_off.at(24 * 3600.0, setattr, cut_off.worker, "gone", None)
    assert isinstance(await cut_off.start(1, PATIENT), e.Done)
    rests = cut_off.kinds(1, e.Note)
    assert len(cut_off.link.said(m.JobDone)) == len(rests) + 1  # the last when it was done
    assert len(cut_off.link.said(m.Submit)) < 30
    seconds = [note.data["rests"] for note in rests]
    assert 150 <= seconds[0] <= 300
    assert max(seconds) <= 4 * 3600
    assert sum(seconds) > 20 * 3600
    assert rests[0].text == "10 attempts with a GPU made no progress (no answer); the next try comes later"
    assert max(retry.delay for retry in cut_off.kinds(1, e.Retrying)) <= 60.0


async def test_a_line_that_breaks_again_and_again_does_not_keep_the_gpu_awake(cut_off: House) -> None:
    for minutes in range(10, 24 * 60, 10):
        cut_off.at(60.0 * minutes, cut_off.link.disconnect)
        cut_off.at(60.0 * minutes + 1, cut_off.connect)
    cut_off.at(24 * 3600.0, cut_off.cancel.on_next, None)
    assert await cut_off.start(1, PATIENT) == e.Cancelled()
    assert len(cut_off.link.said(m.Submit)) < 50
    rests = cut_off.kinds(1, e.Note)
    assert max(note.data["rests"] for note in rests) > 2 * 3600


async def test_a_job_that_gets_further_each_time_keeps_its_gpu() -> None:
    house = House()
    cut = [errors.WorkerUnreachable("cut")] * (MAX_NO_PROGRESS - 1) * (1 + (DURABLE.call.max_retries or 0))
    house.worker.failures |= {call: list(cut) for call in ("check", "upload", "submit", "download")}
    house.connect()
    assert isinstance(await house.start(1, PATIENT), e.Done)
    assert house.kinds(1, e.Note) == []
    assert len(house.kinds(1, e.Granted)) > 2 * MAX_NO_PROGRESS
    assert len(house.link.said(m.JobDone)) == 1


async def test_an_upload_without_progress_releases_the_gpu() -> None:
    house = House().connect()
    house.worker.failures["upload"] = [errors.WorkerUnreachable("the proxy cuts it")] * 100
    house.at(12 * 3600.0, house.cancel.on_next, None)
    assert await house.start(1, PATIENT) == e.Cancelled()
    assert len(house.kinds(1, e.Note)) > 3


async def test_a_job_that_rests_holds_up_no_other() -> None:
    house = House(LaneLimits(running=1), worker=unreachable()).connect()
    resting = house.start(1, PATIENT)
    await rests(house)
    house.worker.gone = None
    began, rest = house.loop.time(), house.kinds(1, e.Note)[0].data["rests"]
    assert isinstance(await house.start(2, PATIENT), e.Done)
    assert house.loop.time() - began < rest / 2
    assert isinstance(await resting, e.Done)


async def test_a_job_that_must_wait_for_a_further_turn_releases_the_gpu_for_which_the_others_wait() -> None:
    house = House(
        LaneLimits(running=1), answer=lambda asked: (offline if asked.request_id == "job-2" else ack)(asked)
    ).connect()
    house.worker.failures["upload"] = [errors.WorkerUnreachable("cut")] * (1 + (DURABLE.call.max_retries or 0))
    jobs = [house.start(n, PATIENT) for n in (1, 2)]
    async with asyncio.timeout(900):
        while not house.link.said(m.JobDone):  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(1)
    assert [done.request_id for done in house.link.said(m.JobDone)] == ["job-1"]
    house.link.receive(m.Ack(request_id="job-2", gpu="a", url=URL))
    assert all(isinstance(outcome, e.Done) for outcome in await asyncio.gather(*jobs))


async def test_a_cancel_ends_a_rest(cut_off: House) -> None:
    running = cut_off.start(1, PATIENT)
    await rests(cut_off)
    before = cut_off.loop.time()
    cut_off.cancel.on_next(None)
    assert await running == e.Cancelled()
    assert cut_off.loop.time() == before


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("upload", errors.WorkerFull("the worker's disk is full")),
        ("submit", errors.WorkerFull("the worker's disk is full")),
        ("check", errors.WorkerRefused("the worker does not accept our secret", code="unauthorized")),
        ("check", errors.WorkerRefused("this job has no capability, and no secret is set", code="no_secret")),
        ("submit", errors.WorkerRefused("it knows no kinds; update the worker first", code="unsupported")),
        ("submit", errors.WorkerRefused("there is no kind upscale here", code="unknown_kind")),
        ("health", errors.WorkerRefused("its certificate has expired", code="tls")),
        ("report", errors.WorkerRefused("the worker raised KeyError", code="internal")),
        ("download", errors.NoSpace("no space left on the PC")),
    ],
)
async def test_what_an_operator_can_fix_is_waited_for_without_the_gpu(call: str, error: errors.WakestreamError) -> None:
    house = House().connect()
    house.worker.failures[call] = [error] * 160
    assert isinstance(await house.start(1, PATIENT), e.Done)
    rests = house.kinds(1, e.Note)
    assert len(rests) > 3
    assert len(house.link.said(m.JobDone)) == len(rests) + 1


async def test_a_final_error_ends_the_job_after_any_number_of_attempts(cut_off: House) -> None:
    running = cut_off.start(1, PATIENT)
    await rests(cut_off)
    cut_off.worker.gone = errors.WorkerRefused("no such preset", code="bad_request")
    rest = cut_off.kinds(1, e.Note)[0].data["rests"]
    began = cut_off.loop.time()
    outcome = await running
    assert isinstance(outcome, e.Failed)
    assert cut_off.loop.time() - began <= rest + 60
    assert len(cut_off.kinds(1, e.Note)) == 1


@pytest.mark.parametrize(("job", "told"), [("old", {"same_as": "old"}), ("job-1", {})])
async def test_an_existing_result_is_used_without_a_submit(job: str, told: dict[str, str]) -> None:
    house = House(before=Before(job_1=[{"job": job, "path": "1.out.mp4", "size": 7}])).connect()
    assert await house.start(1) == e.Done(Path("1.out.mp4"), 7)
    assert house.kinds(1, e.Note)[0].data == told
    assert house.link.said(m.Submit) == []


@pytest.mark.parametrize("then", [[{"job": "job-2", "path": "1.out.mp4", "size": 7}], []])
async def test_a_job_with_the_same_work_is_awaited_and_else_done(then: list[Mapping[str, Any]]) -> None:
    before = Before(job_1=[{"job": "job-2"}, *then])
    house = House(before=before).connect()
    before.over["job-2"] = asyncio.Event()
    house.at(500, before.over["job-2"].set)
    outcome = await house.start(1)
    assert isinstance(outcome, e.Done)
    assert (outcome.size, bool(house.link.said(m.Submit))) == ((7, False) if then else (1000, True))
    assert house.told["job-1"][-1][0] >= 500


async def test_a_cancel_reaches_a_job_that_waits_for_a_place_or_another_job() -> None:
    house = House(LaneLimits(running=1), Before(job_3=[{"job": "job-1"}]), answer=offline).connect()
    jobs = [house.start(n) for n in (1, 2, 3)]
    house.at(20, house.cancel.on_next, None)
    assert await asyncio.gather(*jobs) == [e.Cancelled(), e.Cancelled(), e.Cancelled()]
    assert (house.lanes.running.running, house.lanes.running.waiting) == (0, 0)
