"""A download that is cancelled while it is written to disk."""

import asyncio
import errno
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from blake3 import blake3

from wakestream.adapters.client.download import Partial
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.client.worker_calls import THREADS
from wakestream.adapters.disk import part_file
from wakestream.adapters.disk.hashing_writer import BATCH
from wakestream.adapters.disk.part_file import taken
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.runtime.tasks import end
from wakestream.operators.model.ports import Output


@pytest.fixture
async def workers() -> AsyncIterator[HttpWorkers]:
    workers = HttpWorkers("http://gpu:8383")
    yield workers
    await workers.close()


async def begun(workers: HttpWorkers, output: Path, content: bytes = bytes(BATCH), *, unnamed: bool = False) -> Partial:
    """A download that has received so much."""
    partial = workers.partial("task", output)
    partial.unnamed = unnamed
    partial.begin(etag=f'"{blake3(content).hexdigest()}"', verified=True, resumable=True)
    await partial.write(content)
    return partial


@contextmanager
def threads_at_a_standstill(workers: HttpWorkers) -> Iterator[None]:
    go_on = threading.Event()
    for _ in range(THREADS):
        workers.executor.submit(go_on.wait, 100)
    try:
        yield
    finally:
        go_on.set()


async def test_an_aborted_download_does_not_close_a_file_in_use_by_its_thread(
    workers: HttpWorkers, tmp_path: Path
) -> None:
    with threads_at_a_standstill(workers):
        partial = await begun(workers, tmp_path / "out.mp4")
        leaving = asyncio.create_task(partial.leave())
        await asyncio.sleep(0)
        workers.give_up("task")
    await leaving
    assert list(tmp_path.iterdir()) == []


async def test_leftovers_of_an_earlier_attempt_are_removed_at_once(workers: HttpWorkers, tmp_path: Path) -> None:
    partial = await begun(workers, tmp_path / "out.mp4")
    await partial.leave()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".part"]
    workers.give_up("task")
    assert list(tmp_path.iterdir()) == []


