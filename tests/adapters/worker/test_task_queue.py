"""The queue at work with an engine that does as the test says, on a temporary disk."""

import asyncio
import errno
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from tests.support.engines.pair import PairEngine
from tests.support.programs.queue_bench import QueueBench
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker import task_queue
from wakestream.adapters.worker.http import replies
from wakestream.operators.model.engine import Frame, Line, Waits
from wakestream.operators.model.errors import NoSpace, TaskFailed, WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import shares
from wakestream.streams.worker import state as w


class HandEngine(PairEngine):
    """Renders when the test lets it: `go` opens the gate, `fail` is what it dies of, `alive` counts its programs.

    It says what is in `says`, the first at once.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fail: Exception | None = None
        self.alive = 0
        self.runs = 0
        self.says: list[Frame | Line] = [Frame(1, 2, 50.0)]

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame | Line, None]:
        self.alive += 1
        self.runs += 1
        try:
            yield self.says.pop(0) if self.says else Frame(1, 2, 50.0)
            await self.go.wait()
            while self.says:
                self.go.clear()
                yield self.says.pop(0)
                await self.go.wait()
            if self.fail:
                raise self.fail
            output.write_bytes(video.read_bytes() + audio.read_bytes())
        finally:
            self.alive -= 1


class Bench(QueueBench):
    """A queue with an engine that the test holds in its hand."""

    def __init__(self, root: Path, journal: FakeJournal[w.Kept] | None = None) -> None:
        self.root = root
        self.engine = HandEngine()
        super().__init__(root, self.engine, journal)

    def put(self, number: int) -> tuple[FileRef, FileRef]:
        video, audio = FileRef(f"{number:032x}", ".mp4"), FileRef(f"{number:032x}", ".wav")
        self.store.path(video).write_bytes(b"video %d" % number)
        self.store.path(audio).write_bytes(b"audio")
        return video, audio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench, None]:
    bench = Bench(tmp_path)
    async with bench.ready():
        yield bench


@pytest.fixture
def free(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free bytes of the disk, which the queue looks at all the time."""
    found = [1000]
    monkeypatch.setattr(bench.store, "free", lambda: found[0])
    monkeypatch.setattr(task_queue, "FULL", 0)
    monkeypatch.setattr(task_queue, "LOOK_EVERY", 0.01)
    return found


async def test_a_task_runs_to_a_result_with_its_size_and_digest(bench: Bench) -> None:
    task = await bench.queue.ask(w.pair(*bench.put(1)))
    await bench.until(lambda: bench.queue.state.tasks[task.id].progress.percent == 50.0)
    bench.engine.go.set()
    done = await bench.status(task, "done", "failed")
    assert (done.status, done.size) == ("done", len(b"video 1audio"))
    assert len(done.digest or "") == 64
    assert bench.store.result(task.id).read_bytes() == b"video 1audio"


async def test_a_wait_in_the_engines_own_queue_is_reported_with_its_place(bench: Bench) -> None:
    def seen() -> tuple[object, ...]:
        told = replies.report(bench.queue.state, bench.queue.state.tasks[task.id])
        return told["status"], told["queue_position"], told["message"]

    bench.engine.says = [Waits("the work waits for 0 s: 2 before it", 2), Line("the wait is over"), Frame(1, 4, 25.0)]
    task = await bench.queue.ask(w.pair(*bench.put(1)))
    await bench.until(lambda: seen() == ("queued", 2, "the work waits for 0 s: 2 before it"))
    bench.engine.go.set()
    await bench.until(lambda: seen() == ("processing", 0, "the engine is at work"))
    bench.engine.go.set()
    await bench.until(lambda: seen()[0] == "synthesizing")
    bench.engine.go.set()
    await bench.status(task, "done")
    assert bench.queue.state.waits == {}


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (TaskFailed("the audio file holds no sound"), "the audio file holds no sound"),
        (TaskFailed("cannot read caf\udce9.mp4"), "cannot read caf?.mp4"),
        (ZeroDivisionError("secret details"), "the engine broke (ZeroDivisionError): the worker's log says more"),
    ],
)
async def test_a_failure_says_why_in_text_without_secrets_and_the_next_task_runs(
    bench: Bench, fail: Exception, why: str
) -> None:
    bench.engine.fail = fail
    tasks = [await bench.queue.ask(w.pair(*bench.put(number))) for number in (1, 2)]
    bench.engine.go.set()
    assert [(await bench.status(task, "failed")).error for task in tasks] == [why, why]


