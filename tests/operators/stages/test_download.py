"""The stage `download` alone."""

from tests.support.streams.stage_scene import JOB, SUBMITTED, Stage
from wakestream.operators.model import errors
from wakestream.operators.model import events as e

RENDERED = e.Rendered(SUBMITTED)


async def test_progress_comes_before_the_end(stage: Stage) -> None:
    items = await stage.run(stage.of().download(RENDERED))
    assert items == [e.Downloading(500, 1000), e.Downloading(1000, 1000), e.Done(JOB.output, 1000)]


async def test_a_truncated_result_is_fetched_again(stage: Stage) -> None:
    stage.worker.failures["download"] = [errors.Corrupt("truncated")]
    assert (await stage.run(stage.of().download(RENDERED)))[-1] == e.Done(JOB.output, 1000)


async def test_a_full_disk_is_not_tried_again(stage: Stage) -> None:
    stage.worker.failures["download"] = [errors.NoSpace("the disk is full")]
    await stage.run(stage.of().download(RENDERED))
    assert isinstance(stage.end, errors.NoSpace)
    assert len(stage.worker.said("download")) == 1
