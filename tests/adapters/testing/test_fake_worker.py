import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from wakestream.adapters.testing.fakes import FakeFiles, FakeWorker, FakeWorkers
from wakestream.operators.model.errors import FileUnusable, GpuLost, WorkerRefused, WorkerUnreachable
from wakestream.operators.model.events import Done, Downloading, FileRef, Job
from wakestream.operators.model.ports import Files, Health, TaskReport, Worker, Workers

VIDEO, AUDIO = FileRef("a" * 64, ".mp4"), FileRef("b" * 64, ".wav")
JOB = Job.lipsync("job-1", Path("v.mp4"), Path("a.wav"), Path("o.mp4"))
FILES = FakeFiles({"v.mp4": b"video", "a.wav": FileUnusable("no")})


def test_the_fakes_implement_the_ports() -> None:
    worker: Worker = FakeWorker()
    workers: Workers = FakeWorkers({"http://gpu:8383": FakeWorker()}, "http://gpu:8383")
    files: Files = FILES
    assert workers.resolve(None) == "http://gpu:8383"
    assert worker is not files


async def test_healths_and_reports_are_returned_in_order_and_the_last_repeats() -> None:
    worker = FakeWorker(
        healths=[WorkerUnreachable("not yet"), Health(False), Health(True)],
        reports=[TaskReport("processing", 50.0), TaskReport("done", 100.0)],
    )
    with pytest.raises(WorkerUnreachable):
        await worker.health()
    assert [(await worker.health()).initialized for _ in range(3)] == [False, True, True]
    assert [(await worker.report("t")).percent for _ in range(3)] == [50.0, 100.0, 100.0]


async def test_uploaded_files_are_no_longer_missing() -> None:
    worker = FakeWorker(known=[AUDIO.hash])
    assert await worker.check([VIDEO, AUDIO]) == {VIDEO.hash: False, AUDIO.hash: True}
    file = await FILES.fingerprint(Path("v.mp4"), ["blake3"])
    assert [sent async for sent in worker.upload(file, VIDEO)] == [2, 5]
    assert await worker.check([VIDEO]) == {VIDEO.hash: True}
    assert worker.said("upload") == [VIDEO]


async def test_failures_come_once_each_and_in_the_middle_of_a_transfer() -> None:
    worker = FakeWorker(size=10)
    worker.failures["download"] = [WorkerUnreachable("cut")]
    seen: list[Downloading | Done] = []
    for _ in range(2):
        try:
            async with aclosing(worker.download("t", JOB.output)) as steps:
                async for step in steps:
                    seen.append(step)  # noqa: PERF401 - what came before the failure counts
        except WorkerUnreachable:
            seen.append(Done(Path("cut"), 0))
    half = Downloading(5, 10)
    assert seen == [half, Done(Path("cut"), 0), half, Downloading(10, 10), Done(JOB.output, 10)]


async def test_an_unreachable_fake_worker_fails_every_call() -> None:
    worker = FakeWorker()
    worker.gone = GpuLost("taken back")
    for call in (worker.health(), worker.submit(JOB, {"video": VIDEO, "audio": AUDIO}), worker.cancel("t")):
        with pytest.raises(GpuLost):
            await call


async def test_a_delay_passes_in_the_loops_time() -> None:
    worker = FakeWorker()
    worker.delays["submit"] = 3600.0
    asked = asyncio.create_task(worker.submit(JOB, {"video": VIDEO, "audio": AUDIO}))
    done, pending = await asyncio.wait([asked], timeout=0)
    assert (len(done), len(pending)) == (0, 1)
    asked.cancel()


async def test_files_have_the_digests_of_their_bytes_or_their_error() -> None:
    found = await FILES.fingerprint(Path("v.mp4"), ["md5"])
    assert found.digests == {"md5": "421b47ffd946ca083b65cd668c6b17e6"}
    assert (Path("v.mp4"), frozenset({"md5"})) in FILES.readings
    for path in ("a.wav", "none"):
        with pytest.raises(FileUnusable):
            await FILES.fingerprint(Path(path), ["md5"])


def test_an_address_without_a_worker_is_refused() -> None:
    for workers, url in ((FakeWorkers({}), None), (FakeWorkers({}), "http://x")):
        with pytest.raises(WorkerRefused):
            workers.at(url)
