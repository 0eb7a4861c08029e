"""Files of the console's folder are deleted when no job needs them, and not before."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.adapters.daemon.console.test_uploads import sent
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import storage as of_console
from wakestream.adapters.daemon.console import uploads as of_uploads
from wakestream.adapters.daemon.console.job_view import NOW_MOST, JobView
from wakestream.adapters.daemon.console.storage import COMPARED, Storage, mark_of
from wakestream.adapters.daemon.console.upload_validation import Announced
from wakestream.adapters.daemon.console.uploads import Uploads
from wakestream.adapters.daemon.event_feed import QUEUED, EventFeed
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import Entry, OutboxState


def video(name: str, size: int) -> Announced:
    """The announcement of a video."""
    return Announced("video", name, size, ("video",), "lipsync.video")


class Jobs:
    """In the place of the outbox."""

    def __init__(self) -> None:
        self.state, self.feed = OutboxState(), EventFeed("boot")

    def accept(self, job: str, video: Path, output: Path) -> None:
        accepted = f.JobAccepted(job, str(video), "/a.wav", str(output), 1, 1, 1, 1, "x", 0, 1.0)
        outbox.DECIDER.evolve(self.state, accepted)
        self.feed.publish(job, {"event": "accepted"})

    def done(self, job: str, at: float = 2.0) -> None:
        outbox.DECIDER.evolve(self.state, f.JobEnded(job, "done", at))
        self.feed.publish(job, {"event": "done"})


class House:
    def __init__(self, folder: Path) -> None:
        self.jobs = Jobs()
        self.holdings = Storage(folder, cast("Outbox", self.jobs), 1_000_000)
        self.news = asyncio.Event()

    @asynccontextmanager
    async def cleaned(self) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(self.holdings.clean(self.news.set))
        await asyncio.sleep(0)
        yield
        self.jobs.feed.close()
        await cleaning

    async def given(self) -> Path:
        return (await sent(self.holdings.uploads)).path

    def result(self, job: str) -> Path:
        return self.holdings.results / f"{job}.mp4"


async def test_the_inputs_of_a_done_job_stay_until_twelve_later_ones_are_done(tmp_path: Path) -> None:
    house = House(tmp_path)
    videos = [await house.given() for _ in range(COMPARED + 1)]
    async with house.cleaned():
        for number, video in enumerate(videos):
            house.news.clear()
            house.jobs.accept(f"job-{number}", video, house.result(f"job-{number}"))
            assert videos[0].exists()
            house.jobs.done(f"job-{number}", time.time())
            await house.news.wait()
    assert [video.exists() for video in videos] == [False, *[True] * COMPARED]


async def test_inputs_that_stay_for_comparison_go_when_space_is_needed(tmp_path: Path) -> None:
    house = House(tmp_path)
    kept = await house.given()
    async with house.cleaned():
        house.jobs.accept("job", kept, house.result("job"))
        house.jobs.done("job", time.time())
        await house.news.wait()
    assert kept.exists()
    house.holdings.uploads.announce(video("b.mp4", 1_000_000), house.holdings.referred())
    assert not kept.exists()


async def test_the_inputs_of_a_job_that_was_done_long_ago_go(tmp_path: Path) -> None:
    house = House(tmp_path)
    video = await house.given()
    async with house.cleaned():
        house.jobs.accept("job", video, house.result("job"))
        house.jobs.done("job")
        await house.news.wait()
    assert not video.exists()


async def test_each_done_job_is_delivered_also_if_one_takes_long(tmp_path: Path) -> None:
    house = House(tmp_path)
    go_on, delivered = asyncio.Event(), asyncio.Queue[str]()

    async def deliver(entry: Entry) -> None:
        await go_on.wait()
        delivered.put_nowait(entry.accepted.job)

    house.holdings.on_done = deliver
    reacting = asyncio.create_task(house.holdings.react())
    async with house.cleaned():
        for number in range(2):
            house.jobs.accept(f"job-{number}", tmp_path / "a.mp4", house.result(f"job-{number}"))
        house.jobs.done("job-0", time.time())
        await house.news.wait()
        house.jobs.done("job-1", time.time())
        await asyncio.sleep(0)
        for _ in range(QUEUED + 1):
            house.jobs.feed.publish("job-2", {"event": "waking"})
        go_on.set()
        assert [await delivered.get() for _ in range(2)] == ["job-0", "job-1"]
    reacting.cancel()


async def test_a_delivery_that_breaks_does_not_stop_those_of_later_jobs(tmp_path: Path) -> None:
    house, delivered = House(tmp_path), asyncio.Queue[str]()

    async def deliver(entry: Entry) -> None:
        if entry.accepted.job == "job-0":
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "broken")
        delivered.put_nowait(entry.accepted.job)

    house.holdings.on_done = deliver
    reacting = asyncio.create_task(house.holdings.react())
    async with house.cleaned():
        for number in range(2):
            house.jobs.accept(f"job-{number}", tmp_path / "a.mp4", house.result(f"job-{number}"))
            house.jobs.done(f"job-{number}", time.time())
        assert await delivered.get() == "job-1"
    reacting.cancel()


async def test_the_copies_of_unfinished_jobs_are_due_also_if_their_marks_are_lost(tmp_path: Path) -> None:
    house = House(tmp_path)
    for job in ("open", "done", "marked"):
        house.jobs.accept(job, tmp_path / "a.mp4", house.result(job))
    house.jobs.accept("other", tmp_path / "a.mp4", tmp_path / "elsewhere" / "other.mp4")
    house.jobs.done("done")
    mark_of(house.result("marked")).write_bytes(b'{"folder": "/x"}')
    await house.holdings.expect_copies()
    expected = {"open": b"{}", "marked": b'{"folder": "/x"}'}
    found = {path.name: path.read_bytes() for path in house.holdings.results.iterdir()}
    assert found == {mark_of(house.result(job)).name: data for job, data in expected.items()}


async def test_they_are_removed_even_if_the_event_queue_overflows(tmp_path: Path) -> None:
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


async def test_names_of_a_job_that_starts_in_between_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)
    names = house.result("late").with_suffix(".json")
    forgotten = house.result("forgotten")
    forgotten.write_bytes(b"1")
    in_thread = asyncio.to_thread

    async def slow(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if not names.exists():
            house.holdings.beginning.add("late")
            names.write_bytes(b"{}")
        return await in_thread(call, *arguments, **options)

    monkeypatch.setattr(of_console.asyncio, "to_thread", slow)
    await house.holdings.tidy()
    assert names.exists()
    assert not forgotten.exists()


async def test_all_results_of_a_forgotten_job_go_whatever_their_ending(tmp_path: Path) -> None:
    house = House(tmp_path)
    folder = house.holdings.results
    outputs = {"image": str(folder / "known.image.png"), "log": str(folder / "known.log")}
    known = f.JobAccepted("known", "", "", outputs["image"], 0, 0, 0, 0, "paint", 0, 1.0, outputs=outputs)
    outbox.DECIDER.evolve(house.jobs.state, known)
    for name in ("known.image.png", "known.log", "known.json", "known.image.png.0123abcd.part"):
        (folder / name).write_bytes(b"1")
    for name in ("gone.image.png", "gone.log", "gone.json", "gone.mp4", "gone.mp4.0123abcd.part", "gone"):
        (folder / name).write_bytes(b"1")
    await house.holdings.tidy()
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"known"}
    assert len(list(folder.iterdir())) == 4


async def test_a_programs_result_of_another_name_stays_while_an_open_job_follows_its_job(tmp_path: Path) -> None:
    house = House(tmp_path)
    made = house.holdings.results / "a (2).mp4"
    made.write_bytes(b"1")
    first = f.JobAccepted("a", "/v", "/a", str(house.result("a")), 1, 1, 1, 1, "x", 0, 1.0, caller=f.Caller("app"))
    after = f.JobAccepted("b", str(house.result("a")), "/a", "/b.mp4", 0, 0, 1, 1, "x", 0, 1.0, after=("a", "open"))
    house.jobs.accept("open", Path("/o.mp4"), Path("/open.mp4"))
    ends = f.JobEnded("a", "done", 2.0, path=str(made), size=1), f.JobEnded("b", "cancelled", 3.0)
    for fact in (first, after, ends[0]):
        outbox.DECIDER.evolve(house.jobs.state, fact)
    await house.holdings.free()
    assert made.exists()
    outbox.DECIDER.evolve(house.jobs.state, ends[1])
    await house.holdings.free()
    assert not made.exists()


def test_of_many_jobs_the_page_gets_running_then_urgent_then_first(tmp_path: Path) -> None:
    house = House(tmp_path)
    found = JobView(cast("Outbox", house.jobs), house.holdings.uploads, house.holdings.results)
    for number in range(NOW_MOST + 50):
        house.jobs.accept(f"job-{number:03}", Path(f"/v/{number}.mp4"), Path(f"/v/{number}.out.mp4"))
    urgent = f.JobAccepted("urgent", "/v/u.mp4", "/a.wav", "/v/u.out.mp4", 1, 1, 1, 1, "x", 5, 2.0)
    outbox.DECIDER.evolve(house.jobs.state, urgent)
    outbox.DECIDER.evolve(house.jobs.state, f.JobStage("job-240", "render", 3.0))
    house.jobs.done("job-001")
    cards = [card["id"] for card in found.now()]
    assert cards[:4] == ["job-240", "urgent", "job-000", "job-002"]
    assert len(cards) == NOW_MOST
    assert found.card_event(house.jobs.state.jobs["job-240"])["open"] == NOW_MOST + 50


async def test_space_is_freed_with_one_listing_of_the_results(tmp_path: Path) -> None:
    looks: list[int] = []
    found = Uploads(tmp_path / "uploads", lambda: (), lambda: looks.append(1) or 500, quota=1000)
    given = [await sent(found, 10) for _ in range(20)]
    looks.clear()
    found.announce(video("b.mp4", 400), [str(upload.path) for upload in given])
    assert [upload.path.exists() for upload in given] == [False] * 10 + [True] * 10
    assert len(looks) == 1


async def test_nothing_is_removed_for_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Uploads(tmp_path / "uploads", lambda: (), lambda: 500, quota=1000)
    given = [await sent(found, 10) for _ in range(20)]
    paths = [str(upload.path) for upload in given]
    with pytest.raises(ApiError) as refused:
        found.announce(video("b.mp4", 501), paths)
    assert (refused.value.code, refused.value.numbers["room"]) == ("full", 500)
    monkeypatch.setattr(of_uploads.shutil, "disk_usage", lambda _: SimpleNamespace(free=of_uploads.SPARE))
    with pytest.raises(ApiError) as refused:
        found.announce(video("b.mp4", 500), paths)
    assert (refused.value.code, refused.value.numbers["room"]) == ("no_space", 200)
    assert all(upload.path.exists() for upload in given)


async def test_the_file_limit_removes_the_oldest_unused_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_uploads, "FILES_MOST", 4)
    needed: list[str] = []
    found = Uploads(tmp_path / "uploads", lambda: needed, lambda: 0, quota=1000)
    given = [await sent(found) for _ in range(4)]
    paths = [str(upload.path) for upload in given]
    needed.append(paths[0])
    found.announce(video("b.mp4", 1), paths)
    assert [upload.path.exists() for upload in given] == [True, False, True, True]
    needed += paths
    with pytest.raises(ApiError, match="the limit of 4 files is reached") as refused:
        found.announce(video("c.mp4", 1), paths)
    assert (refused.value.code, refused.value.numbers) == ("many_files", {"count": 4})


class Closed(dict[str, Any]):
    """Jobs of which none may be looked at without its name."""

    def values(self) -> Any:
        raise AssertionError("all jobs are looked at")


async def test_which_files_jobs_need_is_known_without_a_look_at_all_jobs(tmp_path: Path) -> None:
    house = House(tmp_path)
    for job in ("a", "b", "c"):
        house.jobs.accept(job, tmp_path / f"{job}.mp4", Path(f"/{job}.out"))
    house.jobs.state.jobs = Closed(house.jobs.state.jobs)
    outbox.DECIDER.evolve(house.jobs.state, f.JobEnded("a", "cancelled", 2.0))
    outbox.DECIDER.evolve(house.jobs.state, f.JobForgotten("c", 2.0))
    assert house.holdings.needed() == {str(tmp_path / "b.mp4"), "/a.wav"}
    assert house.holdings.referred() == {str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), "/a.wav"}
    assert house.holdings.plain()["uploads"] == []


async def test_a_search_in_many_jobs_stops_no_other_work_and_a_second_one_reads_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    for number in range(6000):
        house.jobs.accept(f"job-{number}", Path("/a.mp4"), Path(f"/{number}.mp4"))
    view = JobView(cast("Outbox", house.jobs), house.holdings.uploads, house.holdings.results)
    searching = asyncio.create_task(view.history("a.mp4", "", 1, 0))
    turns = 0
    while not searching.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await searching)[1] == 6000
    assert turns >= 6000 / 200, "some jobs in each turn of the event loop"
    monkeypatch.setattr(JobView, "_looked_up", lambda *_: pytest.fail("it reads a file"))
    assert (await view.history("a.mp4", "", 1, 0))[1] == 6000


def test_a_file_of_an_earlier_run_is_kept_until_its_copy_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = House(tmp_path / "one").holdings.uploads
    before = known.announce(video("a.mp4", 5), (), "/v/a.mp4")
    later = House(tmp_path / "two").holdings.uploads
    after = later.restored(of_uploads.about(before), expected=True)
    monkeypatch.setattr(of_uploads, "BEGIN_WITHIN", -1.0)
    later.announce(video("b.mp4", 5), ())
    assert later.knows(after)
    assert (after.name, after.size, after.source, after.accepts) == ("a.mp4", 5, "/v/a.mp4", ("video",))


def forgotten_for(house: House, job: str) -> list[str]:
    """The jobs that are forgotten when this one is submitted, which the outbox then accepts."""
    accepted = f.JobAccepted(job, "/v.mp4", "/a.wav", f"/{job}.mp4", 1, 1, 1, 1, "x", 0, 1.0)
    facts, _ = outbox.DECIDER.decide(house.jobs.state, f.Submitting(1, accepted), 9.0)
    for fact in facts:
        outbox.DECIDER.evolve(house.jobs.state, fact)
    house.jobs.feed.publish(job, {"event": "accepted"})
    return [fact.job for fact in facts if isinstance(fact, f.JobForgotten)]


async def test_a_job_and_its_results_stay_until_the_user_has_fetched_them(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.jobs.state.ended_most = 1
    folder = tmp_path / "mine"
    folder.mkdir()

    async def deliver(entry: Entry) -> None:
        result = Path(entry.accepted.output)
        to = str(folder) if result.stem == "copied" else str(tmp_path / "none") if result.stem == "failed" else ""
        with suppress(OSError):
            of_console.deliver(mark_of(result), {"video": (result, result.name)}, to)
        house.holdings.note(entry)
        delivered.put_nowait(result.stem)

    delivered = asyncio.Queue[str]()
    house.holdings.on_done = deliver
    reacting = asyncio.create_task(house.holdings.react())
    jobs = ("copied", "kept", "failed", "fetched")
    async with house.cleaned():
        for job in jobs:
            mark_of(house.result(job)).write_bytes(b"{}")
            house.result(job).write_bytes(b"1")
            house.jobs.accept(job, tmp_path / "a.mp4", house.result(job))
            house.jobs.done(job)
            assert await delivered.get() == job
        house.holdings.note(house.jobs.state.jobs["fetched"], fetched=True)
        assert forgotten_for(house, "next") == ["copied", "fetched"]
    reacting.cancel()
    later = House(tmp_path)  # after a restart
    for fact in (fact for entry in house.jobs.state.jobs.values() for fact in (entry.accepted, entry.ended) if fact):
        outbox.DECIDER.evolve(later.jobs.state, fact)
    await later.holdings.catch_up()
    later.jobs.state.ended_most = 1
    later.jobs.done("next")
    assert forgotten_for(later, "last") == ["next"]
    await later.holdings.tidy()
    assert {job: house.result(job).exists() for job in jobs} == {
        "copied": False, "kept": True, "failed": True, "fetched": False,
    }  # fmt: skip
    assert (folder / "copied.mp4").exists()
    assert [job for job in jobs if job in later.jobs.state.jobs] == ["kept", "failed"]