async def test_a_reported_result_survives_a_power_cut(
    workers: HttpWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, name = os.fsync, Path.hardlink_to

    def synced(descriptor: int) -> None:
        done.append("folder synced" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "synced")
        sync(descriptor)

    def named(self: Path, target: Path) -> None:
        done.append("named")
        name(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "hardlink_to", named)
    partial = await begun(workers, tmp_path / "out.mp4")
    await partial.finish()
    assert done == ["synced", "named", "folder synced"]


@pytest.mark.parametrize(
    ("unnamed", "name", "told"),
    [
        (True, "photo.edit.webp", "photo.edit.png would hold WEBP data, so the result is photo.edit.webp"),
        (False, "photo.edit.png", "photo.edit.png holds WEBP data: rename it, or name a .webp file"),
    ],
)
async def test_the_ending_follows_the_content_of_a_result_that_the_user_did_not_name_and_another_is_said(
    workers: HttpWorkers, tmp_path: Path, unnamed: bool, name: str, told: str
) -> None:
    content = b"RIFF\0\0\0\0WEBPVP8 " + bytes(BATCH)
    partial = await begun(workers, tmp_path / "photo.edit.png", content, unnamed=unnamed)
    await partial.finish()
    assert (partial.output.name, partial.contradiction) == (name, told)
    assert [path.name for path in tmp_path.iterdir()] == [name]


async def test_a_new_attempt_waits_for_the_lock_and_resumes(workers: HttpWorkers, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with threads_at_a_standstill(workers):  # as a disk that stalls does
        first = await begun(workers, output)
        leaving = asyncio.create_task(first.leave())
        hasty = workers.partial("task", output)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hasty.prepare(resumable=True), 0)
        await hasty.leave()
        second = workers.partial("task", output)
        preparing = asyncio.create_task(second.prepare(resumable=True))
        await asyncio.sleep(0)
    await asyncio.gather(leaving, preparing)
    assert (second.path, second.size) == (first.path, BATCH)
    second.discard()
    assert list(tmp_path.iterdir()) == []


async def test_a_new_attempt_does_not_wait_for_a_cancelled_one(workers: HttpWorkers, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with threads_at_a_standstill(workers):
        first = await begun(workers, output)
        leaving = asyncio.create_task(first.leave())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((leaving,))
    second = workers.partial("task", output)
    await second.prepare(resumable=True)
    assert (leaving.cancelled(), second.size) == (True, BATCH)
    second.discard()


async def test_a_new_attempt_does_not_wait_for_one_that_was_cancelled_before_it_began(
    workers: HttpWorkers, tmp_path: Path
) -> None:
    output, made, fetch = tmp_path / "out.mp4", Output("video", ".mp4", BATCH, "0" * 64), AsyncMock()
    with threads_at_a_standstill(workers):
        first = asyncio.ensure_future(anext(workers.fetched("task", output, made, None, Recent(1), fetch)))
        await asyncio.sleep(0)
        await end(first)
    second = workers.partial("task", output)
    async with asyncio.timeout(10):
        await second.prepare(resumable=True)
    assert (first.cancelled(), fetch.called) == (True, False)
    second.discard()


async def test_waiting_for_the_lock_is_reported_in_the_loop(
    workers: HttpWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    first, second = await begun(workers, output), workers.partial("task", output)
    told, tell = set(), first._closed.set
    monkeypatch.setattr(first._closed, "set", lambda: (told.add(threading.get_ident()), tell()))
    preparing = asyncio.create_task(second.prepare(resumable=True))
    await asyncio.sleep(0)
    await first.finish()
    await preparing
    assert (output.stat().st_size, second.size, told) == (BATCH, 0, {threading.get_ident()})
    second.discard()


async def test_a_cancel_during_a_sync_frees_the_lock_after_it(
    workers: HttpWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on, sync = threading.Event(), threading.Event(), os.fsync

    def slowly(descriptor: int) -> None:
        entered.set()
        go_on.wait(100)
        sync(descriptor)

    output = tmp_path / "out.mp4"
    first = await begun(workers, output)
    monkeypatch.setattr(os, "fsync", slowly)
    finishing = asyncio.create_task(first.finish())
    await asyncio.to_thread(entered.wait, 100)
    finishing.cancel()
    second = workers.partial("task", output)
    preparing = asyncio.create_task(second.prepare(resumable=True))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait((finishing,))
    await first.leave()
    await preparing
    assert finishing.cancelled()
    assert (output.stat().st_size, second.path.exists(), second.etag) == (BATCH, True, None)
    second.discard()
    assert list(tmp_path.iterdir()) == [output]


async def test_received_bytes_survive_mandatory_locks(
    workers: HttpWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = Path.open

    def stopped(self: Path, *how: Any, **more: Any) -> Any:  # as in a network folder of Windows's (SMB)
        if self.suffix == ".part":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return unlocked(self, *how, **more)

    content = os.urandom(BATCH)
    first = await begun(workers, tmp_path / "out.mp4", content)
    await first.leave()
    second = workers.partial("task", tmp_path / "out.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stopped)
        await second.prepare(resumable=True)
    assert (second.size, second.etag) == (BATCH, first.etag)
    second.resume(str(first.etag), verified=True)
    await second.verify(BATCH, cut=False)
    await second.finish()
    assert (tmp_path / "out.mp4").read_bytes() == content


def test_a_disk_without_locks_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(part_file, "locked", unknown)
    file = taken(tmp_path / "out.part")
    assert file is not None
    file.close()


def test_a_disk_without_stable_file_numbers_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(1000))

    def another(*_: object) -> bool:
        next(looks)
        return False

    monkeypatch.setattr(os.path, "samestat", another)
    file = taken(tmp_path / "out.part")
    assert file is not None
    file.close()


async def test_a_part_survives_a_cancel_while_it_is_hashed(workers: HttpWorkers, tmp_path: Path) -> None:
    partial = await begun(workers, tmp_path / "out.mp4")
    await partial.leave()
    partial = workers.partial("task", tmp_path / "out.mp4")
    with threads_at_a_standstill(workers):
        preparing = asyncio.create_task(partial.prepare(resumable=True))
        await asyncio.sleep(0)
        await end(preparing)
        await partial.leave()
    assert partial.path.stat().st_size == BATCH
