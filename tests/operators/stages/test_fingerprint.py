"""The stage `fingerprint` alone."""

from tests.support.streams.stage_scene import AUDIO, VIDEO, Stage
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.stages.fingerprint import EVERY_ALGORITHM


async def test_a_read_with_more_algorithms_serves_callers_that_need_fewer(stage: Stage) -> None:
    assert await stage.run(stage.fingerprints.of(EVERY_ALGORITHM)) == [e.Fingerprinted((VIDEO, AUDIO))]
    await stage.run(stage.fingerprints.of({"md5"}))
    await stage.run(stage.fingerprints.of({"blake3"}))
    assert len(stage.files.readings) == 2


async def test_a_reading_that_lacks_an_algorithm_is_made_again(stage: Stage) -> None:
    await stage.run(stage.fingerprints.of({"blake3"}))
    await stage.run(stage.fingerprints.of({"md5"}))
    assert [sorted(algorithms) for _, algorithms in stage.files.readings] == [["blake3"]] * 2 + [["md5"]] * 2


async def test_a_failed_reading_can_be_tried_again(stage: Stage) -> None:
    stage.files.files[AUDIO.path] = errors.FileUnusable("locked")
    await stage.run(stage.fingerprints.of({"md5"}))
    assert isinstance(stage.end, errors.FileUnusable)
    stage.files.files[AUDIO.path] = AUDIO
    assert await stage.run(stage.fingerprints.of({"md5"})) == [e.Fingerprinted((VIDEO, AUDIO))]
