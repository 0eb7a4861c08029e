"""The stage `dedupe` alone."""

from dataclasses import replace

from tests.support.streams.stage_scene import AUDIO, JOB, ONLINE, URL, VIDEO, Stage
from wakestream.operators.model import errors
from wakestream.operators.model import events as e


async def test_our_workers_are_asked_by_blake3_and_old_ones_by_md5() -> None:
    for worker, algorithm in ((ONLINE, "blake3"), (e.Online(URL), "md5")):
        stage = Stage()
        items = await stage.run(stage.of().dedupe(worker))
        assert items == [
            e.Fingerprinted((VIDEO, AUDIO)),
            e.Checked(worker, {"video": VIDEO, "audio": AUDIO}, algorithm, (VIDEO, AUDIO)),
        ]
        assert stage.worker.said("check") == [tuple(e.FileRef(f.digests[algorithm], f.ext) for f in (VIDEO, AUDIO))]


async def test_a_stored_file_counts_as_saved(stage: Stage) -> None:
    stage.worker.known = {VIDEO.digests["blake3"]}
    items = await stage.run(stage.of().dedupe(ONLINE))
    assert (items[-1].missing, items[-1].saved) == ((AUDIO,), 1000)


async def test_one_file_given_twice_is_asked_for_and_sent_once(stage: Stage) -> None:
    stage.files.files[JOB.inputs["audio"]] = VIDEO
    items = await stage.run(stage.of().dedupe(ONLINE))
    assert items[-1].missing == (VIDEO,)


async def test_files_are_read_once_however_often_they_are_asked_for(stage: Stage) -> None:
    for _ in range(3):
        await stage.run(stage.of().dedupe(ONLINE))
    assert len(stage.files.readings) == 2


async def test_an_unreadable_file_is_the_stages_error(stage: Stage) -> None:
    stage.files.files[JOB.inputs["video"]] = errors.FileUnusable("clip.mp4 is empty")
    await stage.run(stage.of().dedupe(ONLINE))
    assert isinstance(stage.end, errors.FileUnusable)


def test_the_same_content_under_two_endings_is_sent_twice_and_saves_nothing() -> None:
    again = replace(VIDEO, path=VIDEO.path.with_suffix(".mov"))
    checked = e.Checked(ONLINE, {"left": VIDEO, "right": again}, "blake3", (VIDEO, again))
    assert checked.saved == 0
