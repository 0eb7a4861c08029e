"""Files by content on a real (temporary) disk; a full disk is acted by a write that fails."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.support.ports import free_port
from wakestream.adapters.disk.hashing_writer import HashingWriter
from wakestream.adapters.engines import Ffmpeg
from wakestream.adapters.worker import file_store
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.errors import Corrupt, NoSpace
from wakestream.operators.model.events import FileRef

CONTENT = b"a film about a clock" * 9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    store = FileStore(tmp_path)
    yield store
    store.close()


def everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def put(store: FileStore, content: bytes, expected: str, ext: str = ".mp4") -> FileRef:
    async with store.receive(("md5", "blake3")) as incoming:
        await incoming.add(content)
        return await incoming.keep(ext, expected=expected)


async def test_two_uploads_of_one_file_at_once_do_not_clash(store: FileStore, tmp_path: Path) -> None:
    digest = blake3(CONTENT).hexdigest()
    refs = await asyncio.gather(*(put(store, CONTENT, digest) for _ in range(5)))
    assert set(refs) == {FileRef(digest, ".mp4")}
    assert everything(tmp_path) == [f"{digest}.mp4"]


async def test_a_full_disk_leaves_no_file(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: HashingWriter, batch: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HashingWriter, "write", full)
    with pytest.raises(NoSpace, match="disk is full"):
        await put(store, CONTENT, "0" * 32)
    assert everything(tmp_path) == []


async def test_leftovers_of_an_earlier_run_are_swept_and_whole_files_stay(store: FileStore, tmp_path: Path) -> None:
    ref = await put(store, CONTENT, blake3(CONTENT).hexdigest())
    store.result("a" * 32).write_bytes(b"whole")
    (tmp_path / "partial" / "old.part").write_bytes(b"half")
    (tmp_path / "results" / f"{'b' * 32}.part.mp4").write_bytes(b"half")
    (tmp_path / "results" / f"{'c' * 32}.part.mp4" / "deep").mkdir(parents=True)
    again = FileStore(tmp_path)
    again.sweep()
    again.close()
    assert list((tmp_path / "results").glob("*.part*")) == []
    assert everything(tmp_path) == sorted([f"{ref.hash}.mp4", f"{'a' * 32}.mp4"])


def small(*contents: bytes) -> dict[FileRef, bytes]:
    return {FileRef(blake3(content).hexdigest(), ".png"): content for content in contents}


async def test_one_wrong_hash_keeps_none_of_the_small_files(store: FileStore, tmp_path: Path) -> None:
    files = {**small(b"one"), FileRef("ab" * 32, ".png"): b"other"}
    with pytest.raises(Corrupt):
        await store.keep_all(files)
    assert everything(tmp_path) == []


async def test_after_a_power_cut_damaged_small_files_are_removed_and_the_others_stay(tmp_path: Path) -> None:
    first = FileStore(tmp_path)
    files = small(b"one", b"two")
    await first.keep_all(files)
    one, two = (first.path(ref) for ref in files)
    two.write_bytes(b"")  # as a power cut leaves it: the name without the content
    first.pool.shutdown()  # and not `close`, which syncs
    again = FileStore(tmp_path)
    again.sweep()
    again.close()
    assert (one.exists(), two.exists()) == (True, False)
    assert everything(tmp_path) == [one.name]


async def test_no_client_reaches_a_worker_before_damaged_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, reached = free_port(), []
    sweep = FileStore.sweep

    def looked_at(store: FileStore) -> None:
        with socket.socket() as client:
            reached.append(client.connect_ex(("127.0.0.1", port)) == 0)
        sweep(store)

    monkeypatch.setattr(FileStore, "sweep", looked_at)
    engine = Ffmpeg(limit=40)
    async with running_worker(WorkerConfig(tmp_path / "worker", engine, "swordfish-0123456789", port=port)):
        assert reached == [False]


async def test_a_worker_that_ended_well_leaves_no_small_file_to_check(tmp_path: Path) -> None:
    first = FileStore(tmp_path)
    await first.keep_all(small(b"one", b"two"))
    (marker,) = (path for path in tmp_path.iterdir() if path.is_file())
    first.close()
    assert not marker.exists()


async def test_a_full_disk_leaves_no_part_of_a_small_file(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FileIO):
        def write(self, content: Any, /) -> int:
            if len(content) < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content[:1])

    monkeypatch.setattr(file_store, "FileIO", Full)
    with pytest.raises(NoSpace, match="disk is full"):
        await store.keep_all(small(b"one"))
    assert list((tmp_path / "partial").iterdir()) == []


async def test_a_result_that_is_also_a_file_counts_once(store: FileStore, tmp_path: Path) -> None:
    async with store.work_folder() as folder:
        (folder / "a.png").write_bytes(b"picture!")
        await store.take("ab" * 16, {"image": folder / "a.png"}, single=False)
    every = {path.stat().st_ino: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sum(one.size for one in store.stored()) == sum(every.values())
