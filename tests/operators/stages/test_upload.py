"""The stage `upload` alone."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from tests.support.streams.stage_scene import AUDIO, CHECKED, VIDEO, Stage
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Resumed
from wakestream.operators.stages.upload import SMALL


async def test_progress_counts_all_files_and_ends_with_the_sent_bytes(stage: Stage) -> None:
    items = await stage.run(stage.of().upload(CHECKED))
    assert [(item.bytes, item.of) for item in items[:-1]] == [(500, 1500), (1000, 1500), (1250, 1500), (1500, 1500)]
    assert items[-1] == e.Uploaded(CHECKED, 1500, 0)


async def test_without_missing_files_nothing_is_sent(stage: Stage) -> None:
    checked = replace(CHECKED, missing=())
    assert await stage.run(stage.of().upload(checked)) == [e.Uploaded(checked, 0, 1500)]
    assert stage.worker.said("upload") == []


async def test_only_what_is_missing_is_sent(stage: Stage) -> None:
    items = await stage.run(stage.of().upload(replace(CHECKED, missing=(AUDIO,))))
    assert (items[-1].sent, items[-1].saved) == (500, 1000)


async def test_a_broken_upload_is_begun_again_a_few_times_and_all_that_went_over_the_wire_counts(stage: Stage) -> None:
    stage.worker.failures["upload"] = [errors.WorkerUnreachable("reset")] * 3
    assert (await stage.run(stage.of().upload(CHECKED)))[-1] == e.Uploaded(CHECKED, 3000, 0)
    stage.worker.failures["upload"] = [errors.WorkerUnreachable("reset")] * 4
    await stage.run(stage.of().upload(CHECKED))
    assert isinstance(stage.end, errors.WorkerUnreachable)


class Keeping(FakeWorker):
    """Keeps what came: an upload breaks off after each `step` bytes and goes on behind them."""

    def __init__(self, *, at: int, step: int) -> None:
        super().__init__()
        self.at = at
        self.step = step

    async def upload(self, file: e.Fingerprint, ref: e.FileRef) -> AsyncGenerator[int | Resumed, None]:
        """Some more of it."""
        if self.at:
            yield Resumed(self.at)
        self.at = min(self.at + self.step, file.size)
        yield self.at
        if self.at < file.size:
            raise errors.WorkerUnreachable("reset")
        self.at = 0


async def test_an_upload_resumes_as_long_as_it_progresses(stage: Stage) -> None:
    stage.workers.workers[CHECKED.worker.url] = Keeping(at=0, step=50)  # 20 attempts for the first file alone
    items = await stage.run(stage.of().upload(CHECKED))
    counts = [item.bytes for item in items[:-1]]
    assert counts == sorted(counts)
    assert items[-1] == e.Uploaded(CHECKED, 1500, 0)


async def test_bytes_sent_by_an_earlier_run_count_as_saved_and_progress_starts_there(stage: Stage) -> None:
    stage.workers.workers[CHECKED.worker.url] = Keeping(at=600, step=10_000)
    items = await stage.run(stage.of().upload(replace(CHECKED, missing=(VIDEO,))))
    assert [item.bytes for item in items[:-1]] == [600, 1000]
    assert items[-1] == e.Uploaded(replace(CHECKED, missing=(VIDEO,)), 400, 500 + 600)


async def test_silence_is_broken_off(stage: Stage) -> None:
    stage.worker.delays["upload"] = 1e6
    await stage.run(stage.of(Policy(transfer=60.0)).upload(CHECKED))
    assert isinstance(stage.end, errors.Stalled)


async def test_a_changed_file_is_not_tried_again(stage: Stage) -> None:
    stage.worker.failures["upload"] = [errors.FileChanged("written to")]
    await stage.run(stage.of().upload(CHECKED))
    assert isinstance(stage.end, errors.FileChanged)
    assert len(stage.worker.said("upload")) == 1


TOGETHER = replace(CHECKED, worker=replace(CHECKED.worker, features=frozenset({"blake3", "small_files"})))
"""Both files are small, and the worker takes several in one call."""


def of_algorithm(checked: e.Checked) -> e.Checked:
    files = [replace(file, digests={"blake3": f"{number:064x}"}) for number, file in enumerate(checked.missing)]
    return replace(checked, algorithm="blake3", missing=tuple(files), inputs=dict(zip("ab", files, strict=True)))


async def test_small_files_go_in_one_call_if_the_worker_takes_that(stage: Stage) -> None:
    checked = of_algorithm(TOGETHER)
    items = await stage.run(stage.of().upload(checked))
    assert [len(files) for files in stage.worker.said("upload_small")] == [2]  # type: ignore[arg-type]
    assert stage.worker.said("upload") == []
    assert items == [e.Uploading(1500, 1500, AUDIO.path.name), e.Uploaded(checked, 1500, 0)]


async def test_a_broken_call_of_small_files_is_tried_again(stage: Stage) -> None:
    stage.worker.failures["upload_small"] = [errors.WorkerUnreachable("reset")] * 3
    checked = of_algorithm(TOGETHER)
    assert (await stage.run(stage.of().upload(checked)))[-1] == e.Uploaded(checked, 1500, 0)


async def test_on_a_line_that_is_too_slow_for_one_call_small_files_go_one_by_one(stage: Stage) -> None:
    stage.worker.delays["upload_small"] = 1e6
    checked = of_algorithm(TOGETHER)
    items = await stage.run(stage.of(Policy(transfer=60.0)).upload(checked))
    assert len(stage.worker.said("upload_small")) == 1
    assert len(stage.worker.said("upload")) == 2
    counts = [item.bytes for item in items[:-1]]
    assert (counts, counts[-1]) == (sorted(counts), 1500)
    assert items[-1] == e.Uploaded(checked, 1500, 0)


class Refusing(FakeWorker):
    """Reads a file to its last byte and then refuses it, `times` times; it keeps nothing of such a file."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.delays["upload_small"] = times, 1e6
        self.kept = list[e.FileRef]()

    async def upload(self, file: e.Fingerprint, ref: e.FileRef) -> AsyncGenerator[int | Resumed, None]:
        """All of it."""
        if file.size:
            yield file.size
        if self.times:
            self.times -= 1
            raise errors.WorkerUnreachable("reset behind the last byte")
        self.kept.append(ref)


