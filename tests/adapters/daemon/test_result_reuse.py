"""Results that lie there already: when they count, and that a copy is whole or not there at all."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.daemon import result_reuse as look_back
from wakestream.adapters.daemon.result_reuse import ResultReuse
from wakestream.adapters.disk import atomic
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.operators.model.errors import FileUnusable
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import Entry, OutboxState


class Folder:
    """A user's files and the outbox about them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = OutboxState()
        self.files = DiskFiles()
        self.look_back = ResultReuse(self.state, self.files)
        self.file("clip.mp4", b"video")
        self.file("speech.wav", b"audio")

    def file(self, name: str, content: bytes) -> Path:
        (self.path / name).write_bytes(content)
        return self.path / name

    def accept(self, job: str, video: str = "clip.mp4", output: str | None = None, **more: Any) -> None:
        looks = [(str(self.path / name), (self.path / name).stat()) for name in (video, "speech.wav")]
        (v, vs), (a, as_) = looks
        out = str(self.path / (output or f"{job}.out.mp4"))
        self.be(
            f.JobAccepted(job, v, a, out, vs.st_size, vs.st_mtime_ns, as_.st_size, as_.st_mtime_ns, "x", 0, 1.0, **more)
        )

    def be(self, fact: f.OutboxFact) -> None:
        outbox.DECIDER.evolve(self.state, fact)

    def done(self, job: str, content: bytes = b"result") -> Path:
        out = self.file(f"{job}.out.mp4", content)
        status = out.stat()
        self.be(f.JobEnded(job, "done", 2.0, path=str(out), size=status.st_size, mtime_ns=status.st_mtime_ns))
        return out


@pytest.fixture
async def folder(tmp_path: Path) -> Any:
    made = Folder(tmp_path)
    yield made
    await made.files.close()


@pytest.fixture
def done(folder: Folder) -> Folder:
    """A folder with the result of the job `a`."""
    folder.accept("a")
    folder.done("a")
    return folder


async def test_an_empty_history_has_no_result(folder: Folder) -> None:
    folder.accept("a")
    assert await folder.look_back.find("a") is None


async def test_a_result_of_the_same_files_is_copied_to_the_new_place(done: Folder) -> None:
    done.accept("b")
    out = done.path / "b.out.mp4"
    assert await done.look_back.find("b") == {"job": "a", "path": str(out), "size": 6}
    assert out.read_bytes() == b"result"
    assert not list(done.path.glob("*.part"))


@pytest.mark.parametrize(
    ("unnamed", "name", "note"),
    [
        (True, "b.out.webp", "b.out.mp4 would hold WEBP data, so the result is b.out.webp"),
        (False, "b.out.mp4", "b.out.mp4 holds WEBP data: rename it, or name a .webp file"),
    ],
)
async def test_the_ending_of_a_copy_follows_its_content_if_the_user_did_not_name_it_and_another_is_said(
    folder: Folder, unnamed: bool, name: str, note: str
) -> None:
    folder.accept("a")
    folder.done("a", b"RIFF\0\0\0\0WEBPVP8 ")
    folder.accept("b", unnamed=unnamed)
    found = await folder.look_back.find("b")
    assert found == {"job": "a", "path": str(folder.path / name), "size": 16, "notes": [note]}
    assert (folder.path / name).exists()


async def test_a_result_for_the_same_place_stays_where_it_is(folder: Folder) -> None:
    folder.accept("a")
    out = folder.done("a")
    before = out.stat()
    folder.accept("b", output="a.out.mp4")
    found = await folder.look_back.find("b")
    assert found is not None
    assert found["job"] == "a"
    assert out.stat() == before


