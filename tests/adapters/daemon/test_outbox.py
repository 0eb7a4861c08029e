"""The outbox at work, on a journal that has its moods: nothing is promised that was not kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from loguru import logger
from msgspec.structs import replace

from tests.support.log_lines import logged
from tests.support.programs.our_peers import until
from tests.support.streams.submitting import submitting
from wakestream.adapters.client.client import Client
from wakestream.adapters.daemon.event_feed import EventFeed
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.disk.part_file import beside
from wakestream.adapters.runtime import decider_runner
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import JournalError, NoSpace, WakestreamError
from wakestream.streams.jobs.job_order import Order
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import OutboxState
from wakestream.streams.recording.event_json import kind
from wakestream.streams.webhooks import WebhookOwed, WebhookSettled

LOOK = f.FileStat("/in/a.mp4", 1, 1)


def taken(job: str) -> f.JobAccepted:
    """That a job was taken long ago."""
    return f.JobAccepted(job, f"/in/{job}.mp4", f"/in/{job}.wav", f"/out/{job}.mp4", 1, 1, 1, 1, "x", 0, 1.0)


class Moody(FakeJournal[f.OutboxFact]):
    """Raises `mood` at each append while it is set."""

    mood: WakestreamError | None = None

    async def append(self, facts: Sequence[f.OutboxFact]) -> None:
        await asyncio.sleep(0)
        if self.mood is not None:
            raise self.mood
        await super().append(facts)


class Jobs:
    """In the place of the client, its hub and its workers: its jobs say what the test wants."""

    def __init__(self) -> None:
        self.hub, self.workers = self, self
        self.farewells: list[tuple[str, bool]] = []
        self.worker = FakeWorker()
        self.shown: dict[str, Callable[[e.JobEvent], Any]] = {}
        self.futures: dict[str, asyncio.Future[Any]] = {}
        self.cancelled: list[str] = []
        self.moves: list[tuple[str, str, int]] = []
        self.orders: list[Order] = []
        self.resumed: list[tuple[str, str, str]] = []
        self.on_released: Callable[[str], object] = lambda _: None

    def resume(self, job: e.Job, url: str, task_id: str) -> None:
        self.resumed.append((job.id, url, task_id))

    def start(self, job: e.Job, show: Callable[[e.JobEvent], Any]) -> asyncio.Future[Any]:
        self.shown[job.id] = show
        self.futures[job.id] = asyncio.get_running_loop().create_future()
        return self.futures[job.id]

    def end_job(self, job: str, *, cancelled: bool) -> None:
        self.farewells.append((job, cancelled))

    def at(self, _: str) -> FakeWorker:
        return self.worker

    def move(self, job: str, before: str, priority: int) -> bool:
        self.moves.append((job, before, priority))
        return job in self.futures

    def arrange(self, order: Order) -> bool:
        self.orders.append(order)
        return True

    def cancel(self, job: str) -> bool:
        self.cancelled.append(job)
        return job in self.shown


class Desk:
    def __init__(self, *facts: f.OutboxFact) -> None:
        self.journal, self.jobs, self.ended = Moody(), Jobs(), list[str]()
        self.state = outbox.DECIDER.recover(facts)
        self.feed = EventFeed("boot")
        self.outbox = Outbox(self.journal, self.state, self.feed, self.ended.append, now=lambda: 5.0)

    def serving(self) -> Any:
        return self.outbox.serving(cast("Client", self.jobs))

    async def submit(self, job: str = "a") -> f.Answer:
        """Returns when the job has been started, if it was taken."""
        answer = await self.outbox.submit(
            submitting(0, job, {"video": LOOK, "audio": LOOK}, {"video": f"/out/{job}.mp4"})
        )
        if answer.status == 201:
            await self.begun(job)
        return answer

    async def begun(self, *jobs: str) -> None:
        """Returns when these jobs have been started."""
        await until(lambda: self.jobs.shown.keys() >= {*jobs})

    @asynccontextmanager
    async def hears(self, kind: str) -> AsyncIterator[None]:
        """After the block, returns when the pages have got this."""
        with self.feed.follow(None, lambda: None) as listener:
            yield
            while (item := await listener.next()) is not None and item.kind != kind:
                pass


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with desk.serving():
        yield desk


async def test_a_job_is_stored_before_the_reply_and_its_end_before_it_is_sent(desk: Desk) -> None:
    assert (await desk.submit()).status == 201
    assert [type(fact) for fact in desk.journal.read()] == [f.JobAccepted]
    async with desk.hears("failed"):
        desk.jobs.shown["a"](e.Failed("no"))
        assert desk.ended == []
    assert isinstance(desk.journal.read()[-1], f.JobEnded)
    assert desk.ended == ["a"]


async def test_with_a_full_disk_a_job_is_refused_and_forgotten_and_the_next_is_taken_when_there_is_room(
    desk: Desk,
) -> None:
    desk.journal.mood = NoSpace("the disk is full")
    answer = await desk.submit()
    assert (answer.status, answer.code, answer.reason) == (507, "no_space", "the disk is full")
    assert desk.state == OutboxState()
    assert desk.jobs.shown == {}
    desk.journal.mood = None
    assert (await desk.submit()).status == 201
    assert list(outbox.DECIDER.recover(desk.journal.read()).jobs) == ["a"]


async def test_jobs_refused_on_a_full_disk_are_not_stored_later(desk: Desk) -> None:
    desk.journal.mood = NoSpace("the disk is full")
    for number in range(20):
        assert (await desk.submit(f"job-{number}")).status == 507
    desk.journal.mood = None
    await desk.submit("a")
    assert [(type(fact), fact.job) for fact in desk.journal.read()] == [(f.JobAccepted, "a")]


async def test_an_old_job_that_made_room_for_a_refused_one_of_its_name_stays_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decider_runner, "RETRY_AFTER", 0.0)
    before = [fact for job in "xy" for fact in (taken(job), f.JobEnded(job, "failed", at=1.0))]
    desk = Desk(*before)
    desk.state.ended_most = 2
    async with desk.serving():
        desk.journal.mood = NoSpace("the disk is full")
        answers = await asyncio.gather(desk.submit("a"), desk.submit("x"))
        assert [answer.status for answer in answers] == [507, 507]
        desk.journal.mood = None
        await desk.submit("b")
        kept = outbox.DECIDER.recover([*before, *desk.journal.read()])
        assert (list(kept.jobs), list(desk.state.jobs)) == (["y", "b"], ["y", "b"])


async def test_a_job_that_was_to_follow_one_that_found_no_space_ends(desk: Desk) -> None:
    async def refused() -> f.Answer:
        answer = await desk.submit("a")
        desk.journal.mood = None
        return answer

    async def follows() -> f.Answer:
        await asyncio.sleep(0)  # "a" is being written
        return await desk.outbox.submit(submitting(0, "b", {"text": LOOK}, {"out": "/out/b"}, "copy", after=("a",)))

    desk.journal.mood = NoSpace("the disk is full")
    answers = await asyncio.gather(refused(), follows())
    assert [answer.status for answer in answers] == [507, 201]
    await desk.outbox.runner.settled()
    assert desk.ended == ["b"]
    ended = desk.state.jobs["b"].ended
    assert ended is not None
    assert ended.why == "job a, whose result it needs, failed: the disk is full"


async def test_an_end_is_sent_once_the_full_disk_has_space(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_runner, "RETRY_AFTER", 0.01)
    complaints = list[str]()
    listening = logger.add(lambda line: complaints.append(str(line)), level="ERROR")
    await desk.submit()
    desk.journal.mood = NoSpace("the disk is full")
    desk.jobs.shown["a"](e.Done(Path("/out/a.mp4"), 3))
    async with desk.hears("done"):
        assert (await desk.outbox.cancel("a")).status in (202, 409)
        assert (desk.ended, "done" in {item.kind for item in desk.feed._recent}) == ([], False)
        for _ in range(3):
            assert (await desk.submit("b")).status == 507
        logger.remove(listening)
        assert len(complaints) == 1
        desk.journal.mood = None
    assert outbox.DECIDER.recover(desk.journal.read()) == desk.state
    assert desk.state.jobs["a"].state == "done"


async def test_the_log_tells_of_each_job_that_it_was_taken_and_how_it_ended() -> None:
    desk = Desk()
    with logged("DEBUG", "{level} {extra[job]} {message}") as lines:
        ends = {
            "a": e.Done(Path("/out/a.mp4"), 3),
            "b": e.Failed("it broke", "task_failed"),
            "c": e.TimedOut("online", 60),
            "d": e.Cancelled(),
        }
        async with desk.serving():
            for job, end in ends.items():
                await desk.submit(job)
                async with desk.hears(kind(end)):
                    desk.jobs.shown[job](end)
    assert lines == [
        "INFO a accepted, for /out/a.mp4",
        "INFO a done: /out/a.mp4 (3 bytes)",
        "INFO b accepted, for /out/b.mp4",
        "WARNING b failed (task_failed): it broke",
        "INFO c accepted, for /out/c.mp4",
        "WARNING c timed out in online: nothing within 60 s",
        "INFO d accepted, for /out/d.mp4",
        "INFO d cancelled: cancelled by the user",
    ]


async def until_it_ends(desk: Desk, fault: Callable[[], object], asked: list[asyncio.Task[f.Answer]]) -> None:
    """Serve, with a job that is submitted after the fault, until the program ends by itself."""
    async with desk.serving():
        await desk.submit()
        fault()
        asked.append(asyncio.create_task(desk.submit("b")))
        await asyncio.Event().wait()


@pytest.mark.parametrize("fault", ["broken", "ZeroDivisionError"])
async def test_a_broken_journal_or_an_internal_error_ends_the_program_and_all_pending_replies(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def breaks(*_: Any) -> None:
        raise ZeroDivisionError

    desk, asked = Desk(), list[asyncio.Task[f.Answer]]()
    faults = {
        "broken": lambda: setattr(desk.journal, "mood", JournalError("broken")),
        "ZeroDivisionError": lambda: monkeypatch.setattr(outbox.DECIDER, "step", breaks),
    }
    with pytest.raises(JournalError, match=fault):
        await until_it_ends(desk, faults[fault], asked)
    assert (await asked[0]).status == 503
    assert (await desk.submit("c")).status == 503


async def test_a_job_that_fails_to_start_fails_alone(desk: Desk) -> None:
    start = desk.jobs.start

    def breaks(job: e.Job, show: Callable[[e.JobEvent], Any]) -> asyncio.Future[Any]:
        return start(job, show) if job.id != "a" else cast("asyncio.Future[Any]", 1 // 0)

    desk.jobs.start = breaks  # type: ignore[method-assign]
    async with desk.hears("failed"):
        await desk.outbox.submit(submitting(0, "a", {"video": LOOK, "audio": LOOK}, {"video": "/out/a.mp4"}))
    ended = desk.state.jobs["a"].ended
    assert ended is not None
    assert ended.code == "internal"
    await desk.submit("b")


async def test_requests_during_the_stop_are_answered() -> None:
    desk = Desk()
    async with desk.serving():
        asked = asyncio.create_task(desk.submit())
        await asyncio.sleep(0)
    assert (await asked).status == 503
    assert (await desk.submit()).status == 503


async def test_an_exception_in_a_pipeline_fails_the_job(desk: Desk) -> None:
    await desk.submit()
    async with desk.hears("failed"):
        desk.jobs.futures["a"].set_exception(ValueError("oops"))
    ended = desk.state.jobs["a"].ended
    assert ended is not None
    assert (ended.code, "oops" in ended.why) == ("internal", True)


async def test_many_at_once_share_their_commits(desk: Desk) -> None:
    appended: list[int] = []
    append = desk.journal.append

    async def counted(facts: Sequence[f.OutboxFact]) -> None:
        appended.append(len(facts))
        await append(facts)

    desk.journal.append = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(*(desk.submit(f"job-{n}") for n in range(400)))
    assert {answer.status for answer in answers} == {201}
    assert sum(appended) == 400
    assert len(appended) < 10


BEFORE = (
    taken("a"),
    f.JobStage("a", "render", 2.0, "http://gpu:8383", "task-1"),
)


async def test_cancelling_a_job_of_an_earlier_run_releases_it_at_its_worker() -> None:
    desk = Desk(*BEFORE)
    async with desk.serving():
        await desk.begun("a")
        assert [(job, task) for job, _, task in desk.jobs.resumed] == [("a", "task-1")]
        async with desk.hears("cancelled"):
            assert (await desk.outbox.cancel("a")).status == 202
            assert desk.jobs.cancelled == ["a"]
            desk.jobs.shown["a"](e.Cancelled())
        assert desk.jobs.farewells == []  # its pipeline tells the hub
        await until(lambda: desk.jobs.worker.said("cancel") == ["task-1"])


async def test_a_job_in_cancellation_is_not_run_again() -> None:
    desk = Desk(*BEFORE, f.JobCancelling("a", 3.0))
    async with desk.serving(), desk.hears("cancelled"):
        pass
    assert desk.jobs.shown == {}
    assert (desk.jobs.farewells, desk.jobs.worker.said("cancel")) == ([("a", True)], ["task-1"])


@pytest.mark.parametrize("when", ["before the restart", "after it"])
async def test_partial_downloads_of_an_earlier_run_are_removed_on_cancel(tmp_path: Path, when: str) -> None:
    other, outputs = tmp_path / "other.mp4", {"video": tmp_path / "out.mp4", "log": tmp_path / "log.txt"}
    parts = [beside(output, "task-1") for output in outputs.values()]
    for path in (other, *parts, *(part.with_name(f"{part.name}.json") for part in parts)):
        path.write_bytes(b"half")
    named = {name: str(path) for name, path in outputs.items()}
    inputs = {"first": f.FileStat("/in/a.mp4", 1, 1)}
    taken = f.JobAccepted("a", "", "", named["video"], 0, 0, 0, 0, "join", 0, 1.0, inputs=inputs, outputs=named)
    before = [f.JobCancelling("a", 3.0)] if when == "before the restart" else []
    desk = Desk(taken, BEFORE[1], *before)
    async with desk.serving():
        async with desk.hears("cancelled"):
            if not before:
                await desk.begun("a")
                await desk.outbox.cancel("a")
                desk.jobs.shown["a"](e.Cancelled())
        await until(lambda: desk.jobs.worker.said("cancel"))
    assert list(tmp_path.iterdir()) == [other]


async def test_a_confirmed_end_is_not_sent_again_after_a_restart() -> None:
    desk = Desk(*BEFORE, f.JobEnded("a", "done", 3.0))
    async with desk.serving():
        await until(lambda: desk.jobs.farewells)
        desk.jobs.on_released("a")
        await until(desk.journal.read)
    assert list(desk.journal.read()) == [f.ReleaseConfirmed("a", 5.0)]
    again = Desk(*BEFORE, f.JobEnded("a", "done", 3.0), *desk.journal.read())
    async with again.serving():
        await again.submit("b")
    assert again.jobs.farewells == []


@pytest.mark.parametrize("written", [1, 2, 3, 4])
async def test_a_daemon_that_was_killed_runs_a_job_again_or_says_its_release_wherever_that_was(written: int) -> None:
    downloads = f.JobStage("a", "download", 3.0, "http://gpu:8383", "task-1")
    desk = Desk(*(*BEFORE, downloads, f.JobEnded("a", "done", 4.0))[:written])
    async with desk.serving():
        if written < 4:  # its pipeline releases it; the result may be there already
            await desk.begun("a")
            assert desk.jobs.farewells == []
        else:
            await until(lambda: desk.jobs.farewells == [("a", False)])
            assert desk.jobs.shown == {}


async def test_a_waiting_job_is_cancelled_before_its_start() -> None:
    desk = Desk(*BEFORE)
    async with desk.serving(), desk.hears("cancelled"):
        assert (await desk.outbox.cancel("a")).status == 202
    assert desk.state.jobs["a"].state == "cancelled"
    assert ("a", True) in desk.jobs.farewells


async def test_a_webhook_is_sent_after_its_fact_is_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_runner, "RETRY_AFTER", 0.01)
    desk.state.webhook = True
    told: list[WebhookOwed] = []
    desk.outbox.on_webhook = told.append
    await desk.submit()
    desk.journal.mood = NoSpace("the disk is full")
    desk.jobs.shown["a"](e.Failed("no"))
    async with desk.hears("failed"):
        assert (await desk.outbox.cancel("a")).status in (202, 409)
        assert told == []
        desk.journal.mood = None
    (owed,) = told
    assert list(outbox.DECIDER.recover(desk.journal.read()).pending.values()) == [owed]
    desk.outbox.report_webhook(WebhookSettled(owed.delivery))
    await until(lambda: not desk.state.pending)


async def test_a_move_is_stored_before_the_answer_and_told_to_the_pipelines_and_the_pages(desk: Desk) -> None:
    told = list[str]()
    desk.outbox.on_moved = told.append
    for job in "abc":
        await desk.submit(job)
    answer = await desk.outbox.move("c", "b")
    assert (answer.status, desk.jobs.moves, told) == (200, [("c", "b", 0)], ["c"])
    assert desk.journal.read()[-1] == f.JobMoved("c", "b", 0, 5.0)
    assert (await desk.outbox.move("a", first=True)).status == 200
    assert (await desk.outbox.move("b")).status == 200
    assert desk.jobs.moves[1:] == [("a", "c", 0), ("b", "", 0)]
    desk.jobs.shown["a"](e.Submitted(e.Online("http://gpu"), "task-1"))
    await desk.outbox.cancel("b")
    answers = [await desk.outbox.move(job, first=True) for job in ("a", "b", "x")]
    assert [(one.status, one.code) for one in answers] == [
        (409, "not_movable"), (409, "not_movable"), (404, "unknown_job"),
    ]  # fmt: skip
    assert (len(desk.jobs.moves), told) == (3, ["c", "a", "b"])


async def test_two_pages_that_move_at_once_leave_one_order(desk: Desk) -> None:
    for job in "abcd":
        await desk.submit(job)
    moves = (("d", "a"), ("a", "d"), ("c", "a"), ("d", ""))
    answers = await asyncio.gather(*(desk.outbox.move(*move) for move in moves))
    assert {one.status for one in answers} == {200}
    assert desk.state.in_turn() == ["c", "a", "b", "d"]
    assert outbox.DECIDER.recover(desk.journal.read()).in_turn() == ["c", "a", "b", "d"]


async def test_a_moved_job_that_starts_later_gets_its_place_then() -> None:
    waits = replace(taken("later"), after=("a",))
    desk = Desk(taken("a"), taken("b"), waits, taken("c"), f.JobMoved("later", "b", 3, 1.0))
    assert desk.state.in_turn() == ["later", "a", "b", "c"]
    async with desk.serving():
        await desk.begun("a", "b", "c")
        assert (desk.jobs.moves, desk.jobs.orders) == ([], [Order(("a", "b", "c"), (0, 0, 0))])
        desk.jobs.shown["a"](e.Done(Path("/out/a.mp4"), 3))
        await desk.begun("later")
        assert desk.jobs.moves == [("later", "b", 3)]


@pytest.mark.parametrize("restart", [True, False])
async def test_a_job_of_a_chain_keeps_its_place_behind_the_job_that_it_waits_for(restart: bool) -> None:
    chain, moved = (taken("a"), replace(taken("b"), after=("a",)), taken("d"), taken("c")), f.JobMoved("d", "c", 0, 1.0)
    desk = Desk(*chain, moved) if restart else Desk(*chain)
    async with desk.serving():
        await desk.begun("a", "c", "d")
        if not restart:
            await desk.outbox.move("d", "c")
        desk.jobs.moves.clear()
        desk.jobs.shown["a"](e.Done(Path("/out/a.mp4"), 3))
        await desk.begun("b")
        assert desk.jobs.moves == [("b", "d", 0)]


async def test_a_chain_that_is_submitted_after_a_move_keeps_its_place_too(desk: Desk) -> None:
    await desk.submit("a")
    await desk.submit("d")
    await desk.outbox.move("d", "a")
    held = submitting(0, "b", {"video": LOOK, "audio": LOOK}, {"video": "/out/b.mp4"}, after=("a",))
    assert (await desk.outbox.submit(held)).status == 201
    await desk.submit("c")
    desk.jobs.moves.clear()
    desk.jobs.shown["a"](e.Done(Path("/out/a.mp4"), 3))
    await desk.begun("b")
    assert desk.jobs.moves == [("b", "c", 0)]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_of_two_thousand_jobs_the_order_is_told_once_when_all_have_started(when: str) -> None:
    jobs = [f"job-{n}" for n in range(2000)]
    facts: list[f.OutboxFact] = [taken(job) for job in jobs]
    moves: list[f.OutboxFact] = [f.JobMoved(job, jobs[n + 1], 0, 1.0) for n, job in enumerate(jobs[:50])]
    desk = Desk(*facts, *(moves if when == "before" else ()))
    async with desk.serving():
        if when == "meanwhile":
            await desk.begun(jobs[0])
            assert jobs[-1] not in desk.jobs.shown
            for job, first in ((jobs[0], False), (jobs[1000], True), (jobs[-1], True)):
                assert (await desk.outbox.move(job, first=first)).status == 200
        await desk.begun(*jobs)
        assert desk.jobs.moves == []
        assert desk.jobs.orders == [Order(tuple(desk.state.in_turn()), (0,) * len(jobs))]
        await desk.outbox.move(jobs[7], jobs[3])
        assert (desk.jobs.moves, len(desk.jobs.orders)) == ([(jobs[7], jobs[3], 0)], 1)


async def test_with_a_full_disk_a_move_happens_and_is_stored_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_runner, "RETRY_AFTER", 0.0)
    for job in "ab":
        await desk.submit(job)
    desk.journal.mood = NoSpace("the disk is full")
    assert (await desk.outbox.move("b", first=True)).status == 200
    assert desk.jobs.moves == [("b", "a", 0)]
    desk.journal.mood = None
    await desk.submit("c")
    assert outbox.DECIDER.recover(desk.journal.read()).in_turn() == ["b", "a", "c"]
