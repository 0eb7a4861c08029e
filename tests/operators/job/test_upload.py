"""The stage `upload` alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from stage import AUDIO, CHECKED, Stage

from wakestream.operators import errors
from wakestream.operators import events as e
from wakestream.operators.job.upload import upload
from wakestream.operators.policy import Policy


async def test_progress_counts_over_all_files_and_ends_with_what_was_sent() -> None:
    stage = Stage()
    items = await stage.run(upload(stage.workers, Policy(), Random(1))(CHECKED))
    assert [(item.bytes, item.of) for item in items[:-1]] == [(500, 1500), (1000, 1500), (1250, 1500), (1500, 1500)]
    assert items[-1] == e.Uploaded(CHECKED, 1500, 0)


async def test_nothing_missing_is_nothing_sent() -> None:
    stage = Stage()
    checked = replace(CHECKED, missing=())
    assert await stage.run(upload(stage.workers, Policy(), Random(1))(checked)) == [e.Uploaded(checked, 0, 1500)]
    assert stage.worker.said("upload") == []


async def test_only_what_is_missing_is_sent() -> None:
    stage = Stage()
    items = await stage.run(upload(stage.workers, Policy(), Random(1))(replace(CHECKED, missing=(AUDIO,))))
    assert (items[-1].sent, items[-1].saved) == (500, 1000)


async def test_a_broken_upload_is_begun_again_a_few_times() -> None:
    stage = Stage()
    stage.worker.failures["upload"] = [errors.WorkerUnreachable("reset")] * 3
    assert (await stage.run(upload(stage.workers, Policy(), Random(1))(CHECKED)))[-1] == e.Uploaded(CHECKED, 1500, 0)
    stage.worker.failures["upload"] = [errors.WorkerUnreachable("reset")] * 4
    await stage.run(upload(stage.workers, Policy(), Random(1))(CHECKED))
    assert isinstance(stage.end, errors.WorkerUnreachable)


async def test_silence_is_broken_off() -> None:
    stage = Stage()
    stage.worker.delays["upload"] = 1e6
    await stage.run(upload(stage.workers, Policy(transfer=60.0), Random(1))(CHECKED))
    assert isinstance(stage.end, errors.Stalled)


async def test_a_changed_file_is_not_tried_again() -> None:
    stage = Stage()
    stage.worker.failures["upload"] = [errors.FileChanged("written to")]
    await stage.run(upload(stage.workers, Policy(), Random(1))(CHECKED))
    assert isinstance(stage.end, errors.FileChanged)
    assert len(stage.worker.said("upload")) == 1