CHANGES: dict[str, Callable[[Folder], object]] = {
    "the result was edited": lambda folder: folder.file("a.out.mp4", b"longer than the result"),
    "the result was replaced": lambda folder: folder.file("a.out.mp4", b"others"),
    "the result is gone": lambda folder: (folder.path / "a.out.mp4").unlink(),
    "the input was edited": lambda folder: folder.file("clip.mp4", b"another video"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changed_is_not_reused(done: Folder, change: str) -> None:
    done.accept("b")
    assert look_back.is_intact(done.state.jobs["a"])
    CHANGES[change](done)
    assert look_back.is_intact(done.state.jobs["a"]) == ("input" in change)
    assert await done.look_back.find("b") is None
    assert not (done.path / "b.out.mp4").exists()


async def test_the_same_content_under_another_name_is_reused(done: Folder) -> None:
    done.file("copy.mp4", b"video")
    done.file("other.mp4", b"VIDEO")
    done.accept("b", "copy.mp4")
    done.accept("c", "other.mp4")
    found = await done.look_back.find("b")
    assert found is not None
    assert found["job"] == "a"
    assert await done.look_back.find("c") is None


async def test_a_result_of_files_that_were_written_to_before_the_reading_does_not_count(folder: Folder) -> None:
    folder.accept("a")
    folder.be(f.JobRead("a", {"blake3": "00"}, {"blake3": "11"}, 1, 1))
    folder.done("a")
    folder.accept("b")
    assert await folder.look_back.find("b") is None


async def test_a_running_job_with_the_same_work_is_named_and_followed(folder: Folder) -> None:
    folder.accept("a")
    folder.accept("b")
    assert await folder.look_back.find("b") == {"job": "a"}
    assert await folder.look_back.find("a") is None
    waiting = asyncio.create_task(folder.look_back.ended("a", "b"))
    await asyncio.sleep(0)
    folder.be(f.JobEnded("a", "failed", 2.0))
    folder.look_back.tell("a")
    await waiting
    await folder.look_back.ended("a", "b")
    await folder.look_back.ended("unknown", "b")
    assert await folder.look_back.find("b") is None


@pytest.mark.parametrize(
    ("size", "age", "home"), [(6, -60.0, True), (7, -60.0, False), (6, 60.0, False), (None, -60.0, False)]
)
async def test_a_downloaded_result_has_the_announced_size_and_is_newer_than_the_download(
    folder: Folder, size: int | None, age: float, home: bool
) -> None:
    folder.accept("a")
    folder.file("a.out.mp4", b"result")
    folder.be(f.JobStage("a", "download", time.time() + age, "w", "t", size))
    found = await folder.look_back.find("a")
    assert found == ({"job": "a", "path": str(folder.path / "a.out.mp4"), "size": 6} if home else None)


async def test_a_cancelled_copy_leaves_no_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.accept("a")
    folder.done("a", b"result" * 100)
    folder.accept("b")
    began, loop, there = asyncio.Event(), asyncio.get_running_loop(), look_back.is_intact

    def slowly(twin: Entry) -> bool:
        loop.call_soon_threadsafe(began.set)
        return there(twin)

    monkeypatch.setattr(atomic, "BLOCK", 1)
    finding = asyncio.create_task(folder.look_back.find("b"))
    monkeypatch.setattr(look_back, "is_intact", slowly)
    await began.wait()
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    assert not list(folder.path.glob("*.part"))


async def test_an_output_that_cannot_be_written_is_an_error_of_the_job(done: Folder) -> None:
    (done.path / "gone").mkdir()
    done.accept("b", output="gone/out.mp4")
    (done.path / "gone").rmdir()
    with pytest.raises(FileUnusable, match="cannot be written"):
        await done.look_back.find("b")


async def test_of_thousands_that_waited_for_one_job_some_go_on_in_each_turn(folder: Folder) -> None:
    folder.accept("a")
    going: list[int] = []

    async def wait(number: int) -> None:
        await folder.look_back.ended("a", str(number))
        going.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(1000)]
    await asyncio.sleep(0)
    folder.done("a")
    folder.look_back.tell("a")
    most = 0
    while len(going) < 1000:
        before = len(going)
        await asyncio.sleep(0)
        most = max(most, len(going) - before)
    assert going == [*range(1000)]
    assert most <= look_back.AT_ONCE
    await asyncio.gather(*waiting)


async def test_of_thousands_that_waited_for_a_job_without_a_result_only_the_earliest_goes_on(folder: Folder) -> None:
    jobs = [f"job-{number:04}" for number in range(1000)]
    for job in jobs:
        folder.accept(job)
    going: list[str] = []

    async def wait(job: str) -> None:
        await folder.look_back.ended(jobs[0], job)
        going.append(job)

    waiting = {job: asyncio.create_task(wait(job)) for job in reversed(jobs[1:])}
    await asyncio.sleep(0)
    waiting[jobs[2]].cancel()
    for job, outcome in ((jobs[0], "cancelled"), (jobs[1], "failed")):
        folder.be(f.JobEnded(job, outcome, 2.0))
        folder.look_back.tell(job)
        await asyncio.sleep(0)
    assert going == [jobs[1], jobs[3]]
    folder.done(jobs[3])
    folder.look_back.tell(jobs[3])
    await asyncio.gather(*waiting.values(), return_exceptions=True)
    assert sorted(going) == [jobs[1], *jobs[3:]]


@pytest.mark.parametrize("earlier", [{"version": "a"}, {"version": "b", "again": True}, {"again": True}])
async def test_another_version_of_the_kind_and_again_have_results_of_their_own(folder: Folder, earlier: Any) -> None:
    folder.accept("a", **earlier)
    folder.done("a")
    folder.accept("b", version="b", again=not earlier.get("version"))
    assert await folder.look_back.find("b") is None
    assert folder.state.alone(folder.state.jobs["b"])


async def test_a_copy_replaces_no_file_and_says_its_own_name(done: Folder) -> None:
    done.accept("b")
    done.file("b.out.mp4", b"the user's")
    found = await done.look_back.find("b")
    assert found == {"job": "a", "path": str(done.path / "b.out-2.mp4"), "size": 6}
    assert (done.path / "b.out.mp4").read_bytes() == b"the user's"
    assert (done.path / "b.out-2.mp4").read_bytes() == b"result"
