"""The engine `duix` against an engine on loopback that has the traps of deployed ones."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.engines.heygem_server import FakeEngine
from tests.support.engines.pair import done
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines import duix
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.samples import make_video
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.operators.model.engine import Frame, Line, Made, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WorkerRefused

CLIP = b"a clip"


class Place:
    """The files of a worker, the shared folder, and the engine."""

    def __init__(self, folder: Path) -> None:
        self.shared, self.state = folder / "shared", folder / "state"
        self.shared.mkdir()
        self.state.mkdir()
        self.fake = FakeEngine(self.shared, CLIP)

    def engine(self, url: str | None = None) -> duix.Duix:
        return duix.create(EngineConfig({"url": url or self.fake.url, "folder": str(self.shared)}))

    def work(self, number: int = 1) -> Work:
        inputs = {"video": self.state / f"{str(number) * 32}.mp4", "audio": self.state / f"{str(number) * 32}.wav"}
        for path in inputs.values():
            path.write_bytes(b"x")
        folder = self.state / f"work-{number}"
        folder.mkdir(exist_ok=True)
        return Work(f"task-{number}", "lipsync", inputs, {}, ("video",), folder)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(duix, "POLL_EVERY", 0.005)
    monkeypatch.setattr(duix, "LOOK_AFTER", 0.02)
    found = Place(tmp_path)
    async with found.fake.runs():
        yield found


async def test_it_reports_progress_and_makes_one_video(place: Place) -> None:
    engine, work = place.engine(), place.work()
    assert await engine.ready() == duix.Readiness(ready=True)
    assert [kind.name for kind in await engine.describe()] == ["lipsync"]
    *frames, made = await done(engine, work)
    assert frames == [Frame(0, 0, percent) for percent in (25.0, 50.0, 75.0)]
    assert made == Made("video", work.folder / "video.mp4")
    assert (work.folder / "video.mp4").read_bytes() == CLIP
    assert [path.name for path in place.shared.glob("*-r.mp4")] == [], "the result was moved out of the shared folder"


async def test_an_engine_that_is_down_is_not_ready_and_says_why(place: Place) -> None:
    ready = await place.engine("http://127.0.0.1:9").ready()
    assert not ready.ready
    assert "127.0.0.1:9" in ready.reason


async def test_a_busy_engine_is_waited_for(place: Place) -> None:
    place.fake.busy_for = 3
    items = await done(place.engine(), place.work())
    assert items[0] == Line("the engine renders another task; the work waits")
    assert isinstance(items[-1], Made)
    assert len(place.fake.asked) == 4


async def test_after_a_cancel_the_next_work_waits_for_the_end_of_the_one_before(place: Place) -> None:
    engine, first = place.engine(), place.work(1)
    items = engine.render(first)
    assert await anext(items) == Frame(0, 0, 25.0)
    await items.aclose()
    await engine.cancel(first)
    second = asyncio.create_task(done(engine, place.work(2)))
    await place.fake.was_busy.wait()
    place.fake.tasks.clear()  # it has rendered to the end
    assert isinstance((await second)[-1], Made)


async def test_a_restart_in_mid_work_is_reported_as_one(place: Place) -> None:
    engine = place.engine()
    items = engine.render(place.work())
    await anext(items)
    place.fake.restart()
    with pytest.raises(EngineUnreachable, match="restarted or does not answer"):
        await anext(items)


async def test_a_worker_that_was_restarted_follows_the_task_that_runs(place: Place) -> None:
    work = place.work()
    items = place.engine().render(work)
    await anext(items)
    await items.aclose()
    assert isinstance((await done(place.engine(), work))[-1], Made)
    assert len(place.fake.asked) == 1


@pytest.mark.parametrize("percent", [5, 20])
async def test_a_finished_video_counts_although_the_engine_stays_at_a_percentage(place: Place, percent: int) -> None:
    clip = place.state / "clip.mp4"
    await make_video(clip, 1, size="64x64")
    place.fake.clip, place.fake.stays_at, place.fake.silent_end = clip.read_bytes(), percent, True
    *frames, made = await done(place.engine(), place.work())
    assert (frames, made) == ([Frame(0, 0, float(percent))], Made("video", place.state / "work-1" / "video.mp4"))


async def test_a_half_written_video_does_not_count(place: Place) -> None:
    place.fake.stays_at, place.fake.silent_end = 20, True
    with pytest.raises(TaskFailed, match=r"has not reported anything new for 0\.3 s"):
        await done(place.engine(), place.work(), Watchdog(0.3))


async def test_an_engine_that_hangs_is_restarted_by_the_command(place: Place) -> None:
    place.fake.stays_at = 5
    mark = place.state / "restarted"
    with pytest.raises(EngineUnreachable, match="it was restarted"):
        await done(place.engine(), place.work(), Watchdog(0.2, ("touch", str(mark))))
    assert mark.exists()


async def test_the_engines_own_failure_and_refusal_are_told(place: Place) -> None:
    place.fake.fails = True
    with pytest.raises(TaskFailed, match="the engine failed: no face found"):
        await done(place.engine(), place.work(1))
    place.fake.refuses = True
    with pytest.raises(WorkerRefused, match="10002"):
        await done(place.engine(), place.work(2))


async def test_an_empty_video_is_a_failure(place: Place) -> None:
    place.fake.clip = b""
    with pytest.raises(TaskFailed, match="an empty file"):
        await done(place.engine(), place.work())


async def test_a_large_result_is_copied(place: Place) -> None:
    place.fake.clip = bytes(64 * 1024 * 1024)
    await done(place.engine(), place.work())
    assert (place.state / "work-1" / "video.mp4").stat().st_size == 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs --engine-option folder="),
        ({"folder": "/nowhere"}, "no such folder"),
        ({"file": "x"}, "no such option"),
    ],
)
def test_wrong_options_are_refused_with_the_remedy(options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        duix.create(EngineConfig(options))
