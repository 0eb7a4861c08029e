"""The stage `synthesize` alone."""

from tests.support.streams.stage_scene import AUDIO, CHECKED, ONLINE, VIDEO, Stage
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.ports import TaskReceipt

UPLOADED = e.Uploaded(CHECKED, 1500, 0)


async def test_files_are_submitted_by_the_hashes_that_the_worker_knows() -> None:
    stage = Stage(FakeWorker(receipt=TaskReceipt("task-1", position=2)))
    items = await stage.run(stage.of().synthesize(UPLOADED))
    assert items == [e.Submitted(ONLINE, "task-1", False, 2)]
    assert stage.worker.said("submit") == [
        ("job-1", e.FileRef(VIDEO.digests["blake3"], ".mp4"), e.FileRef(AUDIO.digests["blake3"], ".wav"))
    ]


async def test_a_submit_that_broke_is_made_again_with_the_same_id(stage: Stage) -> None:
    stage.worker.failures["submit"] = [errors.WorkerUnreachable("reset")]
    await stage.run(stage.of().synthesize(UPLOADED))
    first, second = stage.worker.said("submit")
    assert first == second


async def test_a_refusal_is_the_stages_error(stage: Stage) -> None:
    stage.worker.failures["submit"] = [errors.WorkerRefused("no", code="bad_request")]
    await stage.run(stage.of().synthesize(UPLOADED))
    assert isinstance(stage.end, errors.WorkerRefused)