async def test_a_failure_tells_the_last_lines_of_the_engines_log(bench: Bench) -> None:
    bench.engine.says = [*(Line(f"line {number}") for number in range(7)), Line("no CUDA device")]
    bench.engine.fail = TaskFailed("the model failed: no CUDA device")
    task = await bench.queue.ask(w.pair(*bench.put(1)))
    while (now := bench.queue.state.tasks[task.id]).status != "failed":
        bench.engine.go.set()
        await asyncio.sleep(0)
    assert now.error == "the model failed: no CUDA device; its log: line 3 | line 4 | line 5 | line 6"


async def test_cancelling_kills_the_engine_and_the_next_task_runs(bench: Bench) -> None:
    first = await bench.queue.ask(w.pair(*bench.put(1)), "a")
    second = await bench.queue.ask(w.pair(*bench.put(2)), "b")
    await bench.until(lambda: bench.engine.alive == 1)
    assert (await bench.queue.drop(first.id, "a")).status == "cancelled"
    await bench.until(lambda: bench.queue.state.tasks[second.id].progress.percent == 50.0)
    assert (bench.engine.alive, bench.engine.runs) == (1, 2)


async def test_a_cancel_right_after_the_start_is_not_lost(bench: Bench) -> None:
    task = await bench.queue.ask(w.pair(*bench.put(1)), "a")
    await bench.queue.drop(task.id, "a")
    await bench.until(lambda: not bench.queue.state.busy)
    assert bench.engine.alive == 0
    assert bench.queue.state.tasks[task.id].status == "cancelled"


async def test_what_runs_is_listed_first_then_what_waits_and_then_what_has_ended(bench: Bench) -> None:
    tasks = [await bench.queue.ask(w.pair(*bench.put(number)), "job") for number in range(4)]
    await bench.queue.drop(tasks[2].id, "job")
    await bench.until(lambda: bench.queue.state.tasks[tasks[0].id].progress.percent)
    queue = replies.queue_listing(bench.queue.state)
    listed = [(one["task_id"], one["status"], one["queue_position"]) for one in queue["tasks"]]
    said = [("synthesizing", 0), ("queued", 1), ("queued", 2), ("error", 0)]
    assert listed == [(tasks[number].id, *told) for number, told in zip((0, 1, 3, 2), said, strict=True)]
    assert (queue["running"], queue["queued"]) == (tasks[0].id, 2)


async def test_a_missing_file_is_named(bench: Bench) -> None:
    video, audio = bench.put(1)
    bench.store.path(audio).unlink()
    task = await bench.queue.ask(w.pair(video, audio))
    assert "audio file is no longer here" in ((await bench.status(task, "cancelled")).error or "")


@pytest.mark.parametrize(
    "error",
    [
        NoSpace("the disk is full"),
        OSError(errno.ENOSPC, "No space left on device"),
        TaskFailed("the engine failed: av_interleaved_write_frame(): No space left on device"),
    ],
)
async def test_a_render_that_meets_a_full_disk_pauses_the_queue_and_keeps_its_place(
    bench: Bench, error: Exception, free: list[int]
) -> None:
    bench.engine.fail = error
    tasks = [await bench.queue.ask(w.pair(*bench.put(number)), "job") for number in (1, 2)]
    await bench.until(lambda: bench.engine.runs == 1)
    free[0] = 10
    bench.engine.go.set()
    await bench.until(lambda: bench.queue.state.halted is not None)
    assert bench.queue.state.halted is not None
    assert bench.queue.state.halted.word == "paused"
    assert [bench.queue.state.tasks[task.id].status for task in tasks] == ["queued", "queued"]
    assert shares.position(bench.queue.state, tasks[0].id) == 1
    bench.engine.fail, free[0] = None, 990
    assert [(await bench.status(task, "done", "failed")).status for task in tasks] == ["done", "done"]
    assert bench.queue.state.halt is None


async def test_a_task_that_fills_the_disk_itself_stops_no_other_task(bench: Bench, free: list[int]) -> None:
    bench.engine.fail = NoSpace("the disk is full")
    large, small = [await bench.queue.ask(w.pair(*bench.put(number)), "job") for number in (1, 2)]
    await bench.until(lambda: bench.engine.runs == 1)
    bench.engine.go.set()
    await bench.until(lambda: large.id in bench.queue.state.short)
    bench.engine.fail = None
    assert (await bench.status(small, "done")).status == "done"
    assert bench.queue.state.tasks[large.id].status == "queued"
    assert bench.queue.state.halt is not None
    free[0] = 2000
    assert (await bench.status(large, "done")).status == "done"


