"""Our client and our worker over a real connection: both must mean the same by each call."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.engines.pair import PairEngine
from tests.support.programs.our_peers import SECRET, Joining
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.errors import FileChanged, TaskLost, WorkerRefused
from wakestream.operators.model.events import Algorithm, Done, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import TaskReport

VIDEO, AUDIO = bytes(range(256)) * 20_000, b"audio" * 1000


@pytest.fixture
def engine() -> Joining:
    return Joining()


@pytest.fixture
async def worker(tmp_path: Path, engine: Joining) -> AsyncIterator[HttpWorker]:
    async with (
        running_worker(WorkerConfig(tmp_path / "state", PairEngine(engine), SECRET, port=0)) as running,
    ):
        workers = HttpWorkers(running.address, SECRET)
        yield workers.at(None)
        await workers.close()


@pytest.fixture
async def job(tmp_path: Path) -> Job:
    video, audio = tmp_path / "v.mp4", tmp_path / "a.wav"
    video.write_bytes(VIDEO)
    audio.write_bytes(AUDIO)
    return Job.lipsync("job-1", video, audio, tmp_path / "out.mp4")


async def last_total(worker: HttpWorker, file: Fingerprint, ref: FileRef) -> int:
    return [total async for total in worker.upload(file, ref)][-1]


async def initialized(worker: HttpWorker) -> None:
    while not (await worker.health()).initialized:
        pass


async def brought(worker: HttpWorker, job: Job, algorithm: Algorithm) -> list[FileRef]:
    disk = DiskFiles()
    refs = []
    for path in (job.inputs["video"], job.inputs["audio"]):
        file = await disk.fingerprint(path, [algorithm])
        refs.append(FileRef(file.digests[algorithm], file.ext))
        assert await last_total(worker, file, refs[-1]) == file.size
    await disk.close()
    return refs


async def ended(worker: HttpWorker, task_id: str) -> TaskReport:
    while (report := await worker.report(task_id)).status not in ("done", "error", "cancelled"):
        pass
    return report


@pytest.mark.parametrize("algorithm", ["md5", "blake3"])
async def test_files_go_there_and_the_result_comes_back(worker: HttpWorker, job: Job, algorithm: Algorithm) -> None:
    await initialized(worker)
    video, audio = await brought(worker, job, algorithm)
    assert await worker.check([video, audio]) == {video.hash: True, audio.hash: True}
    receipt = await worker.submit(job, {"video": video, "audio": audio})
    assert (await ended(worker, receipt.task_id)).percent == 100
    *_, done = [step async for step in worker.download(receipt.task_id, job.output)]
    assert done == Done(job.output, len(VIDEO) + len(AUDIO))
    assert job.output.read_bytes() == VIDEO + AUDIO
    assert (await worker.submit(job, {"video": video, "audio": audio})).cached


async def test_a_file_with_another_hash_is_refused_and_removed(worker: HttpWorker, job: Job) -> None:
    await initialized(worker)
    status = job.inputs["video"].stat()
    wrong = FileRef("0" * 64, ".mp4")
    file = Fingerprint(job.inputs["video"], status.st_size, status.st_mtime_ns, {"blake3": wrong.hash})
    with pytest.raises(FileChanged, match="submit it again"):
        await last_total(worker, file, wrong)
    assert await worker.check([wrong]) == {wrong.hash: False}


async def test_a_wrong_secret_is_reported_during_an_upload(worker: HttpWorker, job: Job) -> None:
    stranger = HttpWorkers(worker.url, "another").at(None)
    await initialized(stranger)
    with pytest.raises(WorkerRefused, match="HEYGEM_API_SECRET"):
        await brought(stranger, job, "blake3")
    await stranger.session.close()


async def test_a_cancelled_task_stops(worker: HttpWorker, job: Job, engine: Joining) -> None:
    engine.go_on.clear()
    await initialized(worker)
    video, audio = await brought(worker, job, "blake3")
    receipt = await worker.submit(job, {"video": video, "audio": audio})
    await worker.cancel(receipt.task_id)
    assert (await ended(worker, receipt.task_id)).status == "cancelled"


async def test_a_task_that_was_never_given_out_is_lost(worker: HttpWorker, job: Job) -> None:
    with pytest.raises(TaskLost):
        await worker.report("0" * 32)
    with pytest.raises(TaskLost):
        await worker.submit(job, {"video": FileRef("1" * 64, ".mp4"), "audio": FileRef("2" * 64, ".wav")})
