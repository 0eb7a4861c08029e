"""The clock of a worker is set: its files, results and uploads are kept as long as before."""

import os
from pathlib import Path

import pytest

from tests.support.engines.pair import idle_engine
from wakestream.adapters.runtime.wall_clock import WallClock
from wakestream.adapters.worker.config import Retention, WorkerConfig
from wakestream.adapters.worker.program import running_worker, tidy
from wakestream.adapters.worker.upload_records import Announced
from wakestream.streams.worker.shares import PROMISED

NOW = 1_700_000_000.0


class Clocks:
    """A wall clock that is set, and a monotonic one; each file is used at the time of the wall clock."""

    def __init__(self) -> None:
        self.wall, self.steady = NOW, 5.0

    def passes(self, seconds: float) -> None:
        self.wall, self.steady = self.wall + seconds, self.steady + seconds

    def use(self, path: Path) -> Path:
        path.touch()
        os.utime(path, (self.wall, self.wall))
        return path


@pytest.mark.parametrize("by", [3600.0, -3600.0, 86_400.0, -86_400.0])
async def test_what_was_used_is_kept_for_an_hour_and_no_longer_when_the_clock_is_set(tmp_path: Path, by: float) -> None:
    clocks = Clocks()
    clock = WallClock("files are kept", lambda: clocks.wall, lambda: clocks.steady)
    async with running_worker(WorkerConfig(tmp_path, idle_engine(), "secret", port=0), clock=clock) as worker:
        upload = await worker.server.calls.uploads.create(Announced(10, ".mp4", "ab" * 32))
        file = clocks.use(tmp_path / "files" / f"{'0' * 64}.mp4")
        result = tmp_path / "results" / f"{'1' * 32}.mp4"
        result.hardlink_to(clocks.use(tmp_path / "files" / f"{'1' * 64}.mp4"))
        clocks.passes(100.0)
        clocks.wall += by
        clocks.passes(2.0)
        later = clocks.use(tmp_path / "files" / f"{'2' * 64}.mp4")

        async def left() -> list[bool]:
            await tidy(worker.store, worker.queue, Retention(age=PROMISED, spare=0), clock())
            return [path.exists() for path in (file, result, later)]

        assert (await left(), upload.used) == ([True, True, True], NOW + by)
        clocks.passes(PROMISED - 104.0)
        assert await left() == [True, True, True]
        clocks.passes(3.0)
        assert await left() == [False, False, True]
        clocks.passes(101.0)
        assert await left() == [False, False, False]
