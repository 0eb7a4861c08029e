"""The stage `follow` alone."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.streams.stage_scene import SUBMITTED, Stage
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import TaskReport


async def test_reports_come_every_two_seconds_until_done() -> None:
    reports = [TaskReport("queued", position=1), TaskReport("processing", 10.0), TaskReport("done", 100.0)]
    stage = Stage(FakeWorker(reports=reports))
    items = await stage.run(stage.of().follow(SUBMITTED))
    assert [getattr(item, "status", None) for item in items] == ["queued", "processing", "done", None]
    assert items[-1] == e.Rendered(SUBMITTED)
    assert [at for at, _ in stage.items] == [0.0, 2.0, 4.0, 4.0]


async def test_a_report_without_news_is_not_repeated() -> None:
    stage = Stage(FakeWorker(reports=[TaskReport("processing", 5.0)] * 9 + [TaskReport("done", 100.0)]))
    items = await stage.run(stage.of().follow(SUBMITTED))
    assert len(items) == 3
    assert len(stage.worker.said("report")) == 10


async def test_a_cached_task_is_rendered_already(stage: Stage) -> None:
    task = replace(SUBMITTED, cached=True)
    assert await stage.run(stage.of().follow(task)) == [e.Rendered(task)]


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (TaskReport("error", error="moov atom not found"), "moov atom not found"),
        (TaskReport("error", message="out of memory"), "out of memory"),
        (TaskReport("error"), "the worker says error and no more"),
    ],
)
async def test_a_failed_task_has_a_reason(report: TaskReport, why: str) -> None:
    stage = Stage(FakeWorker(reports=[report]))
    await stage.run(stage.of().follow(SUBMITTED))
    assert isinstance(stage.end, errors.TaskFailed)
    assert str(stage.end) == why


async def test_a_task_that_the_hub_gave_up_is_lost_and_not_failed() -> None:
    stage = Stage(FakeWorker(reports=[TaskReport("cancelled", error="no job holds this task")]))
    await stage.run(stage.of().follow(SUBMITTED))
    assert isinstance(stage.end, errors.TaskLost)


async def test_a_job_whose_worker_begins_no_tasks_goes_back_to_the_hub() -> None:
    stage = Stage(FakeWorker(reports=[TaskReport("queued", position=1, waits="the worker's disk is full")]))
    await stage.run(stage.of().follow(SUBMITTED))
    assert errors.is_retryable(stage.end)
    assert "disk is full" in str(stage.end)


async def test_execution_has_a_limit() -> None:
    stage = Stage(FakeWorker(reports=[TaskReport("processing", 1.0)]))
    await stage.run(stage.of(Policy(execution=60.0)).follow(SUBMITTED))
    assert isinstance(stage.end, errors.StageTimeout)
    assert stage.end.stage == "execution"


async def test_the_wait_in_the_workers_line_is_no_part_of_the_execution() -> None:
    waiting = [TaskReport("queued", position=1 + n // 10) for n in range(100, 0, -1)]
    stage = Stage(FakeWorker(reports=[*waiting, TaskReport("processing", 1.0), TaskReport("done", 100.0)]))
    items = await stage.run(stage.of(Policy(execution=60.0)).follow(SUBMITTED))
    assert (items[-1], stage.items[-1][0]) == (e.Rendered(SUBMITTED), 202.0)
    slow = Stage(FakeWorker(reports=[*waiting, TaskReport("processing", 1.0)]))
    await slow.run(slow.of(Policy(execution=60.0)).follow(SUBMITTED))
    assert isinstance(slow.end, errors.StageTimeout)
    assert slow.end.stage == "execution"
    assert asyncio.get_running_loop().time() - stage.items[-1][0] == 200.0 + 60.0


@pytest.mark.parametrize(("status", "position"), [("queued", 3), ("queued", None), ("processing", 3)])
async def test_a_queue_that_does_not_move_ends_no_job(status: str, position: int | None) -> None:
    waiting = [TaskReport(status, position=position)] * 10_000
    stage = Stage(FakeWorker(reports=[*waiting, TaskReport("processing", position=0), TaskReport("done")]))
    items = await stage.run(stage.of(Policy(execution=60.0)).follow(SUBMITTED))
    assert items[-1] == e.Rendered(SUBMITTED)
    assert asyncio.get_running_loop().time() >= 20_000
