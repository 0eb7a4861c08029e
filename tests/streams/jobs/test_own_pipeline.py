"""Pipelines of the user's own in the daemon, in virtual time: turns and patience as for the standard one."""

import asyncio
from dataclasses import replace
from typing import Any

from reactivex import Observable

from tests.support.streams.daemon_scene import House
from tests.support.streams.job_scene import ack
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.adapters.testing.harness import PipelineHarness
from wakestream.operators import (
    Done,
    Failed,
    Job,
    JobEvent,
    Note,
    Policy,
    Submitted,
    WorkerRefused,
    before_outcome,
    note,
    of,
    then,
)
from wakestream.operators.model import events as e
from wakestream.streams import World, job_pipeline, pipeline
from wakestream.streams.jobs.daemon_pipeline import own_pipeline
from wakestream.streams.jobs.stages import Events, Stages
from wakestream.streams.jobs.turn_stages import LaneLimits
from wakestream.streams.protocol import messages as m


@pipeline
def stage_by_stage(stages: Stages) -> Events:
    """Each stage by itself, the poll under another policy, and a word in between."""
    quick = stages.with_policy(replace(stages.policy, poll_every=0.5))

    def said(task: Submitted) -> Events:
        return note("submitted").pipe(then(lambda _: of(task)))

    return stages.submit().pipe(
        then(stages.online, stages.dedupe, stages.upload, stages.synthesize, said, quick.follow, stages.download)
    )


def waits(house: House, n: int) -> list[Any]:
    return [said.data["waits"] for said in house.kinds(n, Note) if "waits" in said.data]


async def test_a_job_keeps_its_turn_at_the_gpu_over_all_stages_that_are_there() -> None:
    worker = FakeWorker()
    worker.delays["report"] = 30.0
    house = House(LaneLimits(gpu=1, uploads=9), worker=worker)
    house.build = own_pipeline(house.lanes, stage_by_stage)
    house.connect()
    jobs = [house.start(n, priority=priority) for n, priority in ((1, 0), (2, 0), (3, 9))]
    assert all(isinstance(outcome, Done) for outcome in await asyncio.gather(*jobs))
    assert [waits(house, n) for n in (1, 2, 3)] == [[], ["for the GPU"], ["for the GPU"]]
    submitted = {n: house.first(n, e.Submitted) for n in (1, 2, 3)}
    assert submitted[3] >= house.first(1, e.Rendered)
    assert submitted[2] >= house.first(3, e.Rendered)
    assert (house.lanes.gpu.running, house.lanes.gpu.waiting) == (0, 0)


async def test_a_turn_at_the_gpu_ends_with_a_try_that_fails_and_with_a_cancel() -> None:
    house = House(LaneLimits(gpu=1))
    house.build = own_pipeline(house.lanes, stage_by_stage)
    house.worker.failures["submit"] = [WorkerRefused("full", code="queue_full")]
    house.connect()
    assert isinstance(await house.start(1), Done)
    assert len(house.kinds(1, e.Retrying)) == 1
    assert house.lanes.gpu.running == 0
    house.worker.delays["report"] = 1e4
    held = house.start(2)
    await asyncio.sleep(10)
    assert house.lanes.gpu.running == 1
    held.cancel()
    await asyncio.sleep(1)
    assert (house.lanes.gpu.running, house.lanes.running.running) == (0, 0)


def lasting(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
    return job_pipeline(job, world, policy, cancel).pipe(before_outcome(lambda _: note("over")))


async def test_a_plain_function_has_the_daemons_retry_rules_and_polls_less_often() -> None:
    hour = 3600.0

    def answer(submit: m.Submit) -> m.Message:
        if house.loop.time() > 10 * hour:
            return ack(submit)
        return m.BootResult(request_id=submit.request_id, success=False, status="failed", msg="no capacity")

    house = House(answer=answer)
    house.build = own_pipeline(house.lanes, lasting)
    house.connect()
    assert isinstance(await house.start(1), Done)
    assert [said.text for said in house.kinds(1, Note)] == ["over"]
    assert 10 < len(house.link.said(m.Submit)) < 40


async def test_a_pipeline_without_its_decorator_fails_with_what_to_write() -> None:
    def mine(stages: Stages) -> Events:
        return stages.standard()

    outcome = (await PipelineHarness().run(mine))["job-1"]  # type: ignore[arg-type]  # as users write it
    assert isinstance(outcome, Failed)
    assert "mine() is no pipeline. Write @pipeline above its definition (test_own_pipeline.py:" in outcome.why