async def test_tasks_survive_a_restart(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    await before.queue.ready()
    running = await before.queue.ask(w.pair(*before.put(1)), "a")
    waiting = await before.queue.ask(w.pair(*before.put(2)), "b")
    await before.until(lambda: before.engine.alive == 1)
    await before.close()
    assert before.engine.alive == 0

    after = Bench(tmp_path, before.journal)
    assert tuple(shares.turns(after.queue.state)) == (running.id, waiting.id)
    assert after.queue.state.tasks[waiting.id].holders == {"b"}
    after.engine.go.set()
    await after.queue.ready()
    assert (await after.status(waiting, "done", "failed")).status == "done"
    await after.close()

    last = Bench(tmp_path, before.journal)
    assert {task.status for task in last.queue.state.tasks.values()} == {"done"}
    last.store.result(running.id).unlink()
    await last.close()
    assert set(Bench(tmp_path, before.journal).queue.state.tasks) == {waiting.id}


async def test_a_removed_result_is_made_again(bench: Bench) -> None:
    bench.engine.go.set()
    pair = bench.put(1)
    task = await bench.queue.ask(w.pair(*pair))
    await bench.status(task, "done")
    bench.store.result(task.id).unlink()
    assert (await bench.queue.ask(w.pair(*pair))).attempt == 2
    await bench.status(task, "done")
    assert bench.store.result(task.id).is_file()


async def test_an_old_result_that_goes_as_it_is_asked_for_is_made_again_and_cannot_be_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.engine.go.set()
    first, second = [await bench.queue.ask(w.pair(*bench.put(number)), "a") for number in (1, 2)]
    await bench.status(second, "done")
    monkeypatch.setattr(shares, "MAX_FINISHED", 0)
    monkeypatch.setattr(shares, "PROMISED", -1.0)
    with pytest.raises(WorkerRefused, match="no task"):
        await bench.queue.drop(second.id, "a")
    assert bench.queue.state.tasks == {}
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    await bench.status(await bench.queue.ask(first.spec, "a"), "done")
    monkeypatch.setattr(shares, "MAX_FINISHED", 0)
    assert (await bench.queue.ask(first.spec, "b", "another license")).holders == {"b"}


async def test_a_submit_that_cannot_be_stored_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(facts: object) -> None:
        raise NoSpace("the disk is full: make room")

    monkeypatch.setattr(bench.journal, "append", full)
    with pytest.raises(NoSpace):
        await bench.queue.ask(w.pair(*bench.put(1)))
    assert bench.queue.state.tasks == {}
    assert bench.engine.runs == 0


async def test_a_result_that_was_whole_when_the_worker_was_killed_is_not_made_again(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    await before.queue.ready()
    task = await before.queue.ask(w.pair(*before.put(1)), "a")
    await before.until(lambda: before.engine.alive == 1)
    await before.close()  # as far as the journal knows it runs
    before.store.result(task.id).write_bytes(b"rendered")

    after = Bench(tmp_path, before.journal)
    await after.queue.ready()
    done = await after.status(task, "done", "failed")
    assert (done.status, done.size, after.engine.runs) == ("done", len(b"rendered"), 0)
    await after.close()


async def test_an_unstored_end_is_checked_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Bench(tmp_path)
    await before.queue.ready()
    task = await before.queue.ask(w.pair(*before.put(1)), "a")
    keep = before.journal.append

    async def full(facts: Sequence[w.Kept]) -> None:
        if any(isinstance(fact, w.Changed) and fact.task.status == "done" for fact in facts):
            raise NoSpace("the disk is full: make room")
        await keep(facts)

    monkeypatch.setattr(before.journal, "append", full)
    before.engine.go.set()
    assert (await before.status(task, "done", "failed")).status == "done"
    await before.close()
    monkeypatch.undo()

    after = Bench(tmp_path, before.journal)
    assert after.queue.state.tasks[task.id].status == "queued"
    await after.queue.ready()
    assert (await after.status(task, "done", "failed")).status == "done"
    assert (before.engine.runs, after.engine.runs) == (1, 0)
    await after.close()