@pytest.mark.parametrize("sizes", [(1000, 500), (1000, 0), (0, 500)])
@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_small_file_whose_call_failed_behind_its_last_byte_is_sent_again(
    stage: Stage, sizes: tuple[int, int], times: int
) -> None:
    files = tuple(replace(file, size=size) for file, size in zip((VIDEO, AUDIO), sizes, strict=True))
    checked = of_algorithm(replace(TOGETHER, missing=files))
    worker = stage.workers.workers[CHECKED.worker.url] = Refusing(times)
    items = await stage.run(stage.of(Policy(transfer=60.0)).upload(checked))
    assert worker.kept == [checked.ref(file) for file in checked.missing]
    assert isinstance(items[-1], e.Uploaded)


async def test_large_files_go_alone_after_the_small_ones(stage: Stage) -> None:
    large = replace(VIDEO, size=SMALL + 1, path=VIDEO.path.with_name("large.mp4"))
    checked = of_algorithm(replace(TOGETHER, missing=(VIDEO, AUDIO)))
    huge = replace(large, digests={"blake3": "f" * 64})
    checked = replace(checked, missing=(huge, *checked.missing), inputs={**checked.inputs, "c": huge})
    items = await stage.run(stage.of().upload(checked))
    of = 1500 + SMALL + 1
    assert (items[0], items[-1]) == (e.Uploading(1500, of, AUDIO.path.name), e.Uploaded(checked, of, 0))
    assert len(stage.worker.said("upload")) == 1


async def test_many_small_files_go_in_several_calls(stage: Stage) -> None:
    files = [replace(AUDIO, size=SMALL, digests={"blake3": f"{number:064x}"}) for number in range(20)]
    inputs = {f"f{number}": file for number, file in enumerate(files)}
    checked = replace(of_algorithm(TOGETHER), missing=tuple(files), inputs=inputs)
    items = await stage.run(stage.of().upload(checked))
    assert [len(files) for files in stage.worker.said("upload_small")] == [8, 8, 4]  # type: ignore[arg-type]
    assert items[-1].sent == 20 * SMALL
