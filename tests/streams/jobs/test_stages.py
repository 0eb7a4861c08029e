"""Pipelines composed of `Stages`: the standard one comes out as `job_pipeline` does, and any part can be another."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from reactivex import Observable

from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, PipelineHarness, asleep, sample_job
from wakestream.operators import (
    Done,
    Failed,
    JobEvent,
    Note,
    Rendered,
    StageTimeout,
    TaskReport,
    TimedOut,
    WorkerUnreachable,
    of,
    then,
)
from wakestream.streams import Stages, job_pipeline, pipeline
from wakestream.streams.jobs.stages import Pipeline
from wakestream.streams.replay.replay import replay


def polled(*percents: float) -> FakeWorkers:
    reports = [*(TaskReport("processing", percent) for percent in percents), TaskReport("done", 100.0)]
    return FakeWorkers({GPU: FakeWorker(reports=reports)}, GPU)


@pipeline
def shortened(stages: Stages) -> Observable[JobEvent]:
    """Renders, and leaves the result where it is."""

    def leave(rendered: Rendered) -> Observable[JobEvent]:
        return of(Note(f"left at {rendered.task.worker.url}"), Done(stages.job.output, 0))

    return stages.submit().pipe(
        then(stages.online, stages.dedupe, stages.upload, stages.synthesize, stages.follow, leave)
    )


def firing(fire: Callable[[], Any]) -> Pipeline:
    """The standard stages, and then an effect of the user's own."""
    return pipeline(
        lambda stages: stages.standard().pipe(then(lambda end: stages.effect("fire", {}, fire).map(lambda _: end)))
    )


async def test_the_standard_stages_in_their_order_are_the_standard_pipeline() -> None:
    logs = []
    for build in (job_pipeline, pipeline(Stages.standard)):
        rehearsal = PipelineHarness(asleep, workers=polled(30, 60))
        rehearsal.at(60, rehearsal.wake)
        outcomes = await rehearsal.run(build)
        assert isinstance(outcomes["job-1"], Done)
        logs.append([(row.label, row.data) for row in rehearsal.log.rows])
    assert logs[0] == logs[1]


async def test_a_stage_can_be_omitted_or_replaced() -> None:
    rehearsal = PipelineHarness()
    outcomes = await rehearsal.run(shortened)
    assert outcomes["job-1"] == Done(sample_job().output, 0)
    assert [event.text for _, event in rehearsal.events["job-1"] if isinstance(event, Note)] == [f"left at {GPU}"]
    assert not [row for row in rehearsal.log.rows if row.label == "download"]
    assert (await replay(rehearsal.log, build=shortened)).divergences == ()


async def test_a_stage_can_have_its_own_policy() -> None:
    @pipeline
    def quick(stages: Stages) -> Observable[JobEvent]:
        lively = stages.with_policy(replace(stages.policy, poll_every=0.5))
        return stages.submit().pipe(
            then(stages.online, stages.dedupe, stages.upload, stages.synthesize, lively.follow, stages.download)
        )

    rehearsal = PipelineHarness(workers=polled(30, 60))
    await rehearsal.run(quick)
    first, second, third = (row.t for row in rehearsal.log.rows if row.label == "report")
    assert (second - first, third - second) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.5, abs=0.01))


async def test_an_effect_of_a_stages_own_is_on_the_record_and_a_replay_does_not_carry_it_out() -> None:
    done: list[str] = []

    async def publish() -> str:
        done.append("published")
        return "a place"

    @pipeline
    def published(stages: Stages) -> Observable[JobEvent]:
        told = stages.effect("publish", {"job": stages.job.id}, publish).map(lambda at: Note(f"published at {at}"))
        return stages.standard().pipe(then(lambda end: told.pipe(then(lambda _: of(end)))))

    rehearsal = PipelineHarness()
    assert isinstance((await rehearsal.run(published))["job-1"], Done)
    assert (await replay(rehearsal.log, build=published)).divergences == ()
    assert done == ["published"]


async def late() -> str:
    raise StageTimeout("kiln", 90.0)


async def cancelled() -> str:
    raise asyncio.CancelledError


def lit() -> str:
    return "lit"


@pytest.mark.parametrize(
    ("fire", "end"),
    [
        (late, TimedOut("kiln", 90.0, "kiln: nothing within 90 s")),
        (cancelled, Failed("own.fire cancelled itself", "internal")),
        (lit, Failed("fire: lit() returned 'lit', which cannot be awaited", "internal")),
    ],
)
async def test_an_effect_that_fails_ends_its_job_then_and_in_a_replay(
    fire: Callable[[], Any], end: TimedOut | Failed
) -> None:
    rehearsal = PipelineHarness()
    ended = (await rehearsal.run(firing(fire)))["job-1"]
    assert type(ended) is type(end)
    assert end.why in ended.why
    assert replace(ended, why=end.why) == end
    assert (await replay(rehearsal.log, build=firing(fire))).divergences == ()


async def test_an_effect_with_many_items_replays() -> None:
    worker = FakeWorker()
    worker.failures["upload"] = [asyncio.CancelledError()]  # type: ignore[list-item]
    rehearsal = PipelineHarness(workers=FakeWorkers({GPU: worker}, GPU))
    end = (await rehearsal.run(job_pipeline))["job-1"]
    assert isinstance(end, Failed)
    assert end.why.startswith("upload cancelled itself")
    assert (await replay(rehearsal.log)).divergences == ()


async def test_the_lifecycle_surrounds_the_stages() -> None:
    lost = FakeWorker()
    lost.failures["submit"] = [WorkerUnreachable("gone")] * 4
    again = PipelineHarness(workers=FakeWorkers({GPU: lost}, GPU))
    assert isinstance((await again.run(shortened))["job-1"], Done), "a lost GPU sends it back to submit"
    late = PipelineHarness(asleep)
    assert isinstance((await late.run(shortened))["job-1"], TimedOut)
    broken = PipelineHarness()
    outcomes = await broken.run(pipeline(lambda stages: stages.submit().pipe(then(lambda _: 1 / 0))))
    line = test_the_lifecycle_surrounds_the_stages.__code__.co_firstlineno + 8
    why = f"ZeroDivisionError: division by zero (test_stages.py:{line})"
    assert outcomes["job-1"] == Failed(why, "internal")


def test_a_pipeline_keeps_name_and_docstring_of_its_function() -> None:
    assert (shortened.__name__, shortened.__doc__) == ("shortened", "Renders, and leaves the result where it is.")


WRONG = {
    "a stage gives its value": lambda stages: stages.submit().pipe(then(lambda grant: grant)),
    "a stage forgets to return": lambda stages: stages.submit().pipe(then(lambda _: None)),
    "the pipeline forgets to return": lambda stages: None,
    "the pipeline raises": lambda stages: stages.no_such_stage(),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_pipeline_that_is_put_together_wrongly_fails_its_job_at_once(wrong: str) -> None:
    rehearsal = PipelineHarness()
    end = (await rehearsal.run(pipeline(WRONG[wrong])))["job-1"]
    assert isinstance(end, Failed)
    assert (end.code, "(test_stages.py:" in end.why) == ("internal", True)
    assert rehearsal.events["job-1"][-1][0] < 1.0
    assert (await replay(rehearsal.log, build=pipeline(WRONG[wrong]))).divergences == ()


async def test_so_does_one_whose_build_returns_nothing() -> None:
    end = (await PipelineHarness().run(lambda *_: None))["job-1"]  # type: ignore[arg-type,return-value]
    assert isinstance(end, Failed)
    assert "a lambda returned None" in end.why
