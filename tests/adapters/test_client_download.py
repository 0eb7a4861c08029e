"""A result on its way to disk, when nobody wants it any more."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wakestream.adapters.http.client import THREADS, HttpWorkers
from wakestream.adapters.sink import BATCH

ETAG = f'"{"0" * 64}"'


@contextmanager
def threads_at_a_standstill(workers: HttpWorkers) -> Iterator[None]:
    go_on = threading.Event()
    for _ in range(THREADS):
        workers.executor.submit(go_on.wait, 20)
    try:
        yield
    finally:
        go_on.set()


async def test_who_gives_up_a_result_does_not_close_it_under_the_thread_that_writes_it(tmp_path: Path) -> None:
    workers = HttpWorkers("http://gpu:8383")
    partial = workers.partial("task", tmp_path / "out.mp4")
    partial.begin(etag=ETAG, verified=True, resumable=True)
    with threads_at_a_standstill(workers):
        await partial.write(bytes(BATCH))
        leaving = asyncio.create_task(partial.leave())
        await asyncio.sleep(0)
        workers.give_up("task")
    async with asyncio.timeout(20):
        await leaving
    assert list(tmp_path.iterdir()) == []
    await workers.close()


async def test_what_an_earlier_attempt_left_goes_at_once(tmp_path: Path) -> None:
    workers = HttpWorkers("http://gpu:8383")
    partial = workers.partial("task", tmp_path / "out.mp4")
    partial.begin(etag=ETAG, verified=True, resumable=True)
    await partial.write(bytes(BATCH))
    await partial.leave()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".part"]
    workers.give_up("task")
    assert list(tmp_path.iterdir()) == []
    await workers.close()


async def test_a_result_that_is_said_to_be_there_outlasts_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append("folder synced" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "synced")
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("named")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    workers = HttpWorkers("http://gpu:8383")
    partial = workers.partial("task", tmp_path / "out.mp4")
    partial.begin(etag=ETAG, verified=True, resumable=True)
    await partial.write(bytes(BATCH))
    await partial.finish()
    await workers.close()
    assert done == ["synced", "named", "folder synced"]


async def test_another_try_waits_for_the_one_before_to_let_go_and_goes_on_with_what_it_left(tmp_path: Path) -> None:
    workers, output = HttpWorkers("http://gpu:8383"), tmp_path / "out.mp4"
    first = workers.partial("task", output)
    first.begin(etag=ETAG, verified=True, resumable=True)
    with threads_at_a_standstill(workers):  # as a disk that stalls does
        await first.write(bytes(BATCH))
        leaving = asyncio.create_task(first.leave())
        hasty = workers.partial("task", output)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hasty.prepare(resumable=True), 0)
        await hasty.leave()
        second = workers.partial("task", output)
        preparing = asyncio.create_task(second.prepare(resumable=True))
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await asyncio.gather(leaving, preparing)
    assert (second.path, second.size) == (first.path, BATCH)
    second.discard()
    assert list(tmp_path.iterdir()) == []
    await workers.close()
