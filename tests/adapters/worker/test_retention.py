"""What the worker throws away and what it must not, on a temporary disk; times are file times, nothing waits."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.engines.pair import idle_engine
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker import file_store
from wakestream.adapters.worker.config import Retention
from wakestream.adapters.worker.file_store import FileStore, Stored
from wakestream.adapters.worker.program import PROMISED, tidy
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import state as w

NOW = 1_000_000_000.0
DAY = 24 * 3600.0
SCANDIR = os.scandir


class Shelf:
    """A store with files of any age."""

    def __init__(self, root: Path) -> None:
        self.store = FileStore(root)
        self.queue = TaskQueue(self.store, FakeJournal(), idle_engine())

    def put(self, number: int, age: float, ext: str = ".mp4") -> FileRef:
        ref = FileRef(f"{number:032x}", ext)
        self.store.path(ref).write_bytes(b"x")
        os.utime(self.store.path(ref), (NOW - age, NOW - age))
        return ref

    async def tidy(self, retention: Retention) -> int:
        return await tidy(self.store, self.queue, retention, NOW)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    await shelf.queue.close()
    shelf.store.close()


async def test_files_unused_for_long_are_removed(shelf: Shelf) -> None:
    old, fresh = shelf.put(1, 8 * DAY), shelf.put(2, 6 * DAY)
    result = shelf.store.result("a" * 32)
    result.write_bytes(b"film")
    os.utime(result, (NOW - 9 * DAY, NOW - 9 * DAY))
    assert await shelf.tidy(Retention(age=7 * DAY, spare=0)) == 2
    assert (shelf.store.has(old), shelf.store.has(fresh), result.exists()) == (False, True, False)
    assert list((shelf.store.root / "partial").iterdir()) == []


async def test_a_full_disk_evicts_the_least_recently_used(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [shelf.put(number, number * DAY) for number in (1, 2, 3)]
    monkeypatch.setattr(FileStore, "free", lambda store: 100 if len(store.stored()) > 2 else 200)
    assert await shelf.tidy(Retention(age=7 * DAY, spare=150)) == 1
    assert [shelf.store.has(ref) for ref in refs] == [True, True, False]


async def test_a_file_reported_as_present_is_not_removed(shelf: Shelf) -> None:
    ref = shelf.put(1, PROMISED - 1)
    assert await shelf.tidy(Retention(age=1.0, spare=2**62)) == 0
    assert shelf.store.has(ref)


@pytest.mark.parametrize("use", ["claim", "kept"])
async def test_asking_for_it_is_a_use(shelf: Shelf, use: str) -> None:
    ref = shelf.put(1, 8 * DAY)
    if use == "kept":
        shelf.store.path(ref).rename(shelf.store.result(ref.hash))
    before = shelf.store.stored()[0]
    assert shelf.store.claim(ref) if use == "claim" else shelf.store.kept(ref.hash)
    assert shelf.store.stored()[0].used > before.used
    assert not await shelf.store.remove(before)  # the one who was asked to remove it had looked before
    assert not shelf.store.claim(FileRef("f" * 32, ".mp4"))


async def test_files_of_a_task_that_waits_stay_however_old(shelf: Shelf) -> None:
    video, audio, other = shelf.put(1, 90 * DAY), shelf.put(1, 90 * DAY, ".wav"), shelf.put(2, 90 * DAY)
    await shelf.queue.ask(w.pair(video, audio))
    assert await shelf.tidy(Retention(spare=2**62)) == 1
    assert [shelf.store.has(ref) for ref in (video, audio, other)] == [True, True, False]


async def test_a_file_that_went_by_itself_is_no_trouble(shelf: Shelf) -> None:
    assert not await shelf.store.remove(Stored(shelf.store.root / "files" / "gone.mp4", 1.0, 1))
    assert await shelf.tidy(Retention()) == 0


def test_a_file_that_is_removed_during_a_scan_is_left_out(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = shelf.put(1, DAY), shelf.put(2, DAY)
    share = file_store._share

    def removed_meanwhile(status: os.stat_result) -> int:
        shelf.store.path(gone).unlink(missing_ok=True)
        return share(status)

    monkeypatch.setattr(file_store, "_share", removed_meanwhile)
    monkeypatch.setattr(os, "scandir", lambda folder: _in_order(folder, shelf.store.path(kept).name))
    assert [one.path for one in shelf.store.stored()] == [shelf.store.path(kept)]


@contextlib.contextmanager
def _in_order(folder: Path, first: str) -> Iterator[list[os.DirEntry[str]]]:
    with SCANDIR(folder) as entries:
        yield sorted(entries, key=lambda entry: entry.name != first)
