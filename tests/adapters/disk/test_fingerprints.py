import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from wakestream.adapters.disk import fingerprints as files
from wakestream.adapters.disk.fingerprints import THREADS, DiskFiles
from wakestream.operators.model.errors import FileChanged, FileUnusable

CONTENT = bytes(range(256)) * 40_000
DIGESTS = {"md5": hashlib.md5(CONTENT).hexdigest(), "blake3": blake3(CONTENT).hexdigest()}  # noqa: S324


@pytest.fixture
async def disk() -> AsyncIterator[DiskFiles]:
    disk = DiskFiles()
    yield disk
    await disk.close()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "Video.MP4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What each reading of a file was for."""
    seen: list[set[str]] = []
    hashed = files._hashed

    def counted(key: Any, algorithms: Any, stop: threading.Event) -> dict[str, str]:
        seen.append(set(algorithms))
        return hashed(key, algorithms, stop)

    monkeypatch.setattr(files, "_hashed", counted)
    return seen


async def test_one_read_gives_all_digests_and_its_time(disk: DiskFiles, video: Path, readings: list[set[str]]) -> None:
    found = await disk.fingerprint(video, ["md5", "blake3"])
    assert found.digests == DIGESTS
    assert (found.path, found.size, found.mtime_ns) == (video, len(CONTENT), video.stat().st_mtime_ns)
    assert found.ext == ".mp4"
    assert readings == [{"md5", "blake3"}]


async def test_an_unchanged_file_is_never_read_twice(disk: DiskFiles, video: Path, readings: list[set[str]]) -> None:
    first = await disk.fingerprint(video, ["md5", "blake3"])
    assert await disk.fingerprint(video, ["md5", "blake3"]) == first
    assert (await disk.fingerprint(video, ["md5"])).digests == {"md5": DIGESTS["md5"]}
    assert len(readings) == 1


async def test_only_a_missing_digest_causes_another_read(
    disk: DiskFiles, video: Path, readings: list[set[str]]
) -> None:
    await disk.fingerprint(video, ["md5"])
    assert (await disk.fingerprint(video, ["md5", "blake3"])).digests == DIGESTS
    assert readings == [{"md5"}, {"blake3"}]


def dated_back(video: Path, change: Callable[[Path], object]) -> None:
    """Change a file, and set the date that it had."""
    status = video.stat()
    change(video)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(video: Path) -> None:
    video.with_name("other").write_bytes(bytes(len(CONTENT)))
    video.with_name("other").replace(video)


def edited(video: Path) -> None:
    with video.open("r+b") as file:
        file.write(b"changed")


@pytest.mark.parametrize("change", [replaced, edited, lambda video: video.write_bytes(b"other")])
async def test_a_changed_file_is_read_again_whatever_its_date(
    disk: DiskFiles, video: Path, readings: list[set[str]], change: Callable[[Path], object]
) -> None:
    await disk.fingerprint(video, ["md5"])
    dated_back(video, change)
    found = await disk.fingerprint(video, ["md5"])
    assert (found.size, found.digests != {"md5": DIGESTS["md5"]}) == (video.stat().st_size, True)
    assert len(readings) == 2


async def test_concurrent_callers_share_one_read(disk: DiskFiles, video: Path, readings: list[set[str]]) -> None:
    found = await asyncio.gather(*(disk.fingerprint(video, ["md5", "blake3"]) for _ in range(50)))
    assert len(set(map(id, found))) == 50
    assert all(one.digests == DIGESTS for one in found)
    assert len(readings) == 1


async def test_many_files_at_once_share_a_few_threads(disk: DiskFiles, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(30)]
    for path in paths:
        path.write_bytes(path.name.encode())
    before = threading.active_count()
    found = await asyncio.gather(*(disk.fingerprint(path, ["md5"]) for path in paths))
    assert [one.path for one in found] == paths
    assert threading.active_count() - before <= THREADS


async def test_missing_empty_folder_and_odd_files_are_refused_with_advice(disk: DiskFiles, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path, words in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "is a folder"),
        (empty, "is empty"),
        (Path(os.devnull), "not a regular file"),
        (empty / "below", "cannot be read|does not exist"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(FileUnusable, match=words):
            await disk.fingerprint(path, ["md5"])


async def test_an_unreadable_file_is_refused(disk: DiskFiles, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(FileUnusable, match=r"Permission denied.*check its permissions"):
        await disk.fingerprint(video, ["md5"])


class Paused:
    """Holds every reading after its first block, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self.stopped = threading.Event()
        feed = files._feed

        def paused(file: Any, hashes: Any, stop: threading.Event) -> None:
            hashes[0].update(memoryview(file.read(10)))
            self.reached.set()
            self.go.wait(100)
            try:
                feed(file, hashes, stop)
            except files._StoppedError:
                self.stopped.set()
                raise

        monkeypatch.setattr(files, "_feed", paused)

    async def read(self, disk: DiskFiles, video: Path) -> asyncio.Task[Any]:
        """A reading that is held."""
        asked = asyncio.create_task(disk.fingerprint(video, ["md5"]))
        await asyncio.to_thread(self.reached.wait, 100)
        return asked


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Paused:
    return Paused(monkeypatch)


async def test_a_file_changed_during_a_read_fails(disk: DiskFiles, video: Path, paused: Paused) -> None:
    asked = await paused.read(disk, video)
    with video.open("ab") as file:
        file.write(b"more")
    paused.go.set()
    with pytest.raises(FileChanged, match="submit it again"):
        await asked
    assert (await disk.fingerprint(video, ["md5"])).size == len(CONTENT) + 4


async def test_a_file_replaced_during_a_read_fails(disk: DiskFiles, video: Path, paused: Paused) -> None:
    asked = await paused.read(disk, video)
    video.rename(video.with_name("elsewhere"))
    paused.go.set()
    with pytest.raises(FileChanged):
        await asked


async def test_an_abandoned_read_can_restart(disk: DiskFiles, video: Path, paused: Paused) -> None:
    asked = await paused.read(disk, video)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    paused.go.set()
    assert await asyncio.to_thread(paused.stopped.wait, 100)
    assert (await disk.fingerprint(video, ["md5"])).digests == {"md5": DIGESTS["md5"]}


async def test_a_cancelled_caller_disturbs_no_other(disk: DiskFiles, video: Path, paused: Paused) -> None:
    second = asyncio.create_task(disk.fingerprint(video, ["md5"]))
    first = await paused.read(disk, video)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    paused.go.set()
    assert (await second).digests == {"md5": DIGESTS["md5"]}


async def test_a_call_right_after_the_end_of_a_read_is_answered(disk: DiskFiles, video: Path) -> None:
    ended: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    ended.set_result({"md5": "0" * 32})
    key = files._look(video)
    disk._readings[key] = files._Reading(frozenset({"md5"}), threading.Event(), ended)
    assert (await disk.fingerprint(video, ["md5"])).digests == {"md5": "0" * 32}
    assert disk._readings == {}
