"""A result on its way to disk, when nobody wants it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
