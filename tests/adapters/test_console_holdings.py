"""What the console's folder holds goes away when nobody needs it, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from wakestream.adapters.console import holdings as of_console
from wakestream.adapters.console.holdings import Holdings
from wakestream.adapters.feed import QUEUED, Feed
from wakestream.adapters.outbox import Outbox
from wakestream.streams import outbox
from wakestream.streams import outbox_facts as f


class Jobs:
    """In the place of the outbox."""

    def __init__(self) -> None:
        self.state, self.feed = outbox.OutboxState(), Feed("boot")

    def accept(self, job: str, video: Path, output: Path) -> None:
        accepted = f.JobAccepted(job, str(video), "/a.wav", str(output), 1, 1, 1, 1, "x", 0, 1.0)
        outbox.evolve(self.state, accepted)
        self.feed.publish(job, {"event": "accepted"})

    def done(self, job: str) -> None:
        outbox.evolve(self.state, f.JobEnded(job, "done", 2.0))
        self.feed.publish(job, {"event": "done"})


class House:
    def __init__(self, folder: Path) -> None:
        self.jobs = Jobs()
        self.holdings = Holdings(folder, cast("Outbox", self.jobs), 1_000_000)
        self.news = asyncio.Event()

    @asynccontextmanager
    async def cleaned(self) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(self.holdings.clean(self.news.set))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            yield
        self.jobs.feed.close()
        async with asyncio.timeout(10):
            await cleaning

    async def given(self) -> Path:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"1"

        upload = self.holdings.uploads.announce("video", "a.mp4", 1, ())
        return (await self.holdings.uploads.receive(upload.id, chunks())).path

    def result(self, job: str) -> Path:
        return self.holdings.results / f"{job}.mp4"


async def test_the_inputs_of_a_job_that_is_done_go(tmp_path: Path) -> None:
    house = House(tmp_path)
    video = await house.given()
    async with house.cleaned():
        house.jobs.accept("job", video, house.result("job"))
        house.jobs.done("job")
        await house.news.wait()
    assert not video.exists()


async def test_they_go_as_well_when_more_happens_at_once_than_can_wait(tmp_path: Path) -> None:
    house = House(tmp_path)
    videos = [await house.given() for _ in range(2)]
    async with house.cleaned():
        for number, video in enumerate(videos):
            house.jobs.accept(f"job-{number}", video, house.result(f"job-{number}"))
        house.jobs.done("job-0")
        for _ in range(QUEUED + 1):
            house.jobs.feed.publish("job-1", {"event": "waking"})
        await house.news.wait()
        assert [video.exists() for video in videos] == [False, True]
        house.news.clear()
        house.jobs.done("job-1")
        await house.news.wait()
    assert not videos[1].exists()


async def test_the_names_of_a_job_that_begins_meanwhile_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)
    names = house.result("late").with_suffix(".json")
    forgotten = house.result("forgotten")
    forgotten.write_bytes(b"1")
    in_thread = asyncio.to_thread

    async def slow(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if not names.exists():
            house.holdings.beginning.add(str(house.result("late")))
            names.write_bytes(b"{}")
        return await in_thread(call, *arguments, **options)

    monkeypatch.setattr(of_console.asyncio, "to_thread", slow)
    await house.holdings.tidy()
    assert names.exists()
    assert not forgotten.exists()
